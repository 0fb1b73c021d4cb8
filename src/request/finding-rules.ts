import { load } from 'js-yaml'
import { InputError, messageOf } from '../errors.js'
import type { IgnoreRule, Selector } from '../triage/rules.js'
import { quote } from './values.js'

/** Items of `fail-on`: `all`, `none`, a type such as `KASAN-*`, `title:PATTERN`, `fingerprint:HEX`. Throws InputError. */
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
        `fail-on: ${quote(item)} is not a finding type; write all, none, a type such as KASAN-*, title:PATTERN or fingerprint:HEX.`,
        'fail-on',
      )
    })
}

const DAY = /^\d{4}-\d\d-\d\d$/

function parseRule(entry: unknown, origin: string): IgnoreRule {
  const invalid = (what: string) => new InputError(`${origin}: ${what}.`, 'ignore')
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry))
    throw invalid('a rule is a mapping of `name: value`')
  const { type, title, fingerprint, between, reason, expires, ...rest } = entry as Record<string, unknown>
  const [unknown] = Object.keys(rest)
  if (unknown)
    throw invalid(
      `${quote(unknown)} is unknown; a rule has type, title, fingerprint or between, and reason and expires`,
    )
  if (typeof reason !== 'string' || reason.trim() === '') throw invalid('a rule needs a reason')
  const day = expires instanceof Date ? expires.toISOString().slice(0, 10) : expires
  if (typeof day !== 'string' || !DAY.test(day) || Number.isNaN(Date.parse(day)))
    throw invalid('a rule needs the day on which it expires, as expires: YYYY-MM-DD')
  const given = Object.entries({ type, title, fingerprint, between }).filter(
    ([, value]) => value !== undefined,
  )
  const [name, value] = given[0] ?? []
  if (given.length !== 1 || !name)
    throw invalid('a rule has exactly one of type, title, fingerprint and between')
  const base = { reason: reason.trim(), expires: day, origin }
  if (name === 'between') {
    const [begin, end] = Array.isArray(value) ? value : []
    if (typeof begin !== 'string' || typeof end !== 'string' || begin === '' || end === '')
      throw invalid('between takes two parts of console lines, [BEGIN, END]')
    return { ...base, select: { by: 'between', begin, end } }
  }
  if (typeof value !== 'string' && typeof value !== 'number') throw invalid(`${name} is one pattern`)
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
    throw new InputError(`ignore: ${name} is not valid YAML: ${messageOf(error).split('\n')[0]}.`, 'ignore')
  }
  if (parsed === undefined || parsed === null) return []
  if (!Array.isArray(parsed)) throw new InputError(`ignore: ${name} is not a list of rules.`, 'ignore')
  return parsed.map((entry, index) => parseRule(entry, `ignore: rule ${index + 1} of ${name}`))
}
