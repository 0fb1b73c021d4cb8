import { statfsSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import type { GuestEnd, SupervisedGuest } from './guest-end.js'
import { expiry, type GuestLimits } from './outcome.js'

const POLL_MS = 20
/** the console of a guest that has panicked is read until nothing has come for so long */
const PANIC_QUIET_SECONDS = 0.4
/** and no longer than this */
const PANIC_MAX_SECONDS = 5
/** a kernel report is complete when the console has been silent for so long */
const REPORT_QUIET_SECONDS = 0.3
const SPACE_CHECK_SECONDS = 1
const MAX_OUTPUT_BYTES = 4 * 2 ** 30
const MIN_FREE_BYTES = 64 * 2 ** 20

/** Reads what the guest writes and decides when it is ended, until virtme-run has exited. */
export class GuestWatcher {
  private lastSpaceCheck = 0
  private reportDumped = false

  constructor(
    private readonly guest: SupervisedGuest,
    private readonly limits: GuestLimits,
    private readonly end: GuestEnd,
  ) {}

  /** `check` is called again and again; what it throws ends the watch. */
  async run(check: () => void): Promise<void> {
    const { virtme, streams } = this.guest
    while (!virtme.exited) {
      const any = streams.poll()
      check()
      if (!this.end.begun) this.decide(virtme.seconds())
      if (!any) await Promise.race([pause(POLL_MS), virtme.ended])
    }
  }

  /** The first reason that holds counts. */
  private decide(now: number): void {
    const { outcome, options, monitor } = this.guest
    if (options.cancel?.aborted) {
      outcome.cancelled = true
      this.end.begin()
    } else if (monitor.panickedAt !== undefined) {
      this.onPanic(now, monitor.panickedAt)
    } else if (monitor.endedAt !== undefined) {
      this.end.begin(outcome.shutdown === 'guest-reset' ? this.end.dumpDead : undefined)
    } else if (!this.checkDeadlines(now) && !this.checkReport(now)) {
      this.checkOutputLimit(now)
    }
  }

  private onPanic(now: number, panickedAt: number): void {
    const { lastConsoleOutput } = this.guest.streams
    const quiet = now - Math.max(lastConsoleOutput, panickedAt) > PANIC_QUIET_SECONDS
    if (quiet || now - panickedAt > PANIC_MAX_SECONDS) this.end.begin(this.end.dumpPanicked)
  }

  /** True if a deadline has passed. */
  private checkDeadlines(now: number): boolean {
    const { outcome, streams, monitor } = this.guest
    const { lastOutput, drainSince } = streams
    const expired = expiry({
      ...{ now, limits: this.limits, outcome, lastOutput, drainSince },
      monitorConnected: monitor.connectedAt,
    })
    if (!expired) return false
    // streams that a process holds open after the commands' end are complete enough
    if (expired !== 'drain') outcome.expired = expired
    this.end.begin(expired === 'drain' || expired === 'banner' ? undefined : this.end.collectHang)
    return true
  }

  /** True if the kernel's first report is complete just now. */
  private checkReport(now: number): boolean {
    const { reportedAt, lastConsoleOutput } = this.guest.streams
    if (this.reportDumped || reportedAt === undefined) return false
    if (now - Math.max(lastConsoleOutput, reportedAt) <= REPORT_QUIET_SECONDS) return false
    this.reportDumped = true
    this.end.dumpSplat()
    return true
  }

  private checkOutputLimit(now: number): void {
    if (now - this.lastSpaceCheck <= SPACE_CHECK_SECONDS) return
    this.lastSpaceCheck = now
    const { outcome, runDirectory, streams } = this.guest
    outcome.outputLimit = exceededLimit(runDirectory, streams.totalSize)
    if (outcome.outputLimit) this.end.begin()
  }
}

/** A sentence's beginning that names the limit that `output` bytes, or the disk, have exceeded. */
function exceededLimit(runDirectory: string, output: number): string | undefined {
  if (output > MAX_OUTPUT_BYTES) return 'the guest printed more than 4 GiB'
  const { bavail, bsize } = statfsSync(runDirectory)
  return bavail * bsize < MIN_FREE_BYTES ? 'the disk of the run directory is full' : undefined
}
