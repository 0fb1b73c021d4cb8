/**
 * How a test ended. `crashed`: it started, but there is no result. `missing`: it was planned, but never seen.
 */
export type Status = 'passed' | 'failed' | 'skipped' | 'crashed' | 'missing'

export type TestCounts = Record<Status | 'total', number>

export interface TestNode {
  name: string
  status: Status
  reason?: string
  /** what was printed while it ran, see LIMITS for how much of it */
  log: string[]
  subtests: TestNode[]
}

/**
 * The results of all KTAP documents of a stream. Counts are of tests without subtests; a test that failed by itself,
 * although none of its subtests did, counts too, since no failure may go uncounted. One node of status `missing`
 * stands for as many tests as its reason says, and counts as many.
 */
export interface TestReport {
  counts: TestCounts
  tests: TestNode[]
  /** sentences about output that breaks the rules of KTAP, none of which makes a test fail */
  errors: string[]
}

/** Tests that did not do what they should. */
export function failures({ failed, crashed, missing }: TestCounts): number {
  return failed + crashed + missing
}

/** Bounds of memory, whatever is printed. */
export const LIMITS = {
  /** lines of a test's log, the last ones */
  lines: 50,
  /** characters of a line, a name, a reason */
  text: 500,
  depth: 16,
  /** nodes; further tests that passed or were skipped are counted only */
  tests: 100_000,
  /** nodes above that for tests that failed */
  failures: 10_000,
  errors: 100,
  /** characters of all logs together after which those of passed tests are left out */
  passedLogs: 4 * 1024 * 1024,
  /** characters of all logs together after which all are left out */
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

/** The status of a test with subtests: at least as bad as theirs, as "Nested tests" of ktap.rst wants it. */
export function bubble(own: Status, { crashed, failed, missing }: TestCounts): Status {
  if (crashed > 0) return 'crashed'
  if (isBad(own)) return own
  return failed + missing > 0 ? 'failed' : own
}

/** Bounded text in a string of its own: a slice would keep the whole chunk of input alive. */
export function copy(text: string): string {
  return Buffer.from(text.slice(0, LIMITS.text), 'utf16le').toString('utf16le')
}

/** Adds a line to a log whose last lines matter. */
export function keepLine(log: string[], line: string): void {
  log.push(line)
  if (log.length >= 4 * LIMITS.lines) log.splice(0, log.length - LIMITS.lines)
}

export const plural = (number: number, what: string) => `${number} ${what}${number === 1 ? '' : 's'}`

/** Collects nodes and errors within LIMITS. */
export function ledger() {
  const errors: string[] = []
  let unsaid = 0
  let listed = 0
  let logged = 0

  function error(test: string | undefined, sentence: string): void {
    const text = copy(test ? `${test}: ${sentence}` : sentence)
    if (errors.at(-1) === text) return
    if (errors.length < LIMITS.errors) errors.push(text)
    else unsaid += 1
  }

  function logOf(lines: readonly string[], status: Status): string[] {
    if (logged > (status === 'passed' ? LIMITS.passedLogs : LIMITS.logs)) return []
    const log = lines.slice(-LIMITS.lines).map(copy)
    for (const line of log) logged += line.length
    return log
  }

  return {
    error,
    errors: () => (unsaid > 0 ? [...errors, `And ${plural(unsaid, 'error')} more.`] : errors),
    /** Adds a node, of which `lines` is the log. */
    list(nodes: TestNode[], facts: Omit<TestNode, 'log'>, lines: readonly string[]): void {
      const { name, status, reason, subtests } = facts
      const room = LIMITS.tests + (isBad(status) ? LIMITS.failures : 0)
      // without their parent the subtests would be lost too
      if (listed >= room && subtests.length === 0) {
        error(undefined, `Tests after the first ${LIMITS.tests} are counted, but not all are listed.`)
        return
      }
      listed += 1
      const said = reason ? { reason: copy(reason) } : {}
      nodes.push({ name: copy(name), status, ...said, log: logOf(lines, status), subtests })
    },
  }
}
