import { kernelDied, type Outcome } from '../boot/outcome.js'
import type { Request } from '../request/request.js'
import type { Verdict } from '../result.js'
import type { Finding } from '../triage/finding.js'
import type { OomKill } from '../triage/oom-kills.js'
import { titleName } from '../triage/stack.js'
import { failures, plural, type TestReport } from '../triage/tests.js'

export interface Judgement {
  verdict: Verdict
  /** the title of the finding that decided the verdict, as syzbot has it; else the same as `reason` */
  title: string
  /** one sentence */
  reason: string
  fingerprint?: string
}

/** What was found in the guest's output. */
export interface OutputFacts {
  /** findings that fail a run, in the order of their lines */
  findings: readonly Finding[]
  tests?: TestReport
  /** processes that the kernel killed because it was out of memory */
  oomKills: readonly OomKill[]
}

type Sentence = Pick<Judgement, 'verdict' | 'reason'>

/** The verdict of a deadline that has passed. */
function expired(outcome: Outcome, request: Request): Sentence | undefined {
  const { deadlines } = request
  switch (outcome.expired) {
    case undefined:
      return undefined
    case 'banner':
      return {
        verdict: 'infra-error',
        reason: 'KVM opens on this machine but does not run a kernel: use --accel tcg, or auto.',
      }
    case 'boot':
      return {
        verdict: 'boot-failed',
        reason:
          outcome.timestamps.banner === undefined
            ? `The kernel printed nothing within ${deadlines.boot} s (boot-timeout).`
            : `The guest did not come up within ${deadlines.boot} s (boot-timeout).`,
      }
    case 'run':
      return { verdict: 'hang', reason: `The commands did not end within ${deadlines.run} s (run-timeout).` }
    case 'idle':
      return { verdict: 'hang', reason: `The guest was silent for ${deadlines.idle} s (idle-timeout).` }
    case 'shutdown':
      return { verdict: 'hang', reason: 'The commands ended, but the guest did not power off.' }
  }
}

/** The verdict of a kernel that died. */
function death(outcome: Outcome): Sentence {
  // without a panic it is a triple fault, or a reset that a command requested
  const what = outcome.panicked ? 'The kernel died' : 'The guest was reset'
  if (!outcome.started) {
    return {
      verdict: 'boot-failed',
      reason:
        outcome.timestamps.banner === undefined
          ? `${what} before it printed a line.`
          : `${what} before the commands started.`,
    }
  }
  return {
    verdict: 'panic',
    reason:
      outcome.status === undefined
        ? `${what} while the commands ran.`
        : `${what} after the commands had ended.`,
  }
}

/** The verdict of an external module that could not be loaded or removed. */
function moduleFailure({ modules }: Outcome): Sentence | undefined {
  // a module may be in use by one that was loaded later, which is removed first
  const [name, seen] = Object.entries(modules).findLast(([, { trouble }]) => trouble !== undefined) ?? []
  if (!seen) return undefined
  const what = seen.loaded ? 'could not be removed' : 'did not load, and the commands were not run'
  const why = seen.trouble?.replace(/\.$/, '') || 'it printed no reason'
  return { verdict: 'test-failed', reason: `The module ${name} ${what}: ${why}.` }
}

/** The verdict of commands that returned a status. */
function commands(status: number, outcome: Outcome, output: OutputFacts): Sentence {
  const failedTests = output.tests ? failures(output.tests.counts) : 0
  if (status !== 0) {
    const [kill] = output.oomKills
    const oom = kill ? `; the kernel had killed ${kill.process} for lack of memory` : ''
    const tests = failedTests > 0 ? `, and ${plural(failedTests, 'test')} failed` : ''
    return { verdict: 'test-failed', reason: `The commands exited with status ${status}${tests}${oom}.` }
  }
  if (failedTests > 0)
    return {
      verdict: 'test-failed',
      reason: `The commands succeeded, but ${plural(failedTests, 'test')} failed.`,
    }
  return (
    moduleFailure(outcome) ?? {
      verdict: 'passed',
      reason: 'The kernel booted and the commands succeeded.',
    }
  )
}

/** The verdict of a guest that ended by itself. */
function ended(outcome: Outcome, output: OutputFacts): Sentence {
  const { status, started } = outcome
  if (status !== undefined) return commands(status, outcome, output)
  if (outcome.shutdown === 'guest-shutdown') {
    const failure = moduleFailure(outcome)
    if (failure) return failure
    return started
      ? { verdict: 'test-failed', reason: 'The guest powered off before the commands had ended.' }
      : { verdict: 'boot-failed', reason: 'The guest powered off before the commands started.' }
  }
  const how = outcome.exit.signal
    ? `signal ${outcome.exit.signal}`
    : `status ${outcome.exit.status ?? 'unknown'}`
  return {
    verdict: 'infra-error',
    reason:
      outcome.timestamps.banner === undefined
        ? `The virtual machine did not start (virtme-run exited with ${how}).`
        : `The virtual machine ended without a result (${how}).`,
  }
}

/** A CPU in one of these waits for another CPU, which is the one that is stuck (kernel/stop_machine.c, kernel/smp.c). */
const VICTIM = /^(?:multi_cpu_stop|stop_machine\w*|smp_call_function\w*|csd_lock_wait\w*)$/

const isVictim = ({ stack }: Finding) => stack.some(({ symbol }) => VICTIM.test(titleName(symbol)))

/** The finding that names a verdict: the fatal one of a panic, a stall or hung task of a hang, the first of a splat. */
function decisiveFinding(
  verdict: Verdict,
  outcome: Outcome,
  findings: readonly Finding[],
): Finding | undefined {
  const fatal = findings.find(finding => finding.panic !== undefined)
  const stalls = findings.filter(finding => finding.type === 'HANG')
  const stall = stalls.find(finding => !isVictim(finding)) ?? stalls[0]
  const choices: Partial<Record<Verdict, Finding | undefined>> = {
    splat: findings[0],
    panic: fatal ?? findings.at(-1),
    hang: stall,
    'boot-failed': outcome.expired ? (stall ?? findings[0]) : (fatal ?? findings.at(-1)),
  }
  return choices[verdict]
}

/**
 * The verdict of a run. The order matters: a fault of the machine is never blamed on the kernel, a kernel that died has
 * not passed whatever status arrived before, a kernel that reported a bug has not passed either, and without a status
 * nothing has passed.
 */
export function judge(outcome: Outcome, request: Request, output: OutputFacts): Judgement {
  const { findings } = output
  const untitled = (sentence: Sentence): Judgement => ({ ...sentence, title: sentence.reason })
  if (outcome.cancelled)
    return untitled({ verdict: 'cancelled', reason: 'The run was cancelled while the guest was running.' })
  if (outcome.outputLimit)
    return untitled({ verdict: 'infra-error', reason: `The guest was stopped: ${outcome.outputLimit}.` })
  let sentence = kernelDied(outcome) ? death(outcome) : (expired(outcome, request) ?? ended(outcome, output))
  const survived = sentence.verdict === 'passed' || sentence.verdict === 'test-failed'
  if (survived && findings.length > 0) {
    const bugs = findings.length > 1 ? `${findings.length} bugs` : 'a bug'
    const status = outcome.status === undefined ? '' : ` The commands exited with status ${outcome.status}.`
    sentence = { verdict: 'splat', reason: `The kernel reported ${bugs} and continued.${status}` }
  }
  const finding = decisiveFinding(sentence.verdict, outcome, findings)
  return finding
    ? { ...sentence, title: finding.title, fingerprint: finding.fingerprint }
    : untitled(sentence)
}
