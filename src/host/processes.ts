import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { setTimeout as pause } from 'node:timers/promises'
import { execa, type ResultPromise } from 'execa'
import { Cancelled } from '../errors.js'
import { childEnvironment, type EnvironmentKind } from './environment.js'
import { signal } from './proc.js'

export interface Command {
  file: string
  args: readonly string[]
  cwd?: string
  /** variables beside the ones that may be inherited */
  env?: NodeJS.ProcessEnv
  environment?: EnvironmentKind
  /** seconds until the process group is ended; default one hour */
  deadline?: number
  /** ends the process group; the call then throws Cancelled */
  cancel?: AbortSignal
  input?: string
  /** stdin is a pipe that nothing is written to and that ends with us; otherwise it is empty */
  holdInput?: boolean
  /** bytes that are kept of the end of each stream; default 1 MiB */
  keep?: number
  /** called with each line of stdout or stderr, without its newline */
  onLine?: (line: string, stream: 'stdout' | 'stderr') => void
  /** called with each raw piece of output */
  onData?: (chunk: Buffer) => void
}

export interface Finished {
  /** exit status, or undefined if a signal ended it or it did not start */
  status?: number
  /** name of the signal that ended it */
  signal?: string
  /** the end of each stream, see `keep` */
  stdout: string
  stderr: string
  timedOut: boolean
  /** set if the program could not be started, e.g. ENOENT */
  startError?: string
}

const KEEP = 2 ** 20
const GRACE_MS = 2000

/**
 * Ends a whole process group: SIGTERM, two seconds, SIGKILL (kill(2) with a negative PID).
 * Returns when the group is empty or has had its SIGKILL.
 */
export async function killGroup(pgid: number, graceMs = GRACE_MS): Promise<void> {
  signal(-pgid, 'SIGTERM')
  const end = Date.now() + graceMs
  while (Date.now() < end) {
    if (!signal(-pgid, 0)) return
    await pause(25)
  }
  signal(-pgid, 'SIGKILL')
}

/**
 * Starts a watcher that outlives us: when our end of its pipe closes, for whatever reason, SIGKILL
 * included, it ends the process group. Returns a function that dismisses it.
 */
export function guardGroup(pgid: number): () => void {
  const script =
    'read -r word; [ "$word" = dismissed ] && exit 0; kill -s TERM -- "-$1"; sleep 2; kill -s KILL -- "-$1"'
  const guard = spawn('/bin/sh', ['-c', script, 'kernelcraft-guard', String(pgid)], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
    env: childEnvironment('plain'),
  })
  guard.on('error', () => {})
  guard.stdin.on('error', () => {})
  guard.unref()
  // a pipe's handle keeps the event loop alive unless told otherwise
  ;(guard.stdin as unknown as { unref?: () => void }).unref?.()
  return () => {
    guard.stdin.end('dismissed\n')
  }
}

function splitLines(stream: Readable, each: (line: string) => void): void {
  let rest = ''
  stream.on('data', (chunk: Buffer) => {
    const pieces = (rest + chunk.toString('utf8')).split(/\r?\n/)
    rest = (pieces.pop() ?? '').slice(-KEEP)
    for (const line of pieces) each(line)
  })
  stream.on('end', () => {
    if (rest) each(rest)
  })
}

function keepTail(stream: Readable, keep = KEEP): () => string {
  let kept: Buffer[] = []
  let size = 0
  stream.on('data', (chunk: Buffer) => {
    kept.push(chunk)
    size += chunk.length
    if (size > 2 * keep) {
      const joined = Buffer.concat(kept).subarray(-keep)
      kept = [joined]
      size = joined.length
    }
  })
  return () => Buffer.concat(kept).subarray(-keep).toString('utf8')
}

/**
 * Runs a program to its end in a process group of its own, with a deadline, without a shell.
 * A non-zero status is returned, not thrown; only cancellation throws.
 */
export async function run(command: Command): Promise<Finished> {
  const { cancel } = command
  if (cancel?.aborted) throw new Cancelled(String(cancel.reason))
  const child: ResultPromise<{ buffer: false; reject: false }> = execa(command.file, [...command.args], {
    cwd: command.cwd ?? '/',
    env: childEnvironment(command.environment ?? 'plain', command.env),
    extendEnv: false,
    detached: true,
    buffer: false,
    reject: false,
    stripFinalNewline: false,
    ...(command.input === undefined
      ? { stdin: command.holdInput ? ('pipe' as const) : ('ignore' as const) }
      : { input: command.input }),
  })
  const { pid } = child
  const stdout = child.stdout ? keepTail(child.stdout, command.keep) : () => ''
  const stderr = child.stderr ? keepTail(child.stderr, command.keep) : () => ''
  for (const name of ['stdout', 'stderr'] as const) {
    const stream = child[name]
    if (!stream) continue
    if (command.onData) stream.on('data', command.onData)
    if (command.onLine) splitLines(stream, line => command.onLine?.(line, name))
  }

  let timedOut = false
  let ending: Promise<void> | undefined
  const end = () => {
    if (pid !== undefined) ending ??= killGroup(pid)
  }
  const timer = setTimeout(
    () => {
      timedOut = true
      end()
    },
    (command.deadline ?? 3600) * 1000,
  )
  cancel?.addEventListener('abort', end, { once: true })
  const dismiss = pid === undefined ? () => {} : guardGroup(pid)
  try {
    const result = await child
    await ending
    if (cancel?.aborted) throw new Cancelled(String(cancel.reason))
    return {
      status: result.exitCode,
      signal: result.signal,
      stdout: stdout(),
      stderr: stderr(),
      timedOut,
      startError: pid === undefined ? (result.code ?? result.shortMessage ?? 'unknown error') : undefined,
    }
  } finally {
    clearTimeout(timer)
    cancel?.removeEventListener('abort', end)
    dismiss()
  }
}

/** One sentence for how a program ended. */
export function describeEnd(file: string, end: Finished): string {
  if (end.startError) return `${file} could not be started (${end.startError})`
  if (end.timedOut) return `${file} did not finish in time`
  if (end.signal) return `${file} was ended by ${end.signal}`
  return `${file} ended with status ${end.status}`
}

/** The last lines of a text that are not empty. */
export function lastLines(text: string, count: number): string[] {
  return text
    .split(/\r?\n/)
    .filter(line => line.trim() !== '')
    .slice(-count)
}
