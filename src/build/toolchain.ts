import { realpath } from 'node:fs/promises'
import { InfraError } from '../errors.js'
import { hashFile, sha256 } from '../host/hash.js'
import { run } from '../host/processes.js'
import { installCommand, missingTools, which } from '../host/tools.js'

/** What compiles. */
export interface Toolchain {
  /** first line of the compiler's --version */
  compiler: string
  /** each tool that a kernel follows from: the first line of its --version, and a hash of the program itself */
  identity: Readonly<Record<string, string>>
}

/** What the image and the modules are called, by architecture. */
export const IMAGES = { x86_64: { target: 'bzImage', path: 'arch/x86/boot/bzImage' } } as const

async function firstLine(file: string): Promise<string> {
  const end = await run({ file, args: ['--version'], deadline: 60 })
  return end.stdout.split('\n', 1)[0]?.trim() ?? ''
}

/** Throws InfraError that names every missing tool and the one command that installs them. */
export async function requireTools(needs: Parameters<typeof missingTools>[0], what: string): Promise<void> {
  const missing = await missingTools(needs)
  if (missing.length === 0) return
  const command = await installCommand(missing)
  const names = missing.map(tool => tool.name).join(', ')
  throw new InfraError(
    `${what} needs ${names}, which ${missing.length > 1 ? 'are' : 'is'} not on this machine: ${command ? `run \`${command.join(' ')}\`` : 'install the packages of your distribution'} (or \`kc doctor --install\`).`,
  )
}

/** Tools that make the kernel, and those that Kconfig asks for their version (scripts/Kconfig.include, init/Kconfig). */
const TOOLS = ['gcc', 'as', 'ld', 'objcopy', 'pahole', 'rustc', 'bindgen'] as const

/**
 * A tool's version and hash; undefined where it is not installed. Of gcc the compiler proper is hashed as well: a
 * distribution's update may change it and leave driver and version as they were.
 */
async function identify(tool: string): Promise<{ version: string; hash: string } | undefined> {
  const path = await which(tool)
  if (!path) return undefined
  const programs = [path]
  if (tool === 'gcc')
    programs.push((await run({ file: path, args: ['-print-prog-name=cc1'], deadline: 60 })).stdout.trim())
  const [version, ...hashes] = await Promise.all([
    firstLine(path),
    ...programs.map(async program => await hashFile(await realpath(program).catch(() => program))),
  ])
  return { version: version ?? '', hash: sha256(JSON.stringify(hashes)).slice(0, 12) }
}

/** Finds out what this machine compiles with. Nothing is compiled. */
export async function findToolchain(): Promise<Toolchain> {
  const found = await Promise.all(TOOLS.map(async tool => [tool, await identify(tool)] as const))
  const there = found.flatMap(([tool, is]) => (is ? [[tool, is] as const] : []))
  return {
    compiler: there.find(([tool]) => tool === 'gcc')?.[1].version ?? '',
    identity: Object.fromEntries(there.map(([tool, { version, hash }]) => [tool, `${version} [${hash}]`])),
  }
}
