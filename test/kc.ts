import { join } from 'node:path'
import { fileDirectory, linkShared } from './cache.js'
import { type KernelName, kernelFor, kernelWords } from './kernels.js'
import { type Ended, type ProcessOptions, runKc, type Started, spawnKc } from './process.js'

export { DISTRO_REPOSITORY, DRGN, KC, ROOT, SHARED, scratch } from './cache.js'
export type { Ended, Started } from './process.js'

/** A cache directory of this test file without a kernel in it. */
export const emptyCache = (): string => linkShared(join(fileDirectory(), 'cache', 'none'))

const inCache = (cache: string, options: ProcessOptions): ProcessOptions => ({
  ...options,
  env: { KERNELCRAFT_CACHE: cache, ...options.env },
})

/** Runs kc in a cache directory of this test file, without a kernel. */
export const kc = async (args: readonly string[], options: ProcessOptions = {}): Promise<Ended> =>
  await runKc(args, inCache(emptyCache(), options))

export const startKc = (args: readonly string[], options: ProcessOptions = {}): Started =>
  spawnKc(args, inCache(emptyCache(), options))

export interface GuestOptions extends ProcessOptions {
  /** `tiny` if absent */
  kernel?: KernelName
}

/** The arguments that boot a kernel of the tests without building it. */
export const bootWords = (kernel: KernelName): string[] => [...kernelWords(kernel), '-s', '--accel', 'tcg']

/** Boots a kernel of the tests, and builds it before if it is not there. */
export async function guest(
  args: readonly string[],
  { kernel = 'tiny', ...options }: GuestOptions = {},
): Promise<Ended> {
  return await (await startGuest(args, { kernel, ...options })).ended
}

export async function startGuest(
  args: readonly string[],
  { kernel = 'tiny', ...options }: GuestOptions = {},
): Promise<Started> {
  const cache = await kernelFor(kernel)
  return spawnKc([...bootWords(kernel), ...args], inCache(cache, options))
}

/** Runs kc in the cache directory in which that kernel is, without `--skip-build`. */
export async function kcWith(
  kernel: KernelName,
  args: readonly string[],
  options: ProcessOptions = {},
): Promise<Ended> {
  return await runKc(args, inCache(await kernelFor(kernel), options))
}
