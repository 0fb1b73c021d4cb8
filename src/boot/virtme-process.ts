import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { appendFile } from 'node:fs/promises'
import type { Cleanup } from '../host/cleanup.js'
import { childEnvironment } from '../host/environment.js'
import { processId } from '../host/proc.js'
import { guardGroup, killGroup } from '../host/processes.js'
import { endProcesses, RUN_VARIABLE, registerGuest, unregisterGuest } from '../host/registry.js'
import type { Outcome } from './outcome.js'

/** virtme-run as a child process; it leads a process group of its own. */
export interface VirtmeProcess {
  pid: number
  /** undefined while it runs */
  readonly exit: Outcome['exit'] | undefined
  readonly exited: boolean
  /** fulfilled when `exit` is set */
  ended: Promise<void>
  /** time since its start */
  seconds(): number
}

/** What other processes may know of the guest, see registry.ts. */
export type Registration = Parameters<typeof registerGuest>[1]

/**
 * Starts virtme-run with its messages appended to `logFile`, guards and registers it. `cleanup` ends every process of the
 * guest. Returns undefined where it cannot be started; the error is then in `logFile`.
 */
export async function startVirtme(
  command: readonly string[],
  logFile: string,
  registration: Registration,
  cleanup: Cleanup,
): Promise<VirtmeProcess | undefined> {
  const log = openSync(logFile, 'a')
  cleanup.defer(() => closeSync(log))
  const [file = '', ...args] = command
  const started = performance.now()
  const child = spawn(file, args, {
    cwd: '/',
    env: childEnvironment('plain', { [RUN_VARIABLE]: registration.runDirectory, TERM: 'dumb' }),
    detached: true,
    // virtme-run opens its standard streams again by their names in /proc, which works on files only, not on the
    // sockets that Node uses as pipes
    stdio: ['ignore', log, log],
  })
  const { pid } = child
  if (pid === undefined) {
    const [error] = await once(child, 'error')
    await appendFile(logFile, `${error}\n`)
    return undefined
  }
  const virtme = followProcess(child, pid, started)
  guardProcess(pid, registration, cleanup)
  return virtme
}

function followProcess(child: ChildProcess, pid: number, started: number): VirtmeProcess {
  let exit: Outcome['exit'] | undefined
  const ended = once(child, 'exit').then(([status, signal]) => {
    exit = { status: status ?? undefined, signal: signal ?? undefined }
  })
  return {
    pid,
    get exit() {
      return exit
    },
    get exited() {
      return exit !== undefined
    },
    ended,
    seconds: () => (performance.now() - started) / 1000,
  }
}

/** Makes sure that the guest's processes end: by `cleanup`, after a crash of this process, and by a later run. */
function guardProcess(pid: number, registration: Registration, cleanup: Cleanup): void {
  const { runDirectory } = registration
  const leader = processId(pid)
  let dismissGuard = () => {}
  cleanup.defer(() => unregisterGuest(runDirectory))
  cleanup.defer(() => dismissGuard())
  cleanup.defer(() => reapProcesses(pid, runDirectory, leader))
  registerGuest(pid, registration)
  dismissGuard = guardGroup(pid)
}

async function reapProcesses(
  pid: number,
  runDirectory: string,
  leader: ReturnType<typeof processId>,
): Promise<void> {
  try {
    // virtme-run may end before its children
    await killGroup(pid, 500)
  } finally {
    await endProcesses(runDirectory, leader)
  }
}
