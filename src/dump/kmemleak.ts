import type { LoadedModule } from '../boot/outcome.js'
import { moduleFiles, symbolsOf } from './decode-stack.js'

/**
 * Resolves the addresses in a kmemleak report to the symbols of modules that were removed since, in the kernel's form:
 * `symbol+0xoffset/0xsize [module]`. `modules` has the addresses of their sections; `tree` is a directory with
 * lib/modules/RELEASE, where their files are. An address outside of all known sections stays as it is.
 */
export async function nameLeaks(
  lines: readonly string[],
  modules: Readonly<Record<string, LoadedModule>>,
  tree: string,
  cancel?: AbortSignal,
): Promise<string[]> {
  const files = await moduleFiles(tree)
  const sections = Object.entries(modules).flatMap(([module, { sections }]) =>
    Object.entries(sections).map(([section, address]) => ({ module, section, start: BigInt(address) })),
  )
  const tables = new Map(
    await Promise.all(
      Object.keys(modules).map(async module => {
        const file = files.get(module)
        return [module, file === undefined ? undefined : await symbolsOf(file, cancel)] as const
      }),
    ),
  )
  const symbolOf = (text: string): string | undefined => {
    const address = BigInt(text)
    for (const { module, section, start } of sections) {
      const name = start <= address ? tables.get(module)?.at(section, address - start) : undefined
      if (name) return `${name} [${module}]`
    }
    return undefined
  }
  return lines.map(line => line.replace(/0x[0-9a-f]{8,16}$/, text => symbolOf(text) ?? text))
}
