import { realpath } from 'node:fs/promises'
import { type ArchName, archOf, crossPrefix } from '../arch.js'
import { hashFile, sha256 } from '../host/hash.js'
import { run } from '../host/processes.js'
import { which } from '../host/tools.js'

/** The tools that compile a kernel. */
export interface Toolchain {
  /** first line of the compiler's --version */
  compiler: string
  /** each tool that the kernel depends on: the first line of its --version, and a hash of the program itself */
  identity: Readonly<Record<string, string>>
}

async function firstLine(file: string): Promise<string> {
  const end = await run({ file, args: ['--version'], deadline: 60 })
  return end.stdout.split('\n', 1)[0]?.trim() ?? ''
}

/** make's arguments for the architecture and its compilers; `prefix` is that of the compilers' names where they run. */
export function toolArguments(arch: ArchName, ccache: boolean, prefix = crossPrefix(arch)): string[] {
  return [
    ...(prefix ? [`ARCH=${archOf(arch).linux}`, `CROSS_COMPILE=${prefix}`] : []),
    ...(ccache ? [`CC=ccache ${prefix}gcc`, 'HOSTCC=ccache gcc'] : []),
  ]
}

/** Tools that build the kernel, and those whose version Kconfig reads (scripts/Kconfig.include, init/Kconfig). */
export const TARGET_TOOLS = ['gcc', 'as', 'ld', 'objcopy'] as const
export const OTHER_TOOLS = ['pahole', 'rustc', 'bindgen'] as const

/**
 * A tool's version and hash; undefined where it is not installed. Of gcc the compiler proper is hashed as well: a
 * distribution's update may change it and leave driver and version as they were.
 */
async function identify(tool: string): Promise<{ version: string; hash: string } | undefined> {
  const path = await which(tool)
  if (!path) return undefined
  const programs = [path]
  if (tool.endsWith('gcc'))
    programs.push((await run({ file: path, args: ['-print-prog-name=cc1'], deadline: 60 })).stdout.trim())
  const [version, ...hashes] = await Promise.all([
    firstLine(path),
    ...programs.map(async program => await hashFile(await realpath(program).catch(() => program))),
  ])
  return { version: version ?? '', hash: sha256(JSON.stringify(hashes)).slice(0, 12) }
}

/** Finds this machine's tools for an architecture. Nothing is compiled. */
export async function findToolchain(arch: ArchName): Promise<Toolchain> {
  const prefix = crossPrefix(arch)
  const wanted = [
    ...TARGET_TOOLS.map(tool => [tool, prefix + tool] as const),
    ...OTHER_TOOLS.map(tool => [tool, tool] as const),
  ]
  const found = await Promise.all(
    wanted.map(async ([tool, program]) => [tool, await identify(program)] as const),
  )
  const installed = found.flatMap(([tool, is]) => (is ? [[tool, is] as const] : []))
  return {
    compiler: installed.find(([tool]) => tool === 'gcc')?.[1].version ?? '',
    identity: Object.fromEntries(
      installed.map(([tool, { version, hash }]) => [tool, `${version} [${hash}]`]),
    ),
  }
}
