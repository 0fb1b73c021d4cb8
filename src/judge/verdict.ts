import { died, type Outcome } from '../boot/outcome.js'
import type { Request } from '../request/request.js'
import type { Verdict } from '../result.js'
import type { OomKill } from '../triage/oom-kills.js'
import { titleName } from '../triage/stack.js'
import { failures, plural, type TestReport } from '../triage/tests.js'
import type { Finding } from '../triage/triage.js'

export interface Judgement {
  verdict: Verdict
  /** the title of the finding that decided, as syzbot has it; else the same as `reason` */
  title: string
  /** one sentence */
  reason: string
  fingerprint?: string
}

/** What the guest's streams were found to say. */
export interface OutputFacts {
  /** findings that fail a run, the first one first */
  findings: readonly Finding[]
  tests?: TestReport
  /** processes that the kernel ended for lack of memory */
  oomKills: readonly OomKill[]
}

type Sentence = Pick<Judgement, 'verdict' | 'reason'>

function expired(outcome: Outcome, request: Request): Sentence | undefined {
  const { deadlines } = request
  switch (outcome.expired) {
    case undefined:
      return undefined
    case 'banner':
      return {
        verdict: 'infra-error',
        reason: 'KVM opens on this machine but runs no kernel: use --accel tcg, or auto.',
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

/** How the kernel ended itself. */
function death(outcome: Outcome): Sentence {
  // no word of a panic: a triple fault, or a reset that somebody asked for
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

/** What became of external modules, if one could not be loaded or removed. */
function moduleTrouble({ modules }: Outcome): Sentence | undefined {
  // of those that hold one another, the one that was loaded last is removed first
  const [name, seen] = Object.entries(modules).findLast(([, { trouble }]) => trouble !== undefined) ?? []
  if (!seen) return undefined
  const what = seen.loaded ? 'could not be removed again' : 'did not load, and the commands were not run'
  const why = seen.trouble?.replace(/\.$/, '') || 'no reason was given'
  return { verdict: 'test-failed', reason: `The module ${name} ${what}: ${why}.` }
}

function commands(status: number, outcome: Outcome, evidence: OutputFacts): Sentence {
  const failed = evidence.tests ? failures(evidence.tests.counts) : 0
  if (status !== 0) {
    const [kill] = evidence.oomKills
    const oom = kill ? `; the kernel had killed ${kill.process} for lack of memory` : ''
    const tests = failed > 0 ? `, and ${plural(failed, 'test')} failed` : ''
    return { verdict: 'test-failed', reason: `The commands ended with status ${status}${tests}${oom}.` }
  }
  if (failed > 0)
    return { verdict: 'test-failed', reason: `The commands succeeded, but ${plural(failed, 'test')} failed.` }
  return (
    moduleTrouble(outcome) ?? {
      verdict: 'passed',
      reason: 'The kernel booted and the commands succeeded.',
    }
  )
}

function ended(outcome: Outcome, evidence: OutputFacts): Sentence {
  const { status, started } = outcome
  if (status !== undefined) return commands(status, outcome, evidence)
  if (outcome.shutdown === 'guest-shutdown') {
    const trouble = moduleTrouble(outcome)
    if (trouble) return trouble
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
        ? `The virtual machine did not start (virtme-run ended with ${how}).`
        : `The virtual machine ended without a result (${how}).`,
  }
}

/** Who waits for another CPU is stuck because that one is (kernel/stop_machine.c, kernel/smp.c). */
const VICTIM = /^(?:multi_cpu_stop|stop_machine\w*|smp_call_function\w*|csd_lock_wait\w*)$/

const isVictim = ({ stack }: Finding) => stack.some(({ symbol }) => VICTIM.test(titleName(symbol)))

/** The finding that explains a verdict: the fatal one of a death, one of waiting of a hang, the first of a splat. */
function explaining(verdict: Verdict, outcome: Outcome, findings: readonly Finding[]): Finding | undefined {
  const fatal = findings.find(finding => finding.panic !== undefined)
  const stuck = findings.filter(finding => finding.type === 'HANG')
  const waiting = stuck.find(finding => !isVictim(finding)) ?? stuck[0]
  const choices: Partial<Record<Verdict, Finding | undefined>> = {
    splat: findings[0],
    panic: fatal ?? findings.at(-1),
    hang: waiting,
    'boot-failed': outcome.expired ? (waiting ?? findings[0]) : (fatal ?? findings.at(-1)),
  }
  return choices[verdict]
}

/**
 * The verdict of what was seen. The order is the point: what is the machine's is never blamed on the kernel, a dead
 * kernel is never passed whatever status arrived before it died, a kernel that reported a bug has not passed either, and
 * no status is no success.
 */
export function judge(outcome: Outcome, request: Request, evidence: OutputFacts): Judgement {
  const { findings } = evidence
  const plain = (sentence: Sentence): Judgement => ({ ...sentence, title: sentence.reason })
  if (outcome.cancelled)
    return plain({ verdict: 'cancelled', reason: 'The run was stopped while the guest ran.' })
  if (outcome.outputLimit)
    return plain({ verdict: 'infra-error', reason: `The guest was stopped: ${outcome.outputLimit}.` })
  let sentence = died(outcome) ? death(outcome) : (expired(outcome, request) ?? ended(outcome, evidence))
  const lived = sentence.verdict === 'passed' || sentence.verdict === 'test-failed'
  if (lived && findings.length > 0) {
    const bugs = findings.length > 1 ? `${findings.length} bugs` : 'a bug'
    const status = outcome.status === undefined ? '' : ` The commands ended with status ${outcome.status}.`
    sentence = { verdict: 'splat', reason: `The kernel reported ${bugs} and lived on.${status}` }
  }
  const finding = explaining(sentence.verdict, outcome, findings)
  return finding ? { ...sentence, title: finding.title, fingerprint: finding.fingerprint } : plain(sentence)
}
