import { virtmeLogTail } from '../boot/boot.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import type { ErrorFacts } from '../result.js'
import { applyRules, type JudgedFinding } from '../triage/rules.js'
import type { ParsedOutput } from './guest-output.js'
import type { ObservedGuest } from './observe-guest.js'
import { type Judgement, judge } from './verdict.js'

/** Applies the rules of `fail-on` and `ignore` to what was found, and judges the guest. Warns of rules without effect. */
export async function judgeGuest(
  request: Request,
  { outcome }: ObservedGuest,
  output: ParsedOutput,
  runDirectory: string,
  log: Log,
): Promise<Judgement & { findings: JudgedFinding[]; error?: ErrorFacts }> {
  const { failOn, ignore } = request
  const { findings, warnings } = applyRules(output.findings, failOn, ignore, new Date())
  for (const warning of warnings) log.warning(warning)
  for (const index of output.unclosed)
    log.warning(`${ignore[index]?.origin}: its end was never printed, so it ignores nothing.`)
  const failing = findings.filter(finding => finding.ignored === undefined)
  const judgement = judge(outcome, request, { ...output, findings: failing })
  if (judgement.verdict !== 'infra-error') return { ...judgement, findings }
  const details = await virtmeLogTail(runDirectory)
  return { ...judgement, findings, error: { message: judgement.reason, details, diagnostics: [] } }
}
