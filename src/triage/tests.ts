/** The result of a test. `crashed`: it started, but has no result. `missing`: it was planned, but never ran. */
export type Status = 'passed' | 'failed' | 'skipped' | 'crashed' | 'missing'

export type TestCounts = Record<Status | 'total', number>

export interface TestNode {
  name: string
  status: Status
  reason?: string
  /** the last lines that were printed while it ran, see LIMITS */
  log: string[]
  subtests: TestNode[]
}

/**
 * The results of all KTAP documents of a stream. Counts are of tests without subtests; a test that failed by itself,
 * although none of its subtests did, counts too, so that no failure goes uncounted. One node of status `missing` stands
 * for as many tests as its reason says, and counts as many.
 */
export interface TestReport {
  counts: TestCounts
  tests: TestNode[]
  /** sentences about output that violates KTAP; none of them makes a test fail */
  errors: string[]
}

/** The number of tests that failed, crashed or are missing. */
export function failures({ failed, crashed, missing }: TestCounts): number {
  return failed + crashed + missing
}

/** Limits of memory, whatever the guest prints. */
export const LIMITS = {
  /** lines of a test's log, the last ones */
  lines: 50,
  /** characters of a line, a name, a reason */
  text: 500,
  depth: 16,
  /** nodes; further tests that passed or were skipped are only counted */
  tests: 100_000,
  /** nodes beyond `tests` for tests that failed */
  failures: 10_000,
  errors: 100,
  /** characters of all logs together after which the logs of passed tests are left out */
  passedLogs: 4 * 1024 * 1024,
  /** characters of all logs together after which all logs are left out */
  logs: 32 * 1024 * 1024,
} as const

export function noCounts(): TestCounts {
  return { passed: 0, failed: 0, skipped: 0, crashed: 0, missing: 0, total: 0 }
}

export function countTest(counts: TestCounts, status: Status, tests = 1): void {
  counts[status] += tests
  counts.total += tests
}

export function addCounts(counts: TestCounts, more: TestCounts): void {
  for (const key of Object.keys(counts) as (keyof TestCounts)[]) counts[key] += more[key]
}

export const isBad = (status: Status) => status !== 'passed' && status !== 'skipped'

/** The status of a test with subtests: at least as bad as theirs (ktap.rst, "Nested tests"). */
export function statusWithSubtests(own: Status, { crashed, failed, missing }: TestCounts): Status {
  if (crashed > 0) return 'crashed'
  if (isBad(own)) return own
  return failed + missing > 0 ? 'failed' : own
}

/** Text cut to its limit, as a new string: a slice would keep the whole chunk of input in memory. */
export function copyText(text: string): string {
  return Buffer.from(text.slice(0, LIMITS.text), 'utf16le').toString('utf16le')
}

/** Adds a line to a log of which the last lines are kept. */
export function keepLine(log: string[], line: string): void {
  log.push(line)
  if (log.length >= 4 * LIMITS.lines) log.splice(0, log.length - LIMITS.lines)
}

export const plural = (number: number, what: string) => `${number} ${what}${number === 1 ? '' : 's'}`

/** A test without its log. */
export type TestWithoutLog = Omit<TestNode, 'log'>

/** Collects tests and errors within LIMITS. */
export class ReportBuilder {
  private readonly messages: string[] = []
  private omittedErrors = 0
  private tests = 0
  /** characters of all logs */
  private logSize = 0

  /** Records an error of the KTAP itself. `test` is the name of the test that it is in. */
  error(test: string | undefined, sentence: string): void {
    const text = copyText(test ? `${test}: ${sentence}` : sentence)
    if (this.messages.at(-1) === text) return
    if (this.messages.length < LIMITS.errors) this.messages.push(text)
    else this.omittedErrors += 1
  }

  errors(): string[] {
    if (this.omittedErrors === 0) return this.messages
    return [...this.messages, `And ${plural(this.omittedErrors, 'error')} more.`]
  }

  /** Adds a test to `tests`; `lines` is its log. */
  addTest(
    tests: TestNode[],
    { name, status, reason, subtests }: TestWithoutLog,
    lines: readonly string[],
  ): void {
    const most = LIMITS.tests + (isBad(status) ? LIMITS.failures : 0)
    // without their parent the subtests would be lost too
    if (this.tests >= most && subtests.length === 0) {
      this.error(undefined, `Tests after the first ${LIMITS.tests} are counted, but not all are listed.`)
      return
    }
    this.tests += 1
    const optional = reason ? { reason: copyText(reason) } : {}
    tests.push({ name: copyText(name), status, ...optional, log: this.logOf(lines, status), subtests })
  }

  private logOf(lines: readonly string[], status: Status): string[] {
    if (this.logSize > (status === 'passed' ? LIMITS.passedLogs : LIMITS.logs)) return []
    const log = lines.slice(-LIMITS.lines).map(copyText)
    for (const line of log) this.logSize += line.length
    return log
  }
}
