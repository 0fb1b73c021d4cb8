import type { Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import type { Arch } from '../arch.js'
import { killGroup } from '../host/processes.js'
import type { GuestStreams } from './guest-streams.js'
import { collectHangState, type HangContext, injectNmi } from './hang-state.js'
import type { Outcome } from './outcome.js'
import type { QemuMonitor } from './qemu-monitor.js'
import type { DumpReason, SupervisorOptions } from './supervisor-options.js'
import type { VirtmeProcess } from './virtme-process.js'

const POLL_MS = 20
/** how long a guest that has panicked may go on printing after its dump */
const PANIC_END_SECONDS = 5
/** how long QEMU has to end after `quit` */
const QUIT_MS = 1000

/** A guest that runs, as its supervision sees it. */
export interface SupervisedGuest {
  arch: Arch
  outcome: Outcome
  options: Pick<SupervisorOptions, 'log' | 'cancel' | 'dump'>
  runDirectory: string
  /** where the registers of all CPUs are written */
  registers: string
  virtme: VirtmeProcess
  streams: GuestStreams
  monitor: QemuMonitor
  /** connects to the serial line until `stop`, see hang-state.ts */
  openLine: (stop: () => boolean) => Promise<Socket | undefined>
}

/** Ends a guest once, whatever the reason; its state is collected before. */
export class GuestEnd {
  private ending: Promise<void> | undefined
  private splatDump: Promise<void> | undefined

  constructor(private readonly guest: SupervisedGuest) {}

  get begun(): boolean {
    return this.ending !== undefined
  }

  /** Ends the guest after `collect`. Returns at once; only the first call counts. */
  begin(collect: () => Promise<void> = async () => {}): void {
    if (this.ending) return
    this.guest.monitor.abandon()
    this.ending = this.end(collect)
    // `settled` reports it
    this.ending.catch(() => {})
  }

  /** Dumps a guest that has reported a bug; it pauses meanwhile and then continues. Only the first call counts. */
  dumpSplat(): void {
    if (this.splatDump) return
    this.splatDump = this.dump('splat')
    this.splatDump.catch(() => {})
  }

  /** Waits for what was begun; throws what it threw. */
  async settled(): Promise<void> {
    await this.ending
    await this.splatDump
  }

  /** Ends what still runs, without collecting anything. */
  async abort(): Promise<void> {
    const { virtme } = this.guest
    if (!virtme.exited) await killGroup(virtme.pid)
    await Promise.allSettled([this.ending, this.splatDump])
  }

  /** Dumps a guest that has died. */
  dumpDead = (): Promise<void> => this.dump('panic')

  /** With pvpanic a kernel tells QEMU before it has printed everything: after the dump it continues to its end. */
  dumpPanicked = async (): Promise<void> => {
    const { arch, options, virtme, monitor } = this.guest
    await this.dump('panic')
    if (virtme.exited || options.cancel?.aborted || arch.panic !== 'pvpanic') return
    await monitor.qmp?.execute('cont', {}, 2).catch(error => options.log.detail(`cont: ${error}`))
    const deadline = virtme.seconds() + PANIC_END_SECONDS
    while (!virtme.exited && monitor.endedAt === undefined && virtme.seconds() < deadline)
      await pause(POLL_MS)
  }

  /** Collects from a guest whose deadline has passed what it is doing, and its memory. */
  collectHang = async (): Promise<void> => {
    const { arch, options, virtme, monitor, streams, openLine, registers } = this.guest
    const { qmp } = monitor
    if (!qmp || virtme.exited) return
    const stopped = () => virtme.exited || options.cancel?.aborted === true
    const context: HangContext = {
      qmp,
      openLine: () => openLine(stopped),
      sysrq: arch.sysrq,
      consoleSize: () => streams.consoleSize,
      stopped,
      registers,
      log: options.log,
    }
    const responsive = await collectHangState(context)
    if (!options.cancel?.aborted) await this.dump('hang')
    if (!responsive && !stopped()) await injectNmi(context)
  }

  private async dump(reason: DumpReason): Promise<void> {
    const { virtme, monitor, options } = this.guest
    if (monitor.qmp && !virtme.exited && !(await options.dump(monitor.qmp, reason)))
      await killGroup(virtme.pid)
  }

  private async end(collect: () => Promise<void>): Promise<void> {
    try {
      await collect()
    } finally {
      await this.quit()
    }
  }

  private async quit(): Promise<void> {
    const { virtme, monitor } = this.guest
    try {
      await monitor.qmp?.execute('quit', {}, 2)
    } catch {
      // SIGTERM follows
    }
    const deadline = Date.now() + QUIT_MS
    while (!virtme.exited && Date.now() < deadline) await pause(POLL_MS)
    if (!virtme.exited) await killGroup(virtme.pid)
  }
}
