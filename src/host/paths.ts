import { homedir } from 'node:os'
import { join } from 'node:path'

/**
 * The cache directory, with all that can be created again: trees, work directories, ccache, run directories, and the
 * virtual environment of virtme-ng. `KERNELCRAFT_CACHE` sets another one.
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

/** A path in one of the cache's directories. */
export function cachePath(name: CacheDirectory, ...rest: string[]): string {
  return join(cacheRoot(), name, ...rest)
}
