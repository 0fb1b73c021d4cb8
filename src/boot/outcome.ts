import type { Deadlines } from '../request/request.js'
import type { BootTimestamps } from '../result.js'

/**
 * The deadline that passed. `banner`: the kernel printed nothing; `shutdown`: the commands had ended, the guest had not.
 */
export type Expiry = 'banner' | 'boot' | 'run' | 'idle' | 'shutdown'

/** An external module in the guest. */
export interface LoadedModule {
  loaded: boolean
  /** output of modprobe or rmmod where it failed */
  trouble?: string
  /** kernel address of each section of code, by the section's name; hexadecimal */
  sections: Record<string, string>
}

/** What was observed of a guest, from its start to the end of its last process. Facts only: judge/verdict.ts judges them. */
export interface Outcome {
  /** exit status of the commands, 0 to 255; absent if it was not reported */
  status?: number
  /** the commands had started */
  started: boolean
  /** QEMU was notified of a panic (pvpanic) before any deadline had passed */
  panicked: boolean
  expired?: Expiry
  cancelled: boolean
  /** set if the host ran out of disk space, or the guest printed too much: that, as the beginning of a sentence */
  outputLimit?: string
  /** reason of QEMU's SHUTDOWN event (qapi/run-state.json), e.g. guest-shutdown, guest-reset; absent without one */
  shutdown?: string
  /** how virtme-run ended */
  exit: { status?: number; signal?: string }
  release?: string
  /** external modules, by the kernel's name for each */
  modules: Record<string, LoadedModule>
  /** lines of /sys/kernel/debug/kmemleak, read after the modules were removed */
  leaks: string[]
  timestamps: BootTimestamps
}

export interface GuestLimits extends Deadlines {
  /** until the kernel's banner, where a missing one shows that KVM does not work; else Infinity */
  banner: number
}

/** the streams are complete when, after the commands' end, nothing was written for so long */
const DRAIN_SECONDS = 5
const SHUTDOWN_SECONDS = 30

/** True if the kernel died: pvpanic, or a reset, which is what QEMU reports of a panic without pvpanic and a triple fault. */
export function kernelDied(outcome: Outcome): boolean {
  return (
    !outcome.expired &&
    (outcome.panicked || outcome.shutdown === 'guest-reset' || outcome.shutdown === 'guest-panic')
  )
}

/**
 * The deadline that has passed, if one has; `drain` where the streams are complete. Times are seconds since virtme-run's
 * start.
 */
export function expiry(at: {
  now: number
  limits: GuestLimits
  outcome: Outcome
  /** when anything was last written */
  lastOutput: number
  /** when the commands had ended, with their streams still open */
  drainSince: number | undefined
  /** when QEMU's monitor accepted the connection */
  monitorConnected: number | undefined
}): Expiry | 'drain' | undefined {
  const { now, limits, outcome, lastOutput } = at
  const { timestamps } = outcome
  if (timestamps.status !== undefined)
    return now - timestamps.status > SHUTDOWN_SECONDS ? 'shutdown' : undefined
  if (at.drainSince !== undefined)
    return now - Math.max(at.drainSince, lastOutput) > DRAIN_SECONDS ? 'drain' : undefined
  // counted from QEMU's start: how long virtme-run's Python takes before it depends on the machine
  const { monitorConnected } = at
  if (
    timestamps.banner === undefined &&
    monitorConnected !== undefined &&
    now - monitorConnected > limits.banner
  )
    return 'banner'
  if (timestamps.commands === undefined) return now > limits.boot ? 'boot' : undefined
  if (now - timestamps.commands > limits.run) return 'run'
  return now - lastOutput > limits.idle ? 'idle' : undefined
}
