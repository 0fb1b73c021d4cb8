import type { FailedTest, TestFacts } from '../result.js'
import { isBad, plural, type Status, type TestNode, type TestReport } from '../triage/tests.js'
import { codeBlock, inline } from './markdown.js'

const ROWS = 50
const LOGS = 5
const ERRORS = 10

const MARKS: Readonly<Record<Status, string>> = {
  passed: '✅',
  failed: '❌',
  crashed: '💥',
  missing: '❔',
  skipped: '⏭️',
}

/** failures that result.json names, and those of them whose output it holds */
const MOST_FAILURES = 500
const MOST_SKIPS = 100

/** Tests with one of these statuses, in the order of the log, without those whose status is only that of their subtests. */
function rows(tests: readonly TestNode[], wanted: (status: Status) => boolean, around = ''): FailedTest[] {
  return tests.flatMap(({ name, status, reason, log, subtests }) => {
    const path = `${around}${name}`
    const below = rows(subtests, wanted, `${path}/`)
    return below.length > 0 || !wanted(status)
      ? below
      : [{ path, status, ...(reason ? { reason } : {}), ...(log.length > 0 ? { log } : {}) }]
  })
}

/** What result.json holds of a report: counts, and what did not pass. */
export function testFacts(report: TestReport): TestFacts {
  const failures = rows(report.tests, isBad).slice(0, MOST_FAILURES)
  for (const failure of failures.slice(LOGS)) delete failure.log
  const skips = rows(report.tests, status => status === 'skipped').slice(0, MOST_SKIPS)
  for (const skip of skips) delete skip.log
  return { counts: report.counts, failures, skips, errors: report.errors }
}

/** `41 tests: 38 passed, 2 failed, 1 skipped`: one line for a terminal, of which nothing comes from the tests. */
export function testsLine({ counts }: Pick<TestFacts, 'counts'>): string {
  const order = ['passed', 'failed', 'crashed', 'missing', 'skipped'] as const
  const parts = order
    .filter(status => counts[status] > 0)
    .map(status => `${counts[status]} ${status}`)
    .join(', ')
  return `${plural(counts.total, 'test')}${parts ? `: ${parts}` : ''}`
}

/** Text inside a line of HTML. */
function html(value: string): string {
  return value.replace(/\s+/g, ' ').slice(0, 300).replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}

function failureDetails({ path, log = [] }: FailedTest): string {
  return `<details><summary>${html(path)}</summary>\n\n${codeBlock(log.join('\n'), 50, 8 * 1024)}\n</details>\n`
}

/** The report as Markdown for a job summary: what failed comes first. Its size is bounded, whatever was tested. */
export function renderTests(facts: TestFacts): string {
  const { failures, skips, errors: broken } = facts
  const listed = [...failures, ...skips]
  const table = listed
    .slice(0, ROWS)
    .map(
      ({ path, status, reason }) =>
        `| ${MARKS[status]} ${status} | ${inline(path)} | ${inline(reason ?? '')} |`,
    )
  const errors = broken.slice(0, ERRORS).map(error => `- ⚠️ ${inline(error)}`)
  const more = (all: number, shown: number) => (all > shown ? [`and ${all - shown} more`] : [])
  const blocks = [
    ['### Tests'],
    [testsLine(facts)],
    table.length > 0 ? ['| Status | Test | Reason |', '|---|---|---|', ...table] : [],
    more(listed.length, ROWS),
    failures
      .filter(({ log }) => log !== undefined)
      .slice(0, LOGS)
      .map(failureDetails),
    [...errors, ...more(broken.length, ERRORS)],
  ]
  return `${blocks
    .filter(lines => lines.length > 0)
    .map(lines => lines.join('\n'))
    .join('\n\n')}\n`
}
