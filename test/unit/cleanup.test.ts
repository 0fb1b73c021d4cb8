import { expect, it } from 'vitest'
import { cleanupStack } from '../../src/host/cleanup.js'

it('does what was deferred last first, all of it once, and throws the first error', async () => {
  const done: string[] = []
  const cleanup = cleanupStack()
  cleanup.defer(() => void done.push('first'))
  cleanup.defer(async () => {
    done.push('second')
    throw new Error('of the second')
  })
  cleanup.defer(() => {
    done.push('third')
    throw new Error('of the third')
  })
  await expect(cleanup.run()).rejects.toThrow('of the third')
  expect(done).toEqual(['third', 'second', 'first'])
  await cleanup.run()
  expect(done).toHaveLength(3)
})
