import { dedent, type KtapLine, type Meaning, parseLine, type ResultLine } from './ktap-line.js'
import { isFresh, isPlanFulfilled, type OpenTest, type OpenTestFacts, TestTree } from './ktap-tree.js'
import { copyText, plural, type TestReport } from './tests.js'

export interface KtapParser {
  /** Takes the next line, with or without its end. */
  line(text: string): void
  /** Ends the stream. Undefined where there was no KTAP at all. */
  end(): TestReport | undefined
}

type MeaningOf<Kind extends Meaning['kind']> = Meaning & { kind: Kind }

/** The first and the last version of each dialect that is known. */
const VERSIONS = { KTAP: [1, 1], TAP: [12, 14] } as const
/** larger plans are cut, so that sums stay exact */
const MAX_PLAN = 1e12

/**
 * Parses KTAP, TAP, KUnit and kselftest results out of a stream of lines, with any other lines between them. Lines belong
 * together by their column, since KTAP demands indentation, and by the names of tests where columns are not enough.
 */
export function ktapParser(): KtapParser {
  return new Parser()
}

class Parser implements KtapParser {
  private readonly tree = new TestTree()
  private started = false

  line(text: string): void {
    // nothing else can start a document: this is all that a log without one costs
    if (!this.started && !text.includes('TAP version ')) return
    const line = parseLine(text)
    if (this.interpret(line) || line.text === '') return
    const test = this.tree.innermost
    if (!test || (test.document && isPlanFulfilled(test))) return
    this.tree.addLogLine(test, dedent(line.text, test.column, test.hashed))
  }

  end(): TestReport | undefined {
    this.tree.closeAll()
    return this.started ? this.tree.toReport() : undefined
  }

  /** Applies a line to the tests. False where it has no meaning at its position: then it is a line of a log. */
  private interpret(line: KtapLine): boolean {
    const { meaning } = line
    switch (meaning.kind) {
      case 'version':
        return this.version(line, meaning)
      case 'subtest':
        return this.subtest(line, meaning)
      case 'selftest':
        return this.selftest(line, meaning)
      case 'plan':
        return this.plan(line, meaning)
      case 'result':
        return this.result(line, meaning)
      case 'bail':
        return this.bailOut(line, meaning)
      case 'panic':
        if (!line.hashed) this.tree.panic ??= copyText(meaning.reason)
        return false
      case 'boot':
        this.tree.closeAll()
        this.tree.panic = undefined
        return true
      case 'text':
        return false
    }
  }

  private version({ column, hashed }: KtapLine, meaning: MeaningOf<'version'>): boolean {
    const { tree } = this
    this.started = true
    this.checkVersion(meaning)
    const inner = tree.innermost
    // a module that was loaded prints a document of its own, which may be indented
    if (inner?.document && isPlanFulfilled(inner)) tree.close()
    else if (inner && isFresh(inner) && inner.name && inner.column === column && !inner.program) return true
    // a line without "# " is not of the program that runs, but belongs to its test
    tree.closeWhile(test => (test.program ? hashed && test.column > column : test.column >= column))
    const parent = tree.innermost
    if (parent?.program && parent.column === column) {
      // the next document of the same program
      tree.endPlan(parent)
      return true
    }
    const document = !parent || parent.program
    return tree.openTest({
      ...{ column, hashed, document },
      flat: parent !== undefined && parent.column >= column,
    })
  }

  private checkVersion({ dialect, version }: MeaningOf<'version'>): void {
    const [first, last] = VERSIONS[dialect]
    if (version < first || version > last)
      this.tree.error(undefined, `${dialect} version ${version} is not known.`)
  }

  private subtest(line: KtapLine, { name }: MeaningOf<'subtest'>): boolean {
    const { column, hashed } = line
    // programs of kselftest may print such a line as text
    if (this.tree.innermost?.program && !hashed) return false
    if (!this.started || !this.closeDeeper(line)) return false
    const test = this.tree.innermost
    const isSame = test?.column === column && isFresh(test) && !test.program
    // at column 0 a document gets no name: no result line could end it
    if (test && isSame && test.name === undefined && !(test.document && column === 0)) {
      test.name = copyText(name)
      return true
    }
    return this.tree.openTest({ column, hashed, name: copyText(name), flat: test?.column === column })
  }

  private selftest(line: KtapLine, { name }: MeaningOf<'selftest'>): boolean {
    const { column } = line
    if (!this.tree.openTests.some(test => test.column === column) || !this.closeDeeper(line)) return false
    const facts: OpenTestFacts = { column: column + 2, hashed: true, program: true, name: copyText(name) }
    return this.tree.openTest(facts)
  }

  private plan({ column, hashed }: KtapLine, { count, reason }: MeaningOf<'plan'>): boolean {
    const { innermost, openTests } = this.tree
    const isFirstDeeper = innermost && isFresh(innermost) && innermost.column < column && !hashed
    const test =
      openTests.findLast(test => test.column === column && (test.hashed || !hashed)) ??
      (isFirstDeeper ? innermost : undefined)
    if (!test) return false
    if (test.plan === undefined) test.plan = Math.min(count, MAX_PLAN)
    else this.tree.error(test.name, `A second plan, of ${plural(count, 'test')}, is ignored.`)
    test.skip = reason && copyText(reason)
    return true
  }

  /**
   * A result ends the open test of its name; else the innermost one deeper than it that has no name yet; else it is a
   * test without subtests.
   */
  private result(line: KtapLine, result: ResultLine): boolean {
    if (!this.isInOpenOutput(line)) return false
    return (
      this.closeNamed(line, result) || this.closeUnnamed(line.column, result) || this.tree.addResult(result)
    )
  }

  /** Closes the test that a result is of by its name, with all tests inside it. False where no open test is meant. */
  private closeNamed({ column }: KtapLine, result: ResultLine): boolean {
    const { openTests } = this.tree
    const name = copyText(result.name)
    const isDeeper = (test: OpenTest) => test.column > column || (test.flat && test.column === column)
    const outermost = openTests.findIndex(isDeeper)
    const index =
      openTests[outermost]?.name === name
        ? outermost
        : openTests.findLastIndex(test => isDeeper(test) && test.name === name)
    if (index < 0) return false
    while (openTests.length > index + 1) this.tree.close()
    this.tree.close(result)
    return true
  }

  /**
   * Closes the tests deeper than a result. The outermost of them gets the result if it has no name; false if none does.
   */
  private closeUnnamed(column: number, result: ResultLine): boolean {
    const { tree } = this
    for (let test = tree.innermost; test && test.column > column; test = tree.innermost) {
      const isOutermost = (tree.openTests.at(-2)?.column ?? -1) <= column
      if (isOutermost && test.name === undefined) {
        tree.close(result)
        return true
      }
      tree.close()
    }
    return false
  }

  private bailOut({ column }: KtapLine, { reason }: MeaningOf<'bail'>): boolean {
    const test = this.tree.openTests.findLast(test => test.column === column)
    if (test) test.bail = copyText(reason)
    return false
  }

  /** Closes the tests deeper than a line. False where the line cannot have its meaning. */
  private closeDeeper(line: KtapLine): boolean {
    if (!this.isInOpenOutput(line)) return false
    this.tree.closeWhile(test => test.column > line.column)
    return true
  }

  /** False for a line behind "# " that is not output of an open test. */
  private isInOpenOutput({ column, hashed }: KtapLine): boolean {
    return !hashed || this.tree.openTests.some(test => test.hashed && test.column === column)
  }
}
