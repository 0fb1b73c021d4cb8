import { existsSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Path of a file that ships with KernelCraft and is not TypeScript, by its path under src/
 * (`config/fragments/common.config`). In dist/ the same tree lies in dist/assets.
 */
export function asset(path: string): string {
  const shipped = join(import.meta.dirname, '..', 'assets')
  return join(existsSync(shipped) ? shipped : join(import.meta.dirname, '..'), path)
}
