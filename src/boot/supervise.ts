import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { archOf } from '../arch.js'
import { messageOf } from '../errors.js'
import { type Cleanup, cleanupStack } from '../host/cleanup.js'
import type { Request } from '../request/request.js'
import { GuestEnd, type SupervisedGuest } from './guest-end.js'
import { makeRequestFifo } from './guest-requests.js'
import { GuestStreams, truncateStreams } from './guest-streams.js'
import { openSerialLine } from './hang-state.js'
import type { GuestLimits, Outcome } from './outcome.js'
import { QemuMonitor } from './qemu-monitor.js'
import type { SupervisorOptions } from './supervisor-options.js'
import { attachWhenReady } from './terminal.js'
import { guestFiles, guestSockets, type VirtmeLaunch, virtmeArguments } from './virtme-command.js'
import { startVirtme, type VirtmeProcess } from './virtme-process.js'
import { GuestWatcher } from './watch-guest.js'

export type { DumpReason, SupervisorOptions } from './supervisor-options.js'

/**
 * Starts virtme-run, watches it until it ends, and leaves no process behind. Never throws for what the guest did.
 */
export async function superviseGuest(
  request: Request,
  launch: VirtmeLaunch,
  limits: GuestLimits,
  options: SupervisorOptions,
): Promise<Outcome> {
  const outcome: Outcome = {
    ...{ started: false, panicked: false, cancelled: false },
    ...{ exit: {}, modules: {}, leaks: [], timestamps: {} },
  }
  const cleanup = cleanupStack()
  try {
    const socketDirectory = await prepareSockets(cleanup)
    truncateStreams(launch.runDirectory)
    const virtme = await launchVirtme(request, launch, socketDirectory, options, cleanup)
    if (!virtme) return outcome
    const sockets = guestSockets(socketDirectory)
    const guest = connectGuest(request, launch, sockets, { outcome, options, virtme }, cleanup)
    const terminal = attachWhenReady(options.terminal, sockets, () => virtme.exited)
    cleanup.defer(() => terminal.detach())
    const end = new GuestEnd(guest)
    // the connections above are waited for until virtme-run has exited: where a step throws, it is ended before
    cleanup.defer(() => end.abort())

    await new GuestWatcher(guest, limits, end).run(() => terminal.check())
    await virtme.ended
    await end.settled()
    while (guest.streams.poll()) {
      // all that QEMU wrote before it ended
    }
    outcome.timestamps.end = virtme.seconds()
    outcome.exit = virtme.exit ?? {}
    await guest.streams.writeConsoleTimes()
    return outcome
  } finally {
    // a file that cannot be removed does not cost what was learned of the guest
    await cleanup
      .run()
      .catch(error => options.log.warning(`Cleaning up after the guest failed: ${messageOf(error)}`))
  }
}

/** Makes the directory for the guest's sockets, and the FIFO for requests, which QEMU opens. */
async function prepareSockets(cleanup: Cleanup): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'kc-'))
  cleanup.defer(() => rm(directory, { recursive: true, force: true }))
  await makeRequestFifo(guestSockets(directory).requests)
  return directory
}

async function launchVirtme(
  request: Request,
  launch: VirtmeLaunch,
  socketDirectory: string,
  options: SupervisorOptions,
  cleanup: Cleanup,
): Promise<VirtmeProcess | undefined> {
  const command = [...options.wrapper, launch.virtmeRun, ...virtmeArguments(request, launch, socketDirectory)]
  const registration = {
    runDirectory: launch.runDirectory,
    monitor: guestSockets(socketDirectory).monitor,
    vmlinux: options.vmlinux,
    release: options.release,
    accel: launch.accel,
    command: commandText(request.command),
  }
  return await startVirtme(command, guestFiles(launch.runDirectory).virtme, registration, cleanup)
}

/** Opens all that is read from the guest and from QEMU. */
function connectGuest(
  request: Request,
  { runDirectory }: VirtmeLaunch,
  sockets: ReturnType<typeof guestSockets>,
  run: { outcome: Outcome; options: SupervisorOptions; virtme: VirtmeProcess },
  cleanup: Cleanup,
): SupervisedGuest {
  const { outcome, options, virtme } = run
  const arch = archOf(request.arch)
  const streams = new GuestStreams(runDirectory, outcome, options, virtme.seconds, cleanup)
  const monitor = new QemuMonitor(sockets.qmp, virtme, outcome, options.log)
  cleanup.defer(() => monitor.close())
  const heldLine = arch.repeatsUnread ? openSerialLine(sockets.console, () => virtme.exited) : undefined
  cleanup.defer(async () => void (await heldLine)?.destroy())
  return {
    ...{ arch, outcome, options, runDirectory, virtme, streams, monitor },
    registers: guestFiles(runDirectory).registers,
    openLine: stop => heldLine ?? openSerialLine(sockets.console, stop),
  }
}

/** What a guest runs, for a list: the first line, at most 40 characters, no control characters. */
function commandText(command: Request['command']): string {
  if (command.kind === 'shell') return 'a shell'
  const text = command.kind === 'argv' ? command.argv.join(' ') : command.text.trim()
  const [line = ''] = text.split('\n')
  return line.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 40)
}
