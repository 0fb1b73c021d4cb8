import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { expect } from 'vitest'

export const ROOT = resolve(import.meta.dirname, '..')
export const KC = join(ROOT, 'dist', 'kc', 'index.js')

/** Everything that the tests keep. Nothing of the user's own cache directory is used or changed. */
export const TEST_CACHE = real(
  process.env.KERNELCRAFT_TEST_CACHE ??
    join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'kernelcraft-test'),
)

/** Links followed: a guest's working directory is compared with it. */
function real(path: string): string {
  mkdirSync(path, { recursive: true })
  return realpathSync(path)
}

/** A cache directory with what is the same for all tests: trees, virtme-ng, ccache, the KVM probe's result. */
export const SHARED = join(TEST_CACHE, 'shared')
const SHARED_DIRECTORIES = ['ccache', 'trees', 'venv', 'kvm', 'crash']

/** The distribution's kernel source, as `kc -r distro` keeps it. */
export const DISTRO_REPOSITORY = join(SHARED, 'trees', 'distro.git')
export const DRGN = join(SHARED, 'venv', 'bin', 'drgn')

/** Makes a cache directory of its own that shares what is the same for all tests. */
export function linkShared(cache: string, names: readonly string[] = SHARED_DIRECTORIES): string {
  mkdirSync(cache, { recursive: true })
  for (const name of names) {
    mkdirSync(join(SHARED, name), { recursive: true })
    if (!existsSync(join(cache, name))) symlinkSync(join(SHARED, name), join(cache, name))
  }
  return cache
}

const FILES = join(TEST_CACHE, 'files')

/** The directory of this test file: cache directories, scratch files. Removed when the file has ended. */
export function fileDirectory(): string {
  const path = expect.getState().testPath
  return join(FILES, `${basename(path ?? 'setup', '.test.ts')}-${process.pid}`)
}

/** An empty directory of this test file, visible to guests: /tmp is not part of the snapshot. */
export function scratch(name: string): string {
  const path = join(fileDirectory(), 'scratch', name)
  rmSync(path, { recursive: true, force: true })
  mkdirSync(path, { recursive: true })
  return path
}

/** Removes what files of tests have left that were killed. */
export function removeStaleFiles(): void {
  for (const name of existsSync(FILES) ? readdirSync(FILES) : []) {
    const pid = Number(name.split('-').at(-1))
    if (!existsSync(`/proc/${pid}`)) rmSync(join(FILES, name), { recursive: true, force: true })
  }
}

/**
 * Does work while it holds a lock that other processes wait for: flock(1) holds it for as long as its standard input is
 * open, so that it is free again however this process ends.
 */
export async function locked<T>(name: string, work: () => Promise<T>): Promise<T> {
  mkdirSync(join(TEST_CACHE, 'locks'), { recursive: true })
  const holder = spawn('flock', [join(TEST_CACHE, 'locks', name), 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  try {
    await firstOutput(holder)
    return await work()
  } finally {
    holder.stdin.end()
  }
}

const firstOutput = (child: ChildProcess) =>
  new Promise<void>((done, reject) => {
    child.once('error', reject)
    child.once('exit', status => reject(new Error(`flock exited with status ${status}`)))
    child.stdout?.once('data', () => done())
  })
