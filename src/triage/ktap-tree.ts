import type { ResultLine } from './ktap-line.js'
import type { TestCounts, TestNode, TestReport, TestWithoutLog } from './tests.js'
import {
  addCounts,
  countTest,
  failures,
  isBad,
  keepLine,
  LIMITS,
  noCounts,
  plural,
  ReportBuilder,
  statusWithSubtests,
} from './tests.js'

/** A test, or a whole document, whose result line has not been read yet. */
export interface OpenTest {
  /** undefined in a document, and in a KTAP subtest until its result */
  name?: string
  /** column of its results */
  column: number
  /** its results are behind "# " */
  hashed: boolean
  /** its own result is in the same column as its subtests' results */
  flat: boolean
  /** a program that kselftest's runner started */
  program: boolean
  /** opened by a version line and not part of a test: its results are those of the test around it */
  document: boolean
  plan?: number
  skip?: string
  bail?: string
  /** results since the plan */
  results: number
  /** the number that the next result should have */
  nextNumber: number
  counts: TestCounts
  subtests: TestNode[]
  /** lines of the test itself */
  log: string[]
  /** lines since the last result: the log of the subtest that comes next */
  pendingLog: string[]
}

export type OpenTestFacts = Partial<
  Pick<OpenTest, 'name' | 'column' | 'hashed' | 'flat' | 'program' | 'document'>
>

function openTest(facts: OpenTestFacts, log: string[] = []): OpenTest {
  return {
    ...{ column: -1, hashed: false, flat: false, program: false, document: false, ...facts },
    ...{ results: 0, nextNumber: 1, counts: noCounts(), subtests: [], log, pendingLog: [] },
  }
}

export const isPlanFulfilled = (test: OpenTest) => test.plan !== undefined && test.results >= test.plan
/** True before the first plan and result. */
export const isFresh = (test: OpenTest) => test.plan === undefined && test.results === 0

/**
 * The tests that are open, from the outermost to the innermost, and the report to which tests are added as they close.
 * It knows plans, results and counts; which line opens or closes a test is decided by the parser.
 */
export class TestTree {
  /** how the kernel died; the reason of every test that is open then */
  panic: string | undefined
  private readonly root = openTest({})
  private readonly open: OpenTest[] = []
  private readonly report = new ReportBuilder()

  get innermost(): OpenTest | undefined {
    return this.open.at(-1)
  }

  /** The open tests, the outermost first. */
  get openTests(): readonly OpenTest[] {
    return this.open
  }

  /** Opens a test in the innermost one; false if the nesting is too deep. */
  openTest(facts: OpenTestFacts): boolean {
    if (this.open.length >= LIMITS.depth) {
      this.error(undefined, `Tests are nested more than ${LIMITS.depth} deep.`)
      return false
    }
    const parent = this.innermost
    this.open.push(openTest(facts, parent?.pendingLog))
    if (parent) parent.pendingLog = []
    return true
  }

  /** Closes the innermost test: with its result, or without where none was printed. */
  close(result?: ResultLine): void {
    const test = this.open.pop()
    if (!test) return
    const parent = this.innermost ?? this.root
    const isPlannedEmpty = test.plan === 0
    this.endPlan(test)
    if (test.document && test.name === undefined && !result) this.mergeDocument(parent, test, isPlannedEmpty)
    else this.addClosedTest(parent, test, result)
  }

  /** Closes the innermost tests as long as `condition` is true of them. */
  closeWhile(condition: (test: OpenTest) => boolean): void {
    for (let test = this.innermost; test && condition(test); test = this.innermost) this.close()
  }

  closeAll(): void {
    while (this.open.length > 0) this.close()
  }

  /** Adds a test without subtests to the innermost one; false if no test is open. */
  addResult(result: ResultLine): boolean {
    const parent = this.innermost
    if (!parent) return false
    countTest(parent.counts, result.status)
    this.report.addTest(parent.subtests, { ...result, subtests: [] }, parent.pendingLog)
    parent.pendingLog = []
    this.noteResult(parent, result)
    return true
  }

  /** Adds a line to the log of the innermost test, or of the subtest that comes next. */
  addLogLine(test: OpenTest, line: string): void {
    keepLine(isFresh(test) && !test.document ? test.log : test.pendingLog, line)
  }

  /** Compares results with the plan, and makes the test ready for another plan: a document may have several. */
  endPlan(test: OpenTest): void {
    const missing = (test.plan ?? 0) - test.results
    if (missing > 0) this.addMissing(test, missing)
    else if (test.bail && test.document) this.addBailOut(test, test.bail)
    if (test.plan !== undefined && missing < 0)
      this.error(
        test.name,
        `There are ${plural(test.results, 'result')}, but ${plural(test.plan, 'test')} planned.`,
      )
    test.plan = undefined
    test.bail = undefined
    test.results = 0
    test.nextNumber = 1
  }

  /** Records an error of the KTAP itself. `test` is the name of the test that it is in. */
  error(test: string | undefined, sentence: string): void {
    this.report.error(test, sentence)
  }

  /** The results of all tests; to be called when all are closed. */
  toReport(): TestReport {
    return { counts: this.root.counts, tests: this.root.subtests, errors: this.report.errors() }
  }

  private addMissing(test: OpenTest, missing: number): void {
    const why = test.bail ?? this.panic
    const reason = `${plural(missing, 'planned test')} never ran${why ? `: ${why}` : ''}`
    countTest(test.counts, 'missing', missing)
    const facts: TestWithoutLog = { name: 'missing tests', status: 'missing', reason, subtests: [] }
    this.report.addTest(test.subtests, facts, test.pendingLog)
    test.pendingLog = []
  }

  private addBailOut(test: OpenTest, reason: string): void {
    countTest(test.counts, 'crashed')
    const facts: TestWithoutLog = { name: 'Bail out!', status: 'crashed', reason, subtests: [] }
    this.report.addTest(test.subtests, facts, test.pendingLog)
  }

  /** A document is not a test: its tests are its parent's. */
  private mergeDocument(
    parent: OpenTest,
    { counts, skip, subtests }: OpenTest,
    isPlannedEmpty: boolean,
  ): void {
    // a kernel with KUnit and no suite prints an empty plan at every boot
    if (counts.total === 0 && (skip || !isPlannedEmpty))
      this.error(undefined, `0 tests ran${skip ? `: ${skip}` : ''}.`)
    addCounts(parent.counts, counts)
    for (const test of subtests) parent.subtests.push(test)
  }

  private addClosedTest(parent: OpenTest, test: OpenTest, result?: ResultLine): void {
    const { counts, subtests } = test
    const own = result?.status ?? 'crashed'
    const status = statusWithSubtests(own, counts)
    const name = test.name ?? result?.name ?? 'a test without a name'
    const ownReason = result ? result.reason : (this.panic ?? 'It started, but has no result.')
    const subtestFailed = isBad(status) && !isBad(own) ? 'A subtest did not pass.' : undefined
    const reason = ownReason ?? test.skip ?? subtestFailed
    const isEmpty = counts.total === 0
    if (isEmpty && status === 'passed' && !test.program) this.error(name, '0 tests ran.')
    addCounts(parent.counts, counts)
    if (isEmpty || (isBad(own) && failures(counts) === 0)) countTest(parent.counts, status)
    this.report.addTest(parent.subtests, { name, status, reason, subtests }, [
      ...test.log,
      ...test.pendingLog,
    ])
    this.noteResult(parent, result)
  }

  /** Counts one more result of a test, and checks its number. */
  private noteResult(test: OpenTest, result?: ResultLine): void {
    if (result && test !== this.root && result.number !== test.nextNumber)
      this.error(
        test.name,
        `Expected test number ${test.nextNumber}, but found ${result.number} (${result.name}).`,
      )
    test.results += 1
    test.nextNumber = (result?.number ?? test.nextNumber) + 1
  }
}
