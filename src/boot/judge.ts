import type { Request } from '../request.js'
import type { Verdict } from '../result.js'
import type { Outcome } from './supervise.js'

export interface Judgement {
  verdict: Verdict
  /** one sentence */
  title: string
}

function expired(outcome: Outcome, request: Request): Judgement | undefined {
  const { deadlines } = request
  switch (outcome.expired) {
    case undefined:
      return undefined
    case 'banner':
      return {
        verdict: 'infra-error',
        title: 'KVM opens on this machine but runs no kernel: use --accel tcg, or auto.',
      }
    case 'boot':
      return {
        verdict: 'boot-failed',
        title: `The guest did not come up within ${deadlines.boot} s (boot-timeout).`,
      }
    case 'run':
      return { verdict: 'hang', title: `The commands did not end within ${deadlines.run} s (run-timeout).` }
    case 'idle':
      return { verdict: 'hang', title: `The guest was silent for ${deadlines.idle} s (idle-timeout).` }
    case 'shutdown':
      return { verdict: 'hang', title: 'The commands ended, but the guest did not power off.' }
  }
}

/**
 * The verdict of what was seen. The order is the point: what is the machine's is never blamed on the kernel, a dead
 * kernel is never passed whatever status arrived before it died, and no status is no success.
 */
export function judge(outcome: Outcome, request: Request): Judgement {
  const { status, started } = outcome
  if (outcome.cancelled) return { verdict: 'cancelled', title: 'The run was stopped while the guest ran.' }
  if (outcome.flooded) return { verdict: 'infra-error', title: `The guest was stopped: ${outcome.flooded}.` }
  // a guest that resets itself died: a panic before pvpanic was there, a triple fault
  const died = outcome.panicked || outcome.shutdown === 'guest-reset' || outcome.shutdown === 'guest-panic'
  if (died && !started)
    return { verdict: 'boot-failed', title: 'The kernel died before the commands started.' }
  if (died && status !== undefined)
    return { verdict: 'panic', title: 'The kernel died after the commands had ended.' }
  if (died) return { verdict: 'panic', title: 'The kernel died while the commands ran.' }
  const late = expired(outcome, request)
  if (late) return late
  if (status !== undefined) {
    return status === 0
      ? { verdict: 'passed', title: 'The kernel booted and the commands succeeded.' }
      : { verdict: 'test-failed', title: `The commands ended with status ${status}.` }
  }
  if (outcome.shutdown === 'guest-shutdown') {
    return started
      ? { verdict: 'test-failed', title: 'The guest powered off before the commands had ended.' }
      : { verdict: 'boot-failed', title: 'The guest powered off before the commands started.' }
  }
  const how = outcome.exit.signal
    ? `signal ${outcome.exit.signal}`
    : `status ${outcome.exit.status ?? 'unknown'}`
  return {
    verdict: 'infra-error',
    title:
      outcome.moments.banner === undefined
        ? `The virtual machine did not start (virtme-run ended with ${how}).`
        : `The virtual machine ended without a result (${how}).`,
  }
}
