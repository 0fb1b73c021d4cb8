import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Result } from '../src/result.js'

export const ROOT = resolve(import.meta.dirname, '..')
export const KC = join(ROOT, 'dist', 'kc', 'index.js')
export const CACHE = process.env.KERNELCRAFT_CACHE ?? join(homedir(), '.cache', 'kernelcraft')
/** Files of tests that a guest has to see: /tmp is not part of the snapshot. */
export const SCRATCH = join(CACHE, 'test')

export function scratch(name: string): string {
  const path = join(SCRATCH, `${name}-${process.pid}`)
  rmSync(path, { recursive: true, force: true })
  mkdirSync(path, { recursive: true })
  return path
}

export interface Ended {
  status: number | null
  signal: NodeJS.Signals | null
  stdout: Buffer
  stderr: string
  /** undefined where no run took place */
  result?: Result
  runDirectory?: string
}

export interface Started {
  pid: number
  ended: Promise<Ended>
  /** resolves when the text has appeared on stderr */
  saw(text: string): Promise<void>
}

/** Starts the real kc of dist/. */
export function startKc(
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Started {
  const child = spawn(process.execPath, [KC, ...args], {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const stdout: Buffer[] = []
  let stderr = ''
  const waiting: { text: string; found: () => void }[] = []
  child.stdout.on('data', chunk => stdout.push(chunk))
  child.stderr.on('data', chunk => {
    stderr += chunk
    for (const { text, found } of waiting) if (stderr.includes(text)) found()
  })
  const ended = new Promise<Ended>(done => {
    child.on('close', (status, signal) => {
      const runDirectory = /^\s*results: (.*)$/m.exec(stderr)?.[1]
      let result: Result | undefined
      try {
        result = JSON.parse(readFileSync(join(runDirectory ?? '', 'result.json'), 'utf8'))
      } catch {
        // killed before it could write one
      }
      done({ status, signal, stdout: Buffer.concat(stdout), stderr, result, runDirectory })
    })
  })
  return {
    pid: child.pid ?? 0,
    ended,
    saw: text =>
      new Promise((found, reject) => {
        if (stderr.includes(text)) return found()
        waiting.push({ text, found })
        ended.then(end => reject(new Error(`ended without "${text}": ${end.stderr}`)))
      }),
  }
}

export async function kc(
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Promise<Ended> {
  return await startKc(args, options).ended
}

/** The kernel that all e2e tests boot: the distribution's 6.12 with the test, ubsan and kvm-host fragments, and two modules. */
export const KERNEL = [
  ...['-r', 'distro', '-c', '6.12', '-f', 'test', '-f', 'ubsan', '-f', 'kvm-host'],
  ...['--configitem', 'CONFIG_DUMMY=m', '--configitem', 'CONFIG_KUNIT_EXAMPLE_TEST=m'],
] as const

/** Boots the kernel that global-setup built. */
export async function guest(
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Promise<Ended> {
  return await kc([...KERNEL, '-s', '--accel', 'tcg', ...args], options)
}

/** Makes a cache directly below CACHE that has kernels of its own, and shares what is the same for all of them. */
export function shareRooms(cache: string, ...more: string[]): void {
  mkdirSync(cache, { recursive: true })
  for (const room of ['ccache', 'trees', 'venv', 'kvm', 'crash', ...more]) {
    mkdirSync(join(CACHE, room), { recursive: true })
    if (!existsSync(join(cache, room))) symlinkSync(join('..', room), join(cache, room))
  }
}

/** Kernels of other configurations have a cache of their own, so that each stays built. */
export const KASAN_CACHE = join(CACHE, 'kasan')
export const SMALL_CONFIG = join(ROOT, 'test', 'fixtures', 'small.config')
/** Words of a 6.12 that is compiled quickly. */
export const SMALL_KERNEL = ['-r', 'distro', '-c', '6.12', '-f', 'test', '-f', SMALL_CONFIG] as const
export const KASAN_KERNEL = [
  ...['-r', 'distro', '-c', '6.12', '-f', 'test', '-f', 'kasan', '-f', 'lockdep', '-f', 'kmemleak'],
  ...['-f', 'numa', '-f', SMALL_CONFIG],
] as const
/** 9p of that version needs INET. */
export const OLD_KERNEL = [
  ...['-r', 'distro', '-c', '6.1', '-f', 'test', '-f', SMALL_CONFIG, '--configitem', 'CONFIG_INET=y'],
] as const

/** A root file system of arm64 that global-setup made, and the kernel for it, whose virtio is on MMIO. */
export const ARM64_ROOT = join(CACHE, 'test', 'arm64-root')
export const ARM64_KERNEL = [
  ...SMALL_KERNEL,
  ...['--configitem', 'CONFIG_VIRTIO_MMIO=y', '--arch', 'arm64', '--root', ARM64_ROOT],
] as const

/** Boots the arm64 kernel that global-setup built. */
export async function arm64Guest(args: readonly string[]): Promise<Ended> {
  return await kc([...ARM64_KERNEL, '-s', ...args])
}

/** Boots the kernel with KASAN and lockdep that global-setup built. */
export async function kasanGuest(args: readonly string[]): Promise<Ended> {
  return await kc([...KASAN_KERNEL, '-s', '--accel', 'tcg', ...args], {
    env: { KERNELCRAFT_CACHE: KASAN_CACHE },
  })
}

/** Boots the 6.1 kernel that global-setup built. */
export async function oldGuest(args: readonly string[]): Promise<Ended> {
  return await kc([...OLD_KERNEL, '-s', '--accel', 'tcg', ...args])
}
