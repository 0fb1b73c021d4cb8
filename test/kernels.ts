import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ArchName } from '../src/arch.js'
import { flagOf, optionsOf, type RawOptions } from '../src/request/options.js'
import { repositoryName } from '../src/source/workspace.js'
import { fileDirectory, KC, linkShared, locked, ROOT, TEST_CACHE } from './cache.js'
import { runKc } from './process.js'
import { rootFor } from './roots.js'

/**
 * The kernels that the tests boot: Debian's 6.12 unless it says otherwise, each in a configuration that is no larger than
 * what its tests need. Debug information only where a vmcore is opened or a stack is shown with its lines.
 */
const DISTRO = { release: 'distro', ref: '6.12' }
const TINY = { ...DISTRO, 'config-base': 'tiny', 'debug-info': 'none' }
/** What is compiled once gains nothing from ccache, which costs a seventh of a build that it has nothing of. */
const ONCE = { ccache: 'false' }
const EXAMPLE_MODULE = 'CONFIG_KUNIT_EXAMPLE_TEST=m'

/** What ccache stores beside its own directory when the tiny kernel is compiled, for the tests of caches. */
export const CCACHE_STORAGE = join(TEST_CACHE, 'ccache-storage')

export const KERNELS = {
  /** boots quickest: streams, terminals, options, caches, build hosts */
  tiny: {
    ...TINY,
    config: ['test'],
    'config-items': [EXAMPLE_MODULE],
    'ccache-remote': `file:${CCACHE_STORAGE}`,
  },
  /** the default configuration, with debug information: faults, vmcores, modules, devices, namespaces */
  minimal: {
    ...DISTRO,
    config: ['test', 'ubsan'],
    'config-items': ['CONFIG_DUMMY=m', EXAMPLE_MODULE],
    ...ONCE,
  },
  kasan: { ...TINY, ...ONCE, config: ['test', 'kasan', 'lockdep', 'kmemleak', 'numa'] },
  arm64: { ...TINY, ...ONCE, 'debug-info': 'full', config: ['test'], arch: 'arm64' },
  riscv64: { ...TINY, ...ONCE, config: ['test'], arch: 'riscv64' },
  s390x: { ...TINY, ...ONCE, config: ['test'], arch: 's390x' },
  ppc64el: { ...TINY, ...ONCE, 'debug-info': 'full', config: ['test'], arch: 'ppc64el' },
  /** for nightly tests */
  kvm: { ...DISTRO, ...ONCE, config: ['test', 'kvm-host'], 'debug-info': 'none' },
  old: { ...TINY, ref: '6.1', 'debug-info': 'full', config: ['test'] },
} as const satisfies Record<string, RawOptions>

export type KernelName = keyof typeof KERNELS

/** Where a kernel is built and kept, and how long that took. */
interface BuiltKernel {
  cache: string
  seconds: number
}

const directoryOf = (name: KernelName) => join(TEST_CACHE, 'kernels', name)
const stampOf = (name: KernelName) => join(directoryOf(name), 'stamp.json')

/** All kernels that were built here, with the seconds that each build took. */
export function buildTimes(): [name: string, seconds: number][] {
  return (Object.keys(KERNELS) as KernelName[])
    .filter(name => existsSync(stampOf(name)))
    .map(name => [name, JSON.parse(readFileSync(stampOf(name), 'utf8')).seconds])
}

/** Changes with everything of the product, and of this table, that a kernel follows from. */
function identityOf(name: KernelName): string {
  const hash = createHash('sha256').update(JSON.stringify(KERNELS[name]))
  const fragments = join(ROOT, 'dist', 'assets', 'config', 'fragments')
  const files = readdirSync(fragments, { recursive: true, encoding: 'utf8' }).filter(file =>
    file.endsWith('.config'),
  )
  for (const file of [KC, ...files.sort().map(file => join(fragments, file))]) hash.update(readFileSync(file))
  return hash.digest('hex')
}

/** The options of a kernel as a user of kc types them. */
export function kernelWords(name: KernelName): string[] {
  const values: RawOptions = { ...KERNELS[name], ...rootOf(name) }
  return optionsOf('kc').flatMap(option => {
    const value = values[option.name]
    if (value === undefined) return []
    const flag = option.letter ? `-${option.letter}` : `--${flagOf(option)}`
    return (typeof value === 'string' ? [value] : value).flatMap(one => [flag, one])
  })
}

/** The same as inputs of the action. */
export function kernelInputs(name: KernelName): Record<string, string> {
  const values: RawOptions = { ...KERNELS[name], ...rootOf(name) }
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => [
      key,
      typeof value === 'string' ? value : (value ?? []).join('\n'),
    ]),
  )
}

const rootOf = (name: KernelName) => {
  const spec: RawOptions = KERNELS[name]
  return spec.arch === undefined ? {} : { root: rootFor.path(spec.arch as ArchName) }
}

/** Builds a kernel when the first test asks for it; one at a time, since make takes all CPUs. */
export async function buildKernel(name: KernelName): Promise<BuiltKernel> {
  const cache = directoryOf(name)
  const identity = identityOf(name)
  const current = () => {
    if (!existsSync(stampOf(name))) return undefined
    const stamp = JSON.parse(readFileSync(stampOf(name), 'utf8'))
    return stamp.identity === identity ? { cache, seconds: stamp.seconds as number } : undefined
  }
  const spec: RawOptions = KERNELS[name]
  if (spec.arch !== undefined) await rootFor(spec.arch as ArchName)
  return (
    current() ??
    (await locked('compile', async () => {
      const known = current()
      if (known) return known
      linkShared(cache)
      mkdirSync(CCACHE_STORAGE, { recursive: true })
      const start = Date.now()
      const end = await runKc([...kernelWords(name), '--accel', 'tcg', '-e', 'true'], {
        env: { KERNELCRAFT_CACHE: cache },
      })
      if (end.status !== 0) throw new Error(`The kernel ${name} of the tests: ${end.stderr}`)
      const seconds = Math.round((Date.now() - start) / 1000)
      // what was already built says nothing about how long a build takes
      const before = existsSync(stampOf(name)) ? JSON.parse(readFileSync(stampOf(name), 'utf8')).seconds : 0
      const took = end.result?.kernel?.cache?.hit ? before || seconds : seconds
      writeFileSync(stampOf(name), JSON.stringify({ identity, seconds: took }))
      return { cache, seconds: took }
    }))
  )
}

/**
 * A cache directory of this test file in which `--skip-build` boots that kernel, and in which it is found by its key.
 * What a test does there no other file sees.
 */
export function kernelFor(name: KernelName): Promise<string> {
  const make = async () => {
    const cache = linkShared(join(fileDirectory(), 'cache', name))
    await addKernel(name, cache)
    return cache
  }
  // several tests of a file may ask for it at the same time
  const cache = caches.get(name) ?? make()
  caches.set(name, cache)
  return cache
}

const caches = new Map<KernelName, Promise<string>>()

/** Puts a kernel of the tests into a cache directory. */
export async function addKernel(name: KernelName, cache: string): Promise<void> {
  const { cache: built } = await buildKernel(name)
  const [from, to] = [join(built, 'kernels'), join(cache, 'kernels')]
  mkdirSync(to, { recursive: true })
  for (const entry of readdirSync(from)) {
    // entries are never changed; records about them are this cache directory's own
    if (/^[0-9a-f]{64}$/.test(entry)) symlinkSync(join(from, entry), join(to, entry))
    else if (entry === 'configs') copyRecords(join(from, entry), join(to, entry), name => name)
    // named by the path of the repository, which is another one in each cache directory
    else if (entry === 'previous') copyRecords(join(from, entry), join(to, entry), renameRecord(built, cache))
  }
}

const distroIn = (cache: string) => repositoryName(join(cache, 'trees', 'distro.git'))
const renameRecord = (from: string, to: string) => (name: string) =>
  name.replace(`-${distroIn(from)}-`, `-${distroIn(to)}-`)

function copyRecords(from: string, to: string, rename: (name: string) => string): void {
  mkdirSync(to, { recursive: true })
  for (const name of readdirSync(from)) writeFileSync(join(to, rename(name)), readFileSync(join(from, name)))
}
