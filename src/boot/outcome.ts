import type { Deadlines } from '../request/request.js'
import type { BootTimestamps } from '../result.js'

/** Which deadline passed. `banner`: no word of the kernel; `shutdown`: the commands had ended, the guest had not. */
export type Expiry = 'banner' | 'boot' | 'run' | 'idle' | 'shutdown'

/** An external module in the guest. */
export interface LoadedModule {
  loaded: boolean
  /** modprobe's or rmmod's words where it failed */
  trouble?: string
  /** address of each section of code, by its name; the kernel's, in hexadecimal */
  sections: Record<string, string>
}

/** What was seen of a guest, from its start to the end of its last process. Facts only; see judge.ts for what they mean. */
export interface Outcome {
  /** exit status of the commands, exact from 0 to 255; absent if it never arrived */
  status?: number
  /** the commands had started */
  started: boolean
  /** QEMU was told of a panic (pvpanic) before any deadline had passed */
  panicked: boolean
  expired?: Expiry
  cancelled: boolean
  /** the host ran out of disk space, or the guest printed more than anybody will read */
  outputLimit?: string
  /** QEMU's reason for the end, e.g. guest-shutdown, guest-reset; absent if it gave none (QMP SHUTDOWN event) */
  shutdown?: string
  /** virtme-run's own end */
  exit: { status?: number; signal?: string }
  release?: string
  /** what became of external modules, by the kernel's name for each */
  modules: Record<string, LoadedModule>
  /** lines of /sys/kernel/debug/kmemleak, read after the modules were removed */
  leaks: string[]
  timestamps: BootTimestamps
}

export interface GuestLimits extends Deadlines {
  /** until the kernel's first line, where that proves something; else Infinity */
  banner: number
}

/** A pause of the streams after the commands' end that says that nothing more will come. */
const DRAIN_SECONDS = 5
const SHUTDOWN_SECONDS = 30

/** True if the kernel ended itself: pvpanic, or a reset, which is how a panic without pvpanic and a triple fault look. */
export function died(outcome: Outcome): boolean {
  return (
    !outcome.expired &&
    (outcome.panicked || outcome.shutdown === 'guest-reset' || outcome.shutdown === 'guest-panic')
  )
}

/** The deadline that has passed, if one has. Times are seconds from virtme-run's start. */
export function expiry(at: {
  now: number
  limits: GuestLimits
  outcome: Outcome
  /** when anything was last printed */
  activity: number
  /** when the commands had ended and their streams not yet */
  drainSince: number | undefined
  /** when QEMU answered first */
  qemuUp: number | undefined
}): Expiry | 'drain' | undefined {
  const { now, limits, outcome, activity } = at
  const { timestamps } = outcome
  if (timestamps.status !== undefined)
    return now - timestamps.status > SHUTDOWN_SECONDS ? 'shutdown' : undefined
  if (at.drainSince !== undefined)
    return now - Math.max(at.drainSince, activity) > DRAIN_SECONDS ? 'drain' : undefined
  // counted from QEMU's start: before it, virtme-run's Python takes as long as the machine is slow
  if (timestamps.banner === undefined && at.qemuUp !== undefined && now - at.qemuUp > limits.banner)
    return 'banner'
  if (timestamps.commands === undefined) return now > limits.boot ? 'boot' : undefined
  if (now - timestamps.commands > limits.run) return 'run'
  return now - activity > limits.idle ? 'idle' : undefined
}
