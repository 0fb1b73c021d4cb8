import { stripVTControlCharacters } from 'node:util'
import type { Status } from './tests.js'

/** Characters after which a line is cut before it is parsed: no line of KTAP is that long. */
const MAX_LINE = 4096
/** Columns of a tab: KUnit indented with tabs before it did with four spaces. */
const TAB_COLUMNS = 4

/** A test's result line: `ok 1 name`, `not ok 2 name # TIMEOUT 45 seconds`. */
export interface ResultLine {
  kind: 'result'
  number: number
  name: string
  status: Status
  reason?: string
}

export type Meaning =
  | ResultLine
  | { kind: 'version'; dialect: 'KTAP' | 'TAP'; version: number }
  | { kind: 'plan'; count: number; reason?: string }
  /** the name of the test whose subtests follow */
  | { kind: 'subtest'; name: string }
  /** kselftest's runner starts a program, whose output follows with "# " before it */
  | { kind: 'selftest'; name: string }
  | { kind: 'bail'; reason: string }
  | { kind: 'panic'; reason: string }
  /** a kernel starts: all earlier tests have ended */
  | { kind: 'boot' }
  | { kind: 'text' }

export interface KtapLine {
  /** without prefix, colours and trailing space; with its indentation */
  text: string
  /** the column where the meaning starts; a "# " before it takes two */
  column: number
  /** the meaning comes after a "# " */
  hashed: boolean
  meaning: Meaning
}

const TEXT = { kind: 'text' } as const

/** What console, syslog and dmesg put before a line: `<6>`, `[    1.234567] `, `[    1.2][   T12] `, and dates. */
const PREFIX =
  /^(?:<\d{1,3}>|(?:kern|user) *:[a-z]+ *: |[A-Z][a-z]{2} [ \d]\d [\d:]{8} \S{1,255} kernel: )?(?:\[(?: *\d{1,12}\.\d{1,9}|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d [\d:]{8} \d{4})\](?:\[ *[TC]\d{1,10}\])? ?)?/

/** The line as it was printed by the test. */
function stripPrefix(raw: string): string {
  let text = raw.length > MAX_LINE ? raw.slice(0, MAX_LINE) : raw
  if (text.includes('\x1b')) text = stripVTControlCharacters(text)
  const line = /[[<A-Zku]/.test(text.charAt(0)) ? text.slice(PREFIX.exec(text)?.[0].length ?? 0) : text
  return line.trimEnd()
}

/**
 * The status of a result with a directive. SKIP is not a failure, with `ok` or `not ok`; with TODO and XFAIL a failure is
 * expected, so it is neither a failure nor a pass. TIMEOUT, ERROR and unknown directives leave the result as it is: Documentation/dev-tools/ktap.rst, "Test case result lines".
 */
const DIRECTIVES: Readonly<Record<string, { ok: Status; notOk: Status }>> = {
  SKIP: { ok: 'skipped', notOk: 'skipped' },
  SKIPPED: { ok: 'skipped', notOk: 'skipped' },
  TODO: { ok: 'passed', notOk: 'skipped' },
  XFAIL: { ok: 'passed', notOk: 'skipped' },
  TIMEOUT: { ok: 'passed', notOk: 'failed' },
  ERROR: { ok: 'passed', notOk: 'failed' },
}
const WITHOUT_DIRECTIVE = { ok: 'passed', notOk: 'failed' } as const

const RESULT = /^(not )?ok (\d+)(?:\s+(?:- )?(.*))?$/
const DIRECTIVE = /(?:^|\s)#\s*(SKIP|SKIPPED|TODO|XFAIL|TIMEOUT|ERROR)\b[:\s]*(.*)$/i
const REMARK = /(?:^|\s)#\s+(.*)$/
const PLAN = /^1\.\.(\d+)\s*(?:#\s*(?:SKIP\b[:\s]*)?(.*))?$/i
const VERSION = /^(K?TAP) version (\d+)$/
const SUBTEST = /^# Subtest: (.*)$/
const SELFTEST = /^# (selftests: \S+: \S.*)$/

function parseResult(body: string): Meaning | undefined {
  const [all, not, number, rest = ''] = RESULT.exec(body) ?? []
  if (all === undefined) return undefined
  const directive = DIRECTIVE.exec(rest)
  const remark = directive ?? REMARK.exec(rest)
  const keyword = directive?.[1]?.toUpperCase() ?? ''
  const comment = (directive?.[2] ?? remark?.[1] ?? '').trim()
  const reason = keyword === '' || keyword.startsWith('SKIP') ? comment : `${keyword} ${comment}`.trim()
  const name = remark ? rest.slice(0, remark.index).trim() : rest
  return {
    kind: 'result',
    number: Number(number),
    // programs of kselftest name a skipped test after the directive: `ok 3 # SKIP name`
    name: name || comment || `test ${number}`,
    status: (DIRECTIVES[keyword] ?? WITHOUT_DIRECTIVE)[not ? 'notOk' : 'ok'],
    ...(reason ? { reason } : {}),
  }
}

/** Parsers of a line by its first character, which is enough to see that most lines are text. */
const PARSERS: Readonly<Record<string, (body: string) => Meaning | undefined>> = {
  o: parseResult,
  n: parseResult,
  '1': body => {
    const plan = PLAN.exec(body)
    return plan
      ? { kind: 'plan', count: Number(plan[1]), ...(plan[2] ? { reason: plan[2] } : {}) }
      : undefined
  },
  T: parseVersion,
  K: body => (body.startsWith('Kernel panic - ') ? { kind: 'panic', reason: body } : parseVersion(body)),
  B: body => (body.startsWith('Bail out!') ? { kind: 'bail', reason: body } : undefined),
  L: body => (/^Linux version \d/.test(body) ? { kind: 'boot' } : undefined),
}

function parseVersion(body: string): Meaning | undefined {
  const [, dialect, number] = VERSION.exec(body) ?? []
  return dialect
    ? { kind: 'version', dialect: dialect as 'KTAP' | 'TAP', version: Number(number) }
    : undefined
}

function parseAnnouncement(body: string): Meaning | undefined {
  const subtest = SUBTEST.exec(body)?.[1]
  if (subtest !== undefined) return { kind: 'subtest', name: subtest }
  const selftest = SELFTEST.exec(body)?.[1]
  return selftest === undefined ? undefined : { kind: 'selftest', name: selftest }
}

/**
 * Parses one line of a console log or of a program's output, with or without its prefix. The lines with a meaning are
 * from Documentation/dev-tools/ktap.rst, tools/testing/selftests/kselftest/runner.sh and lib/kunit/test.c. Whether
 * a line has its meaning at its position is decided by the parser.
 */
export function parseLine(raw: string): KtapLine {
  const text = stripPrefix(raw)
  let column = 0
  let hashed = false
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at)
    if (char === ' ') column += 1
    else if (char === '\t') column += TAB_COLUMNS
    else if (char === '#' && text.charAt(at + 1) === ' ') {
      const meaning = parseAnnouncement(text.slice(at))
      if (meaning) return { text, column, hashed, meaning }
      hashed = true
      column += 2
      at += 1
    } else {
      const meaning = PARSERS[char]?.(text.slice(at)) ?? TEXT
      // programs print /proc/version too: the banner of a kernel that starts has the time stamp of its start
      const isFake = meaning.kind === 'boot' && (hashed || !/^\S*\[ *0\.0/.test(raw))
      return { text, column, hashed, meaning: isFake ? TEXT : meaning }
    }
  }
  return { text, column, hashed, meaning: TEXT }
}

/** The text without its first columns of white space and, for the output of a program, of "# ". */
export function dedent(text: string, columns: number, hashed: boolean): string {
  let at = 0
  for (let column = 0; column < columns && at < text.length; at++) {
    const char = text.charAt(at)
    if (char !== ' ' && char !== '\t' && !(hashed && char === '#')) break
    column += char === '\t' ? TAB_COLUMNS : 1
  }
  return text.slice(at)
}
