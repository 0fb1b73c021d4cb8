import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { InfraError } from '../errors.js'
import { cachePath } from '../host/paths.js'
import { run } from '../host/processes.js'
import { installCommand, missingTools, which } from '../host/tools.js'
import type { Request } from '../request.js'

/** What compiles, and how a rebuild on another day or machine comes out the same. */
export interface Toolchain {
  /** first lines of the compiler's and the linker's --version */
  compiler: string
  linker: string
  /** variables for make's command line */
  makeArgs: readonly string[]
  env: Readonly<Record<string, string>>
  /** file to which ccache writes what became of each call; absent without ccache */
  statsLog?: string
}

/** What the image and the modules are called, by architecture. */
export const IMAGES = { x86_64: { target: 'bzImage', path: 'arch/x86/boot/bzImage' } } as const

async function firstLine(file: string): Promise<string> {
  const end = await run({ file, args: ['--version'], deadline: 60 })
  return end.stdout.split('\n', 1)[0]?.trim() ?? ''
}

/** The first line of the compiler's --version. */
export async function compilerIdentity(): Promise<string> {
  return await firstLine('gcc')
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

/**
 * ccache's settings are made for CI: the compiler is known by its contents, not by its time stamp, and neither the
 * work directory nor the time of the build is in what is hashed (ccache(1); the kernel's reproducible-builds.rst).
 */
export async function findToolchain(request: Request, workspace: string): Promise<Toolchain> {
  const ccache = request.ccache ? await which('ccache') : undefined
  const [compiler, linker] = await Promise.all([compilerIdentity(), firstLine('ld')])
  const env: Record<string, string> = {
    KBUILD_BUILD_TIMESTAMP: 'Thu Jan 1 00:00:00 UTC 1970',
    KBUILD_BUILD_USER: 'kernelcraft',
    KBUILD_BUILD_HOST: 'kernelcraft',
    // a builder's own settings would make another kernel of the same ref
    KBUILD_BUILD_VERSION: '1',
    LC_ALL: 'C',
  }
  const makeArgs = [`LOCALVERSION=${request.localversion}`]
  if (!ccache) return { compiler, linker, makeArgs, env }
  const directory = cachePath('ccache')
  const statsLog = join(workspace, 'ccache.log')
  await mkdir(directory, { recursive: true })
  return {
    compiler,
    linker,
    makeArgs: [...makeArgs, 'CC=ccache gcc', 'HOSTCC=ccache gcc'],
    env: {
      ...env,
      CCACHE_DIR: directory,
      CCACHE_COMPILERCHECK: 'content',
      CCACHE_NOHASHDIR: '1',
      CCACHE_BASEDIR: workspace,
      CCACHE_MAXSIZE: request.ccacheMaxSize.replace(/\s/g, ''),
      CCACHE_STATSLOG: statsLog,
    },
    statsLog,
  }
}

/** Hits and misses of one build out of ccache's stats log, one word a line (ccache(1), stats_log). */
export function countCcache(log: string): { hits: number; misses: number } {
  const words = log.split('\n')
  const count = (...names: string[]) => words.filter(word => names.includes(word)).length
  return { hits: count('direct_cache_hit', 'preprocessed_cache_hit'), misses: count('cache_miss') }
}
