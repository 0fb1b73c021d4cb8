import { rmSync } from 'node:fs'
import { afterAll } from 'vitest'
import { fileDirectory } from '../cache.js'

// run directories hold vmcores: a hundred megabytes each
afterAll(() => {
  if (!process.env.KERNELCRAFT_TEST_KEEP) rmSync(fileDirectory(), { recursive: true, force: true })
})
