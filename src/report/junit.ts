import Builder from 'fast-xml-builder'
import type { Status, TestNode, TestReport } from '../triage/tests.js'
import { isBad } from '../triage/tests.js'

/** The element for a test's status. JUnit's "error" is a test without a result. */
const ELEMENTS: Readonly<Record<Status, 'failure' | 'error' | 'skipped' | undefined>> = {
  passed: undefined,
  failed: 'failure',
  crashed: 'error',
  missing: 'error',
  skipped: 'skipped',
}

interface Suite {
  name: string
  cases: TestNode[]
}

/** What XML 1.0 allows in a document, section 2.2 "Characters": everything else is replaced, lone surrogates too. */
const FORBIDDEN = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu

const text = (value: string) => value.replace(FORBIDDEN, '\u{fffd}')

/** True if a test failed and none of its subtests failed: it is a test case itself then. */
const failedAlone = (test: TestNode) =>
  isBad(test.status) && !test.subtests.some(({ status }) => isBad(status))

/** Each test with subtests is a suite, named by its path; suites are no part of each other. */
function flatten(name: string, tests: readonly TestNode[], suites: Suite[]): Suite[] {
  const suite: Suite = { name, cases: tests.filter(test => test.subtests.length === 0) }
  if (suite.cases.length > 0) suites.push(suite)
  for (const test of tests) {
    if (test.subtests.length === 0) continue
    const path = `${name}/${test.name}`
    const from = suites.length
    flatten(path, test.subtests, suites)
    if (!failedAlone(test)) continue
    const own = suites[from]?.name === path ? suites[from] : undefined
    if (own) own.cases.push(test)
    else suites.splice(from, 0, { name: path, cases: [test] })
  }
  return suites
}

function testCase(suite: Suite, { name, status, reason, log }: TestNode) {
  const element = ELEMENTS[status]
  const message = text(reason ?? status)
  return {
    '@classname': text(suite.name),
    '@name': text(name),
    ...(element === 'skipped' ? { skipped: reason ? { '@message': message } : '' } : {}),
    ...(element === 'failure' || element === 'error'
      ? { [element]: { '@message': message, '@type': status, '#text': message } }
      : {}),
    ...(log.length > 0 ? { 'system-out': text(log.join('\n')) } : {}),
  }
}

function totals(cases: readonly TestNode[]) {
  const count = (wanted: string) => cases.filter(({ status }) => ELEMENTS[status] === wanted).length
  return {
    '@tests': cases.length,
    '@failures': count('failure'),
    '@errors': count('error'),
    '@skipped': count('skipped'),
  }
}

/**
 * The report as JUnit XML, as Jenkins, GitLab and test reporters on GitHub read it. Suites and classes are named by
 * the path of the tests around, from `name` on. Test cases are counted by the element: one that stands for several
 * missing tests is one here, and its message has their number.
 */
export function toJunit(report: TestReport, name: string): string {
  const suites = flatten(name, report.tests, [])
  const builder = new Builder({
    attributeNamePrefix: '@',
    ignoreAttributes: false,
    format: true,
    suppressEmptyNode: true,
    // a test may be called "true"
    suppressBooleanAttributes: false,
  })
  const errors = report.errors.length > 0 ? { 'system-err': text(report.errors.join('\n')) } : {}
  if (suites.length === 0) suites.push({ name, cases: [] })
  return builder.build({
    '?xml': { '@version': '1.0', '@encoding': 'UTF-8' },
    testsuites: {
      '@name': text(name),
      ...totals(suites.flatMap(({ cases }) => cases)),
      testsuite: suites.map((suite, index) => ({
        '@name': text(suite.name),
        ...totals(suite.cases),
        testcase: suite.cases.map(test => testCase(suite, test)),
        ...(index === 0 ? errors : {}),
      })),
    },
  })
}
