import { join } from 'node:path'
import { expect, it } from 'vitest'
import { ROOT } from '../kc.js'
import { walk } from '../readme.js'

it("every example of KernelCraft's README works, and the document shows what was seen", async () => {
  await expect(await walk()).toMatchFileSnapshot(join(ROOT, 'docs', 'kernelcraft-readme.md'))
})
