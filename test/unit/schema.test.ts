import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { CONFIG_BASES } from '../../src/request/options.js'
import { EXIT_STATUS } from '../../src/result.js'

const { properties } = JSON.parse(
  readFileSync(new URL('../../schema/result.schema.json', import.meta.url), 'utf8'),
)

it('the schema of result.json allows every verdict and every base of a configuration', () => {
  expect(properties.verdict.enum.toSorted()).toEqual(Object.keys(EXIT_STATUS).toSorted())
  expect(properties.kernel.properties.configBase.enum).toEqual([...CONFIG_BASES, 'file'])
})
