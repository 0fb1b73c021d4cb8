import type { Finding } from './finding.js'
import type { IgnoreWindow } from './ignore-windows.js'
import { matchesWildcard } from './wildcard.js'

/** What a finding is selected by. A `*` matches any text in types and titles. */
export type Selector = { by: 'type' | 'title' | 'fingerprint'; pattern: string } | { by: 'all' }

/** Known findings that do not fail a run until the rule expires. */
export interface IgnoreRule {
  /** which findings; or all that begin between two console lines */
  select: Selector | { by: 'between'; begin: string; end: string }
  reason: string
  /** the last day on which it holds, YYYY-MM-DD in UTC */
  expires: string
  /** the rule's file and number, for messages about it */
  origin: string
}

/** A finding after the rules were applied. */
export interface JudgedFinding extends Finding {
  /** why it does not fail the run */
  ignored?: string
}

const quote = (text: string) => JSON.stringify(text)

/** Whether a pattern fits all of a text, in any case of letters; see wildcard.ts. */
const matches = (pattern: string, text: string) => matchesWildcard(pattern.toLowerCase(), text.toLowerCase())

function selects(select: Selector, finding: Finding): boolean {
  return select.by === 'all' || matches(select.pattern, finding[select.by])
}

/**
 * Which findings fail a run: those that `failOn` selects and no rule in force ignores. `now` decides which rules have
 * expired; an expired rule that would have ignored a finding gets a warning of one sentence.
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
    const matching = rules.filter(({ select }, index) =>
      select.by === 'between' ? finding.windows?.includes(index) : selects(select, finding),
    )
    const inForce = matching.find(rule => rule.expires >= today)
    for (const rule of inForce ? [] : matching)
      warnings.add(
        `${rule.origin} expired on ${rule.expires} and no longer ignores ${quote(finding.title)} (${rule.reason}).`,
      )
    return inForce ? { ...finding, ignored: inForce.reason } : finding
  })
  return { findings: judged, warnings: [...warnings] }
}

/** The ignore windows of the rules that have one; `index` is the rule's. */
export function ignoreWindows(rules: readonly IgnoreRule[]): IgnoreWindow[] {
  return rules.flatMap(({ select }, index) =>
    select.by === 'between' ? [{ index, begin: select.begin, end: select.end }] : [],
  )
}
