import { existsSync } from 'node:fs'
import { asset } from '../host/assets.js'

/** Path of a configuration fragment that ships with KernelCraft. */
export const bundledPath = (name: string): string => asset(`config/fragments/${name}.config`)

/** True if `name` is a fragment that ships with KernelCraft (`test`, `kvm-host`). */
export function isBundled(name: string): boolean {
  return /^[\w-]+$/.test(name) && existsSync(bundledPath(name))
}
