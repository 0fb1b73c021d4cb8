import { join } from 'node:path'
import { expect, it } from 'vitest'
import { ROOT } from '../kc.js'
import { walk } from './readme.js'

it("every example of KernelCraft's README works, and the document shows what was seen", async () => {
  const document = await walk()
  // one line is typed to be refused, and the document is no place for another one
  expect(document.match(/^\(status \d+\)$/gm)).toEqual(['(status 9)'])
  await expect(document).toMatchFileSnapshot(join(ROOT, 'docs', 'kernelcraft-readme.md'))
})
