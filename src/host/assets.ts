import { existsSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Absolute path of a file of KernelCraft that is not TypeScript, by its path under src/
 * (`config/fragments/base/tiny.config`). The bundle has the same tree in dist/assets.
 */
export function asset(path: string): string {
  const shipped = join(import.meta.dirname, '..', 'assets')
  return join(existsSync(shipped) ? shipped : join(import.meta.dirname, '..'), path)
}
