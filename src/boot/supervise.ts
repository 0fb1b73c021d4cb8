import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, statfsSync, writeFileSync } from 'node:fs'
import { appendFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { childEnvironment } from '../host/environment.js'
import { processId } from '../host/proc.js'
import { guardGroup, killGroup } from '../host/processes.js'
import { endProcesses, RUN_VARIABLE, registerGuest, unregisterGuest } from '../host/registry.js'
import type { Log } from '../log.js'
import type { Deadlines, Request } from '../request.js'
import type { BootMoments } from '../result.js'
import { type GuestCommand, guestFiles, guestSockets, virtmeArguments } from './command.js'
import { connectSocket, type Qmp, type QmpEvent, startQmp } from './qmp.js'
import { type Tail, tailFile } from './tail.js'
import { bridgeTerminal, type Terminal } from './terminal.js'

/** Which deadline passed. `banner`: no word of the kernel; `shutdown`: the commands had ended, the guest had not. */
export type Expiry = 'banner' | 'boot' | 'run' | 'idle' | 'shutdown'

/** What was seen of a guest, from its start to the end of its last process. Facts only; see judge.ts for what they mean. */
export interface Outcome {
  /** exit status of the commands, exact from 0 to 255; absent if it never arrived */
  status?: number
  /** the commands had started */
  started: boolean
  /** QEMU was told of a panic (pvpanic) */
  panicked: boolean
  expired?: Expiry
  cancelled: boolean
  /** the host ran out of disk space, or the guest printed more than anybody will read */
  flooded?: string
  /** QEMU's reason for the end, e.g. guest-shutdown, guest-reset; absent if it gave none (QMP SHUTDOWN event) */
  shutdown?: string
  /** virtme-run's own end */
  exit: { status?: number; signal?: string }
  release?: string
  moments: BootMoments
}

export interface GuestLimits extends Deadlines {
  /** until the kernel's first line, where that proves something; else Infinity */
  banner: number
}

const POLL_MS = 20
/** a pause of the streams after the commands' end that says that nothing more will come */
const DRAIN_SECONDS = 5
const SHUTDOWN_SECONDS = 30
/** the console of a guest that has panicked is read until it is silent for so long */
const PANIC_QUIET_SECONDS = 0.4
const PANIC_MOST_SECONDS = 5
const MOST_OUTPUT = 4 * 2 ** 30
const LEAST_FREE = 64 * 2 ** 20

/**
 * Starts virtme-run, watches it to the end, and leaves no process behind. Never throws for what the guest did.
 * `wrapper` goes before virtme-run (see snapshot.ts).
 */
export async function superviseGuest(
  request: Request,
  guest: GuestCommand,
  limits: GuestLimits,
  options: { wrapper: readonly string[]; log: Log; cancel?: AbortSignal; terminal?: Terminal },
): Promise<Outcome> {
  const { log, cancel } = options
  const files = guestFiles(guest.runDirectory)
  const socketDirectory = await mkdtemp(join(tmpdir(), 'kc-'))
  const sockets = guestSockets(socketDirectory)
  for (const path of [files.console, files.stdout, files.stderr, files.control, files.virtme])
    writeFileSync(path, '')
  const virtmeLog = openSync(files.virtme, 'a')

  const [file = '', ...args] = [
    ...options.wrapper,
    guest.virtmeRun,
    ...virtmeArguments(request, guest, socketDirectory),
  ]
  const began = performance.now()
  const seconds = () => (performance.now() - began) / 1000
  // virtme-run opens its standard streams again by their names in /proc, which only works on files, not on the
  // sockets that a pipe of Node's is
  const child = spawn(file, args, {
    cwd: '/',
    env: childEnvironment('plain', { [RUN_VARIABLE]: guest.runDirectory, TERM: 'dumb' }),
    detached: true,
    stdio: ['ignore', virtmeLog, virtmeLog],
  })
  const { pid } = child
  const outcome: Outcome = { started: false, panicked: false, cancelled: false, exit: {}, moments: {} }
  if (pid === undefined) {
    const [error] = await once(child, 'error')
    closeSync(virtmeLog)
    await appendFile(files.virtme, `${error}\n`)
    await rm(socketDirectory, { recursive: true, force: true })
    return outcome
  }
  registerGuest(guest.runDirectory, pid, sockets.qmp)
  const leader = processId(pid)
  const dismissGuard = guardGroup(pid)

  let exited = false
  const ended = once(child, 'exit').then(([status, signal]) => {
    exited = true
    outcome.exit = { status: status ?? undefined, signal: signal ?? undefined }
  })

  // what the guest says
  let consoleQuietSince = 0
  let activity = 0
  let controlRest = ''
  let drainSince: number | undefined
  let consoleHead = ''
  const moments = outcome.moments
  const times: string[] = []
  const onControl = (chunk: Buffer) => {
    const lines = (controlRest + chunk.toString('utf8')).split('\n')
    controlRest = lines.pop() ?? ''
    for (const line of lines) {
      const [word, value = ''] = line.split(' ')
      if (word === 'init') {
        moments.init ??= seconds()
        outcome.release ??= value
      } else if (word === 'commands') {
        moments.commands ??= seconds()
        outcome.started = true
      } else if ((word === 'ended' || word === 'status') && /^\d{1,3}$/.test(value)) {
        // the first word on it counts
        if (outcome.status === undefined) outcome.status = Number(value)
        if (word === 'status') moments.status ??= seconds()
        else drainSince ??= seconds()
      }
    }
  }
  const onConsole = (chunk: Buffer) => {
    consoleQuietSince = seconds()
    if (moments.banner === undefined) {
      consoleHead = (consoleHead + chunk.toString('latin1')).slice(-65536)
      if (consoleHead.includes('Linux version')) moments.banner = seconds()
    }
    log.guest('console', chunk)
  }
  const tails: Tail[] = []
  const follow = (path: string, onData: (chunk: Buffer) => void) => {
    const tail = tailFile(path, chunk => {
      activity = seconds()
      onData(chunk)
    })
    tails.push(tail)
    return tail
  }
  follow(files.control, onControl)
  const consoleTail = follow(files.console, onConsole)
  const stdoutTail = follow(files.stdout, chunk => log.guest('stdout', chunk))
  const stderrTail = follow(files.stderr, chunk => log.guest('stderr', chunk))
  const pollAll = () => {
    let any = false
    for (const tail of tails) {
      const before = tail.size
      if (tail.poll()) any = true
      if (tail === consoleTail && tail.size > before) times.push(`${seconds().toFixed(3)}\t${tail.size}`)
    }
    return any
  }

  let stopping: Promise<void> | undefined

  // what QEMU says
  let qmp: Qmp | undefined
  let qemuUp: number | undefined
  let panickedAt: number | undefined
  const onEvent = ({ event, data }: QmpEvent) => {
    if (event === 'GUEST_PANICKED') {
      outcome.panicked = true
      panickedAt ??= seconds()
    }
    if (event === 'SHUTDOWN' && typeof data?.reason === 'string') outcome.shutdown ??= data.reason
  }
  const monitor = (async () => {
    const socket = await connectSocket(sockets.qmp, () => exited || stopping !== undefined)
    if (!socket) return
    qemuUp = seconds()
    qmp = await startQmp(socket, onEvent)
  })().catch(error => log.detail(`monitor: ${error}`))
  const bridge = options.terminal && bridgeTerminal(options.terminal, sockets, () => exited)

  // the end, whoever brings it about
  const stop = () => {
    stopping ??= (async () => {
      try {
        await qmp?.execute('quit', {}, 2)
      } catch {
        // it will hear SIGTERM
      }
      const grace = Date.now() + 1000
      while (!exited && Date.now() < grace) await pause(POLL_MS)
      if (!exited) await killGroup(pid)
    })()
  }

  let lastSpaceCheck = 0
  while (!exited) {
    const any = pollAll()
    const now = seconds()
    if (!stopping) {
      const expired = expiry({ now, limits, outcome, activity, drainSince, qemuUp })
      if (cancel?.aborted) {
        outcome.cancelled = true
        stop()
      } else if (panickedAt !== undefined) {
        const quiet = now - Math.max(consoleQuietSince, panickedAt) > PANIC_QUIET_SECONDS
        if (quiet || now - panickedAt > PANIC_MOST_SECONDS) stop()
      } else if (expired) {
        // streams that somebody holds open after the commands' end are complete enough
        if (expired !== 'drain') outcome.expired = expired
        stop()
      } else if (now - lastSpaceCheck > 1) {
        lastSpaceCheck = now
        outcome.flooded = flood(guest.runDirectory, consoleTail.size + stdoutTail.size + stderrTail.size)
        if (outcome.flooded) stop()
      }
    }
    if (!any) await Promise.race([pause(POLL_MS), ended])
  }
  await ended
  await stopping
  while (pollAll()) {
    // all that QEMU wrote before it ended
  }
  moments.end = seconds()
  for (const tail of tails) tail.close()
  await monitor
  qmp?.close()
  await bridge?.close()
  // virtme-run may end before its children
  await killGroup(pid, 500)
  await endProcesses(guest.runDirectory, leader)
  dismissGuard()
  unregisterGuest(guest.runDirectory)
  closeSync(virtmeLog)
  await appendFile(join(guest.runDirectory, 'console.times'), times.map(line => `${line}\n`).join(''))
  await rm(socketDirectory, { recursive: true, force: true })
  return outcome
}

const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

/** The deadline that has passed, if one has. */
function expiry(at: {
  now: number
  limits: GuestLimits
  outcome: Outcome
  activity: number
  drainSince: number | undefined
  qemuUp: number | undefined
}): Expiry | 'drain' | undefined {
  const { now, limits, outcome, activity } = at
  const { moments } = outcome
  if (moments.status !== undefined) return now - moments.status > SHUTDOWN_SECONDS ? 'shutdown' : undefined
  if (at.drainSince !== undefined)
    return now - Math.max(at.drainSince, activity) > DRAIN_SECONDS ? 'drain' : undefined
  // counted from QEMU's start: before it, virtme-run's Python takes as long as the machine is slow
  if (moments.banner === undefined && at.qemuUp !== undefined && now - at.qemuUp > limits.banner)
    return 'banner'
  if (moments.commands === undefined) return now > limits.boot ? 'boot' : undefined
  if (now - moments.commands > limits.run) return 'run'
  return now - activity > limits.idle ? 'idle' : undefined
}

function flood(runDirectory: string, output: number): string | undefined {
  if (output > MOST_OUTPUT) return 'the guest printed more than 4 GiB'
  const { bavail, bsize } = statfsSync(runDirectory)
  return bavail * bsize < LEAST_FREE ? 'the disk of the run directory is full' : undefined
}
