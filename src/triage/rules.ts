import { regExpLiteral } from './regexp-literal.js'
import type { Finding } from './triage.js'

/** What a finding is told by. A `*` stands for anything in types and titles. */
export type Selector = { by: 'type' | 'title' | 'fingerprint'; pattern: string } | { by: 'all' }

/** Findings that are known and do not fail a run, until a day. */
export interface IgnoreRule {
  /** which findings; or all that begin between two console lines */
  select: Selector | { by: 'between'; begin: string; end: string }
  reason: string
  /** the last day on which it holds, YYYY-MM-DD in UTC */
  expires: string
  /** where it stands, for sentences about it */
  origin: string
}

/** A finding with what the rules say of it. */
export interface JudgedFinding extends Finding {
  /** why it does not fail the run */
  ignored?: string
}

const quote = (text: string) => JSON.stringify(text)

function matches(pattern: string, text: string): boolean {
  const source = pattern.split('*').map(regExpLiteral).join('.*')
  return new RegExp(`^${source}$`, 'i').test(text)
}

function selects(select: Selector, finding: Finding): boolean {
  return select.by === 'all' || matches(select.pattern, finding[select.by])
}

/**
 * Which findings fail a run: those that `failOn` selects and no rule that still holds ignores. `now` decides what has
 * expired; a rule that has, and would have ignored something, is told in a sentence.
 */
export function applyRules(
  findings: readonly Finding[],
  failOn: readonly Selector[],
  rules: readonly IgnoreRule[],
  now: Date,
): { findings: JudgedFinding[]; warnings: string[] } {
  const today = now.toISOString().slice(0, 10)
  const warnings = new Set<string>()
  const judged = findings.map((finding): JudgedFinding => {
    if (!failOn.some(select => selects(select, finding)))
      return { ...finding, ignored: 'fail-on does not name it' }
    const fitting = rules.filter(({ select }, index) =>
      select.by === 'between' ? finding.windows?.includes(index) : selects(select, finding),
    )
    const holding = fitting.find(rule => rule.expires >= today)
    for (const rule of holding ? [] : fitting)
      warnings.add(
        `${rule.origin} expired on ${rule.expires} and no longer ignores ${quote(finding.title)} (${rule.reason}).`,
      )
    return holding ? { ...finding, ignored: holding.reason } : finding
  })
  return { findings: judged, warnings: [...warnings] }
}

/** The console lines between which rules expect findings, by the rule's index, as triage() takes them. */
export function windowsOf(rules: readonly IgnoreRule[]): { index: number; begin: string; end: string }[] {
  return rules.flatMap(({ select }, index) =>
    select.by === 'between' ? [{ index, begin: select.begin, end: select.end }] : [],
  )
}
