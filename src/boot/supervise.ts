import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, statfsSync, writeFileSync } from 'node:fs'
import { appendFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { archOf } from '../arch.js'
import { childEnvironment } from '../host/environment.js'
import { processId } from '../host/proc.js'
import { guardGroup, killGroup } from '../host/processes.js'
import { endProcesses, RUN_VARIABLE, registerGuest, unregisterGuest } from '../host/registry.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import { parseControlLine } from './control-port.js'
import { makeRequestFifo, sendGuestRequest } from './guest-requests.js'
import { collectHangState, injectNmi, openSerialLine } from './hang-state.js'
import { expiry, type GuestLimits, type Outcome } from './outcome.js'
import { connectSocket, type Qmp, type QmpEvent, startQmp } from './qmp.js'
import { type Tail, tailFile } from './tail.js'
import { attachTerminal, type Terminal } from './terminal.js'
import { guestFiles, guestSockets, type VirtmeLaunch, virtmeArguments } from './virtme-command.js'

const POLL_MS = 20
/** the console of a guest that has panicked is read until it is silent for so long */
const PANIC_QUIET_SECONDS = 0.4
const PANIC_MOST_SECONDS = 5
/** a report is complete when the console is silent for so long */
const REPORT_QUIET_SECONDS = 0.3
const MOST_OUTPUT = 4 * 2 ** 30
const LEAST_FREE = 64 * 2 ** 20

/** What a guest's memory is wanted for. */
export type DumpReason = 'panic' | 'hang' | 'splat'

export interface SupervisorOptions {
  /** goes before virtme-run, see snapshot.ts */
  wrapper: readonly string[]
  log: Log
  cancel?: AbortSignal
  terminal?: Terminal
  /** of the guest's kernel, for other processes that dump it */
  vmlinux: string
  /** `uname -r` of the kernel */
  release: string
  /** hears everything that the console prints; true says that the kernel has reported a bug for the first time */
  onConsole(chunk: Buffer): boolean
  onStdout(chunk: Buffer): void
  /** takes the guest's memory, if it is wanted for this; never throws. False if QEMU is stuck with it */
  dump(qmp: Qmp, reason: DumpReason): Promise<boolean>
}

/**
 * Starts virtme-run, watches it to the end, and leaves no process behind. Never throws for what the guest did.
 */
export async function superviseGuest(
  request: Request,
  guest: VirtmeLaunch,
  limits: GuestLimits,
  options: SupervisorOptions,
): Promise<Outcome> {
  const { log, cancel } = options
  const arch = archOf(request.arch)
  const files = guestFiles(guest.runDirectory)
  const socketDirectory = await mkdtemp(join(tmpdir(), 'kc-'))
  const sockets = guestSockets(socketDirectory)
  await makeRequestFifo(sockets.requests)
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
  const outcome: Outcome = {
    ...{ started: false, panicked: false, cancelled: false },
    ...{ exit: {}, modules: {}, leaks: [], timestamps: {} },
  }
  if (pid === undefined) {
    const [error] = await once(child, 'error')
    closeSync(virtmeLog)
    await appendFile(files.virtme, `${error}\n`)
    await rm(socketDirectory, { recursive: true, force: true })
    return outcome
  }
  registerGuest(pid, {
    runDirectory: guest.runDirectory,
    monitor: sockets.monitor,
    vmlinux: options.vmlinux,
    release: options.release,
    accel: guest.accel,
    command: commandText(request.command),
  })
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
  let reportedAt: number | undefined
  let controlRest = ''
  let drainSince: number | undefined
  let consoleHead = ''
  const moments = outcome.timestamps
  const times: string[] = []
  const onControl = (chunk: Buffer) => {
    const lines = (controlRest + chunk.toString('utf8')).split('\n')
    controlRest = lines.pop() ?? ''
    for (const line of lines) if (parseControlLine(line, outcome, seconds())) drainSince ??= seconds()
  }
  const onConsole = (chunk: Buffer) => {
    consoleQuietSince = seconds()
    if (moments.banner === undefined) {
      consoleHead = (consoleHead + chunk.toString('latin1')).slice(-65536)
      if (consoleHead.includes('Linux version')) moments.banner = seconds()
    }
    log.guest('console', chunk)
    if (options.onConsole(chunk)) reportedAt ??= seconds()
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
  const stdoutTail = follow(files.stdout, chunk => {
    log.guest('stdout', chunk)
    options.onStdout(chunk)
  })
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
  /** QEMU stands still after the guest's own end until it is told to go (-action shutdown=pause) */
  let endedAt: number | undefined
  const onEvent = ({ event, data }: QmpEvent) => {
    if (event === 'GUEST_PANICKED') {
      // a guest that is being asked after its deadline may die of the question
      if (!outcome.expired) outcome.panicked = true
      panickedAt ??= seconds()
    }
    if (event === 'SHUTDOWN' && typeof data?.reason === 'string') {
      outcome.shutdown ??= data.reason
      endedAt ??= seconds()
    }
  }
  const monitor = (async () => {
    const socket = await connectSocket(sockets.qmp, () => exited || stopping !== undefined)
    if (!socket) return
    qemuUp = seconds()
    qmp = await startQmp(socket, onEvent)
  })().catch(error => log.detail(`monitor: ${error}`))
  const held = arch.repeatsUnread ? openSerialLine(sockets.console, () => exited) : undefined
  const onResize = (size: { rows: number; columns: number }) =>
    void sendGuestRequest(sockets.requests, { word: 'size', number: 0, ...size })
  const { terminal } = options
  const sitting =
    terminal &&
    connectSocket(sockets.terminal, () => exited).then(found =>
      found && !exited ? attachTerminal(terminal, found, onResize) : undefined,
    )

  // the end, whoever brings it about; what is still to be learned comes before it
  const stop = (learn: () => Promise<void> = async () => {}) => {
    stopping ??= (async () => {
      await learn()
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
  const dump = async (reason: DumpReason) => {
    if (qmp && !exited && !(await options.dump(qmp, reason))) await killGroup(pid)
  }
  /** With pvpanic a kernel tells QEMU before it has printed everything: after the dump it may go on to its end. */
  const letDie = async () => {
    await dump('panic')
    if (exited || cancel?.aborted || arch.panic !== 'pvpanic') return
    await qmp?.execute('cont', {}, 2).catch(error => log.detail(`cont: ${error}`))
    const give = seconds() + PANIC_MOST_SECONDS
    while (!exited && endedAt === undefined && seconds() < give) await pause(POLL_MS)
  }
  const askWhy = async () => {
    if (!qmp || exited) return
    const scene = {
      qmp,
      line: () => held ?? openSerialLine(sockets.console, () => exited || cancel?.aborted === true),
      sysrq: arch.sysrq,
      printed: () => consoleTail.size,
      over: () => exited || cancel?.aborted === true,
      registers: files.registers,
      log,
    }
    const heard = await collectHangState(scene)
    if (!cancel?.aborted) await dump('hang')
    if (!heard && !scene.over()) await injectNmi(scene)
  }

  let lastSpaceCheck = 0
  let splat: Promise<void> | undefined
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
        if (quiet || now - panickedAt > PANIC_MOST_SECONDS) stop(letDie)
      } else if (endedAt !== undefined) {
        stop(outcome.shutdown === 'guest-reset' ? () => dump('panic') : undefined)
      } else if (expired) {
        // streams that somebody holds open after the commands' end are complete enough
        if (expired !== 'drain') outcome.expired = expired
        stop(expired === 'drain' || expired === 'banner' ? undefined : askWhy)
      } else if (
        reportedAt !== undefined &&
        now - Math.max(consoleQuietSince, reportedAt) > REPORT_QUIET_SECONDS
      ) {
        // the guest stands still meanwhile and then runs on
        reportedAt = Number.POSITIVE_INFINITY
        splat ??= dump('splat')
      } else if (now - lastSpaceCheck > 1) {
        lastSpaceCheck = now
        outcome.outputLimit = flood(guest.runDirectory, consoleTail.size + stdoutTail.size + stderrTail.size)
        if (outcome.outputLimit) stop()
      }
    }
    if (!any) await Promise.race([pause(POLL_MS), ended])
  }
  await ended
  await stopping
  await splat
  while (pollAll()) {
    // all that QEMU wrote before it ended
  }
  moments.end = seconds()
  for (const tail of tails) tail.close()
  await monitor
  qmp?.close()
  ;(await held)?.destroy()
  ;(await sitting)?.detach()
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

/** What a guest runs, for a list: the first line, not too long, nothing that moves a cursor. */
export function commandText(work: Request['command']): string {
  if (work.kind === 'shell') return 'a shell'
  const text = work.kind === 'argv' ? work.argv.join(' ') : work.text.trim()
  const [line = ''] = text.split('\n')
  return line.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 40)
}

function flood(runDirectory: string, output: number): string | undefined {
  if (output > MOST_OUTPUT) return 'the guest printed more than 4 GiB'
  const { bavail, bsize } = statfsSync(runDirectory)
  return bavail * bsize < LEAST_FREE ? 'the disk of the run directory is full' : undefined
}
