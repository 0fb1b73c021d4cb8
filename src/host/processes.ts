import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { setTimeout as pause } from 'node:timers/promises'
import { execa, type ResultPromise } from 'execa'
import { Cancelled } from '../errors.js'
import { childEnvironment, type EnvironmentKind } from './environment.js'
import { signal } from './proc.js'

export interface Command {
  file: string
  args: readonly string[]
  cwd?: string
  /** variables in addition to the inherited ones */
  env?: NodeJS.ProcessEnv
  environment?: EnvironmentKind
  /** seconds until the process group is killed; default one hour */
  deadline?: number
  /** kills the process group; the call then throws Cancelled */
  cancel?: AbortSignal
  input?: string
  /** stdin is a pipe that nothing is written to and that is closed when this process ends; otherwise it is empty */
  holdInput?: boolean
  /** bytes to keep of the end of each stream; default 1 MiB */
  keep?: number
  /** called with each line of stdout or stderr, without its newline */
  onLine?: (line: string, stream: 'stdout' | 'stderr') => void
  /** called with each chunk of output, of both streams */
  onData?: (chunk: Buffer) => void
}

export interface Finished {
  /** exit status; undefined if a signal ended it or it did not start */
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
const DEADLINE_SECONDS = 3600

/**
 * Kills a whole process group: SIGTERM, then SIGKILL after two seconds (kill(2) with a negative PID).
 * Returns when the group is empty or SIGKILL was sent.
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
 * Starts a guard process that outlives this one: when this process ends, in whatever way, the guard's stdin closes and
 * it kills the process group. Returns a function that ends the guard.
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
  // a pipe's handle keeps the event loop alive by default
  ;(guard.stdin as unknown as { unref?: () => void }).unref?.()
  return () => {
    guard.stdin.end('dismissed\n')
  }
}

function splitLines(stream: Readable, each: (line: string) => void): void {
  // a chunk may end within a character
  const decoder = new StringDecoder('utf8')
  let rest = ''
  stream.on('data', (chunk: Buffer) => {
    const pieces = (rest + decoder.write(chunk)).split(/\r?\n/)
    rest = (pieces.pop() ?? '').slice(-KEEP)
    for (const line of pieces) each(line)
  })
  stream.on('end', () => {
    rest += decoder.end()
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
  const { cancel, deadline = DEADLINE_SECONDS } = command
  if (cancel?.aborted) throw new Cancelled(String(cancel.reason))
  const child = start(command)
  const { pid } = child
  const output = collectOutput(child, command)
  const group = pid === undefined ? undefined : superviseGroup(pid, deadline, cancel)
  try {
    const result = await child
    await group?.killed()
    if (cancel?.aborted) throw new Cancelled(String(cancel.reason))
    return {
      status: result.exitCode,
      signal: result.signal,
      ...output(),
      timedOut: group?.timedOut() ?? false,
      startError: pid === undefined ? (result.code ?? result.shortMessage ?? 'unknown error') : undefined,
    }
  } finally {
    group?.release()
  }
}

type Child = ResultPromise<{ buffer: false; reject: false }>

function start({ file, args, cwd = '/', environment = 'plain', env, input, holdInput }: Command): Child {
  return execa(file, [...args], {
    cwd,
    env: childEnvironment(environment, env),
    extendEnv: false,
    detached: true,
    buffer: false,
    reject: false,
    stripFinalNewline: false,
    ...(input === undefined ? { stdin: holdInput ? ('pipe' as const) : ('ignore' as const) } : { input }),
  })
}

/** Passes a child's output to the command's callbacks. Returns a function with the end of each stream. */
function collectOutput(child: Child, { keep, onLine, onData }: Command): () => Record<OutputName, string> {
  const collect = (name: OutputName) => {
    const stream = child[name]
    if (!stream) return () => ''
    const tail = keepTail(stream, keep)
    if (onData) stream.on('data', onData)
    if (onLine) splitLines(stream, line => onLine(line, name))
    return tail
  }
  const [stdout, stderr] = [collect('stdout'), collect('stderr')]
  return () => ({ stdout: stdout(), stderr: stderr() })
}

type OutputName = 'stdout' | 'stderr'

/** Kills a process group at its deadline, when it is cancelled, and when this process ends, until it is released. */
function superviseGroup(pgid: number, deadlineSeconds: number, cancel?: AbortSignal) {
  let timedOut = false
  let killing: Promise<void> | undefined
  const kill = () => {
    killing ??= killGroup(pgid)
  }
  const timer = setTimeout(() => {
    timedOut = true
    kill()
  }, deadlineSeconds * 1000)
  cancel?.addEventListener('abort', kill, { once: true })
  const dismissGuard = guardGroup(pgid)
  return {
    timedOut: () => timedOut,
    /** resolves when a kill that has begun is done */
    killed: async () => await killing,
    release() {
      clearTimeout(timer)
      cancel?.removeEventListener('abort', kill)
      dismissGuard()
    },
  }
}

/** How a program ended, as the begin of a sentence. */
export function describeEnd(file: string, end: Finished): string {
  if (end.startError) return `${file} could not be started (${end.startError})`
  if (end.timedOut) return `${file} did not finish in time`
  if (end.signal) return `${file} was ended by ${end.signal}`
  return `${file} exited with status ${end.status}`
}

/** The last `count` lines of a text that are not empty. */
export function lastLines(text: string, count: number): string[] {
  return text
    .split(/\r?\n/)
    .filter(line => line.trim() !== '')
    .slice(-count)
}
