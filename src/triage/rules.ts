import { load } from 'js-yaml'
import { InputError, messageOf } from '../errors.js'
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

/** One item of `fail-on`: `all`, `none`, a type such as `KASAN-*`, `title:PATTERN`, `fingerprint:HEX`. Throws InputError. */
export function parseFailOn(items: readonly string[]): Selector[] {
  return items
    .flatMap(item => (item.includes('title:') ? [item] : item.split(/[,\s]+/)))
    .map(item => item.trim())
    .filter(item => item !== '' && item !== 'none')
    .map((item): Selector => {
      if (item === 'all') return { by: 'all' }
      const [, by, pattern] = /^(title|fingerprint|type):(.+)$/s.exec(item) ?? []
      if (by && pattern) return { by: by as 'title', pattern: pattern.trim() }
      if (/^[A-Za-z][\w*-]*$/.test(item)) return { by: 'type', pattern: item }
      throw new InputError(
        `fail-on: ${quote(item)} is no finding type; write all, none, a type such as KASAN-*, title:PATTERN or fingerprint:HEX.`,
      )
    })
}

const DAY = /^\d{4}-\d\d-\d\d$/

function parseRule(entry: unknown, origin: string): IgnoreRule {
  const wrong = (what: string) => new InputError(`${origin}: ${what}.`)
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry))
    throw wrong('a rule is a list of `name: value`')
  const { type, title, fingerprint, between, reason, expires, ...rest } = entry as Record<string, unknown>
  const [unknown] = Object.keys(rest)
  if (unknown)
    throw wrong(
      `${quote(unknown)} is unknown; a rule has type, title, fingerprint or between, and reason and expires`,
    )
  if (typeof reason !== 'string' || reason.trim() === '') throw wrong('a rule needs a reason')
  const day = expires instanceof Date ? expires.toISOString().slice(0, 10) : expires
  if (typeof day !== 'string' || !DAY.test(day) || Number.isNaN(Date.parse(day)))
    throw wrong('a rule needs the day on which it expires, as expires: YYYY-MM-DD')
  const given = Object.entries({ type, title, fingerprint, between }).filter(
    ([, value]) => value !== undefined,
  )
  const [name, value] = given[0] ?? []
  if (given.length !== 1 || !name)
    throw wrong('a rule has exactly one of type, title, fingerprint and between')
  const base = { reason: reason.trim(), expires: day, origin }
  if (name === 'between') {
    const [begin, end] = Array.isArray(value) ? value : []
    if (typeof begin !== 'string' || typeof end !== 'string' || begin === '' || end === '')
      throw wrong('between takes two pieces of console lines, [BEGIN, END]')
    return { ...base, select: { by: 'between', begin, end } }
  }
  if (typeof value !== 'string' && typeof value !== 'number') throw wrong(`${name} is one pattern`)
  return { ...base, select: { by: name as 'title', pattern: String(value) } }
}

/** The rules of an ignore file (YAML, a list). `name` is the file's, for messages. Throws InputError. */
export function parseIgnore(text: string, name: string): IgnoreRule[] {
  // a file of comments has no rules
  if (!/^\s*[^\s#]/m.test(text)) return []
  let parsed: unknown
  try {
    parsed = load(text)
  } catch (error) {
    throw new InputError(`ignore: ${name} is no YAML: ${messageOf(error).split('\n')[0]}.`)
  }
  if (parsed === undefined || parsed === null) return []
  if (!Array.isArray(parsed)) throw new InputError(`ignore: ${name} is no list of rules.`)
  return parsed.map((entry, index) => parseRule(entry, `ignore: rule ${index + 1} of ${name}`))
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
