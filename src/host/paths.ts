import { homedir } from 'node:os'
import { join } from 'node:path'

/**
 * The directory in which everything that can be made again is kept: trees, work directories,
 * ccache, runs, the virtual environment of virtme-ng. `KERNELCRAFT_CACHE` moves it.
 */
export function cacheRoot(env: NodeJS.ProcessEnv = process.env): string {
  if (env.KERNELCRAFT_CACHE) return env.KERNELCRAFT_CACHE
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'kernelcraft')
}

export type CacheDirectory =
  | 'trees'
  | 'work'
  | 'build'
  | 'kernels'
  | 'modules'
  | 'ccache'
  | 'runs'
  | 'running'
  | 'venv'
  | 'kvm'
  | 'crash'

export function cachePath(room: CacheDirectory, ...rest: string[]): string {
  return join(cacheRoot(), room, ...rest)
}
