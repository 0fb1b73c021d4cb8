import { constants, existsSync } from 'node:fs'
import {
  chmod,
  copyFile,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { archOf } from '../arch.js'
import { readJson } from '../host/files.js'
import { hashFile } from '../host/hash.js'
import { cachePath } from '../host/paths.js'
import { isAlive, type ProcessId, processId, uniqueSuffix } from '../host/proc.js'
import { describeEnd, run } from '../host/processes.js'
import type { BuiltKernel } from './build-kernel.js'
import type { CommitFacts } from './config-records.js'
import { type Identity, KERNEL_CACHE_FORMAT } from './identity.js'

/** The kernel cache of this machine: one directory for each kernel, named by its key. */

/** One file of an entry; `path` is relative to it. */
interface StoredFile {
  path: string
  bytes: number
  sha256: string
}

/** manifest.json of an entry. */
export interface Manifest {
  /** KERNEL_CACHE_FORMAT of the version that wrote it */
  layout: number
  key: string
  identity: Identity
  commit: CommitFacts
  kernel: Pick<BuiltKernel, 'arch' | 'release' | 'configHash' | 'compiler' | 'builtOn' | 'vmlinuxHash'>
  /** when it was built, ISO 8601 */
  made: string
  files: StoredFile[]
}

/** Names within an entry. `kdir.tar` holds what external modules are built against. */
const NAMES = {
  manifest: 'manifest.json',
  image: 'image',
  vmlinux: 'vmlinux',
  config: 'config',
  modules: 'modules',
  kernelBuildDir: 'kdir.tar',
} as const

/**
 * Paths in a build directory that a later `make M=` needs beside the source (Documentation/kbuild/modules.rst):
 * configuration, generated headers, symbol versions, and the host programs that were built.
 */
const KERNEL_BUILD_DIR = [
  '.config',
  'Makefile',
  'Module.symvers',
  'System.map',
  'include',
  'scripts',
  'tools/objtool/objtool',
  'tools/bpf/resolve_btfids/resolve_btfids',
  'certs/signing_key.pem',
  'certs/signing_key.x509',
]

/** Paths in a build directory that external modules are built against; not every kernel has all of them. */
export const kernelBuildDirPaths = (linux: string): string[] => [...KERNEL_BUILD_DIR, `arch/${linux}/include`]

const isKey = (name: string) => /^[0-9a-f]{64}$/.test(name)

export const entryPath = (key: string, ...rest: string[]) => cachePath('kernels', key, ...rest)

function kernelOf({ key, kernel, files, identity }: Manifest): BuiltKernel {
  const directory = entryPath(key)
  return {
    ...kernel,
    image: join(directory, NAMES.image),
    vmlinux: join(directory, NAMES.vmlinux),
    ...(files.some(({ path }) => path.startsWith(`${NAMES.modules}/`))
      ? { modules: join(directory, NAMES.modules) }
      : {}),
    ...(identity.modules ? { kernelBuildDir: { archive: join(directory, NAMES.kernelBuildDir) } } : {}),
    reused: true,
  }
}

async function readManifest(key: string): Promise<Manifest | undefined> {
  const manifest = await readJson<Manifest>(entryPath(key, NAMES.manifest))
  return manifest?.layout === KERNEL_CACHE_FORMAT && manifest.key === key ? manifest : undefined
}

/** The first file of an entry whose hash is not the manifest's; undefined if there is none. */
async function firstDamaged({ key, files }: Manifest): Promise<string | undefined> {
  const checked = await Promise.all(
    files.map(async ({ path, sha256 }) => ((await hashFile(entryPath(key, path))) === sha256 ? '' : path)),
  )
  return checked.find(path => path !== '')
}

/**
 * The kernel of this key, each of its files verified by hash; undefined if there is none. A damaged entry is
 * removed, with a warning. The entry that is returned is held: it is not pruned until this process has ended.
 */
export async function findKernel(
  key: string,
  warn: (message: string) => void,
): Promise<BuiltKernel | undefined> {
  const manifest = await readManifest(key)
  if (!manifest) return undefined
  await holdKernel(key)
  const damaged = await firstDamaged(manifest)
  if (damaged !== undefined) {
    warn(
      `The cached kernel ${key.slice(0, 12)} is damaged (${damaged} is not what was stored); it is built again.`,
    )
    await rm(entryPath(key), { recursive: true, force: true })
    return undefined
  }
  const now = new Date()
  await utimes(entryPath(key, NAMES.manifest), now, now).catch(() => {})
  return kernelOf(manifest)
}

async function copyInto(directory: string, kernel: BuiltKernel, out: string): Promise<void> {
  const copy = (from: string, name: string) =>
    copyFile(from, join(directory, name), constants.COPYFILE_FICLONE)
  await Promise.all([
    copy(kernel.image, NAMES.image),
    existsSync(kernel.vmlinux) ? copy(kernel.vmlinux, NAMES.vmlinux) : undefined,
    copy(join(out, '.config'), NAMES.config),
    kernel.modules
      ? cp(kernel.modules, join(directory, NAMES.modules), {
          recursive: true,
          mode: constants.COPYFILE_FICLONE,
          // `build` and `source` point into a directory that is not part of the kernel
          filter: source => !/\/lib\/modules\/[^/]+\/(?:build|source)$/.test(source),
        })
      : undefined,
    kernel.kernelBuildDir && 'archive' in kernel.kernelBuildDir
      ? copy(kernel.kernelBuildDir.archive, NAMES.kernelBuildDir)
      : packKernelBuildDir(join(directory, NAMES.kernelBuildDir), out, archOf(kernel.arch).linux),
  ])
  await chmod(join(directory, NAMES.image), 0o644)
}

async function packKernelBuildDir(file: string, out: string, linux: string): Promise<void> {
  const paths = kernelBuildDirPaths(linux).filter(path => existsSync(join(out, path)))
  const end = await run({
    file: 'tar',
    // compiled objects of host programs are of no use to a module
    args: ['-C', out, '--exclude=*.o', '--exclude=*.o.cmd', '-cf', file, '--', ...paths],
    deadline: 120,
  })
  if (end.status !== 0) throw new Error(describeEnd('tar', end))
}

/**
 * Copies a kernel that was just built into the cache and returns it from there, held. `out` is its build directory.
 * Several processes may store the same kernel at once: an entry is renamed into place when it is complete.
 */
export async function storeKernel(
  key: string,
  built: { kernel: BuiltKernel; out: string; identity: Identity; commit: CommitFacts },
): Promise<BuiltKernel> {
  const { kernel, out, identity, commit } = built
  const complete = await storedWithVmlinux(key, kernel)
  if (complete) return complete
  await mkdir(cachePath('kernels'), { recursive: true })
  const draft = await mkdtemp(cachePath('kernels', 'draft-'))
  try {
    await copyInto(draft, kernel, out)
    const { arch, release, configHash, compiler, builtOn, vmlinuxHash, ccache } = kernel
    const manifest: Manifest = {
      ...{ layout: KERNEL_CACHE_FORMAT, key, identity, commit, made: new Date().toISOString() },
      kernel: {
        ...{ arch, release, configHash, compiler },
        ...(builtOn === undefined ? {} : { builtOn, vmlinuxHash }),
      },
      files: await listFiles(draft),
    }
    await writeFile(join(draft, NAMES.manifest), JSON.stringify(manifest))
    await rm(entryPath(key), { recursive: true, force: true })
    await rename(draft, entryPath(key))
    await holdKernel(key)
    return { ...kernelOf(manifest), reused: false, ...(ccache ? { ccache } : {}) }
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
}

/**
 * The entry of this key, if it has a vmlinux and the kernel that was just built has none: it is not replaced by one whose
 * vmlinux is on a build host.
 */
async function storedWithVmlinux(key: string, kernel: BuiltKernel): Promise<BuiltKernel | undefined> {
  if (existsSync(kernel.vmlinux)) return undefined
  const stored = await findKernel(key, () => {})
  if (!stored || !existsSync(stored.vmlinux)) return undefined
  const { builtOn, ccache } = kernel
  return { ...stored, reused: false, ...(builtOn ? { builtOn } : {}), ...(ccache ? { ccache } : {}) }
}

async function listFiles(directory: string): Promise<StoredFile[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const paths = entries
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name).slice(directory.length + 1))
  return await Promise.all(
    paths.sort().map(async path => {
      const { size: bytes } = await stat(join(directory, path))
      return { path, bytes, sha256: (await hashFile(join(directory, path))) ?? '' }
    }),
  )
}

/** A directory with a file for each process that uses an entry. */
const holdersPath = (key: string) => cachePath('kernels', 'held', key)

/** Records that this process uses an entry, so that it is not pruned while a guest runs it. */
export async function holdKernel(key: string): Promise<void> {
  await mkdir(holdersPath(key), { recursive: true })
  await writeFile(join(holdersPath(key), uniqueSuffix()), JSON.stringify(processId(process.pid)))
}

async function isHeld(key: string): Promise<boolean> {
  let held = false
  for (const name of await readdir(holdersPath(key)).catch(() => [])) {
    const path = join(holdersPath(key), name)
    const owner = await readJson<ProcessId>(path)
    if (owner && isAlive(owner)) held = true
    else await rm(path, { force: true })
  }
  return held
}

/** An entry as `kc cache` lists it. */
export interface KernelCacheEntry {
  manifest: Manifest
  bytes: number
  /** when it was stored or used last */
  used: Date
}

/** All entries, the most recently used first. */
export async function listKernels(): Promise<KernelCacheEntry[]> {
  const names = (await readdir(cachePath('kernels')).catch(() => [])).filter(isKey)
  const entries = await Promise.all(
    names.map(async key => {
      const manifest = await readManifest(key)
      const info = await stat(entryPath(key, NAMES.manifest)).catch(() => undefined)
      if (!manifest || !info) return []
      const bytes = manifest.files.reduce((sum, file) => sum + file.bytes, 0)
      return [{ manifest, bytes, used: info.mtime }]
    }),
  )
  return entries.flat().sort((a, b) => b.used.getTime() - a.used.getTime())
}

/**
 * Removes the least recently used entries until the rest fits into `maxBytes`, but none that a run holds; also what an
 * older version or a killed run left behind. Returns the entries that were removed.
 */
export async function pruneKernels(maxBytes: number): Promise<KernelCacheEntry[]> {
  const entries = await listKernels()
  const removed: KernelCacheEntry[] = []
  let total = 0
  for (const entry of entries) {
    total += entry.bytes
    const { key } = entry.manifest
    if (total <= maxBytes || (await isHeld(key))) continue
    await rm(entryPath(key), { recursive: true, force: true })
    await rm(holdersPath(key), { recursive: true, force: true })
    total -= entry.bytes
    removed.push(entry)
  }
  await removeLeftovers(new Set(entries.map(({ manifest }) => manifest.key)))
  return removed
}

const HOUR_MS = 3600_000

async function removeLeftovers(known: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(cachePath('kernels')).catch(() => [])) {
    const path = cachePath('kernels', name)
    // records of an earlier version are in `asked`
    const stale = isKey(name) ? !known.has(name) : name.startsWith('draft-') || name === 'asked'
    if (!stale) continue
    const info = await stat(path).catch(() => undefined)
    if (info && Date.now() - info.mtimeMs > HOUR_MS) await rm(path, { recursive: true, force: true })
  }
}
