import { dedent, type KtapLine, type Meaning, type ResultLine, readLine } from './ktap-line.js'
import type { TestCounts, TestNode, TestReport } from './tests.js'
import {
  addCounts,
  bubble,
  copy,
  countTest,
  failures,
  isBad,
  keepLine,
  LIMITS,
  ledger,
  noCounts,
  plural,
} from './tests.js'

export interface KtapParser {
  /** Takes the next line, with or without its end. */
  line(text: string): void
  /** Ends the stream. Undefined where there was no KTAP at all. */
  end(): TestReport | undefined
}

const VERSIONS = { KTAP: [1, 1], TAP: [12, 14] } as const

/** A test, or a whole document, whose result line is still to come. */
interface Frame {
  /** undefined in a document, and in a KTAP subtest until its result */
  name?: string
  /** where its results stand */
  column: number
  /** its results stand behind "# " */
  hashed: boolean
  /** its own result stands in the same column as its subtests' results */
  flat: boolean
  /** a program that kselftest's runner started */
  program: boolean
  /** opened by a version line and no part of a test: its results are those of the frame around it */
  document: boolean
  plan?: number
  skip?: string
  bail?: string
  /** results since the plan */
  seen: number
  /** the number that the next result should have */
  next: number
  counts: TestCounts
  children: TestNode[]
  /** lines of the frame itself */
  own: string[]
  /** lines since the last result: those of the test that comes next */
  pending: string[]
}

function newFrame(facts: Partial<Frame>): Frame {
  const rest = { column: -1, hashed: false, flat: false, program: false, document: false, seen: 0, next: 1 }
  return { ...rest, counts: noCounts(), children: [], own: [], pending: [], ...facts }
}

const isFulfilled = (frame: Frame) => frame.plan !== undefined && frame.seen >= frame.plan
const isUntouched = (frame: Frame) => frame.plan === undefined && frame.seen === 0

/**
 * Reads KTAP, TAP, KUnit and kselftest results out of a stream of lines, anything else in between. What belongs
 * together is told by the column first, since KTAP demands indentation, and by names where that is not enough.
 */
export function ktapParser(): KtapParser {
  const top = newFrame({})
  const stack: Frame[] = []
  const { list, error, errors } = ledger()
  let started = false
  let death: string | undefined

  const inner = () => stack.at(-1)

  /** Balances results with the plan. A frame may live on with another plan. */
  function settle(frame: Frame): void {
    const why = frame.bail ?? death
    const missing = (frame.plan ?? 0) - frame.seen
    if (missing > 0) {
      const reason = `${plural(missing, 'planned test')} never ran${why ? `: ${why}` : ''}`
      countTest(frame.counts, 'missing', missing)
      list(frame.children, { name: 'missing tests', status: 'missing', reason, subtests: [] }, frame.pending)
      frame.pending = []
    } else if (frame.bail && frame.document) {
      countTest(frame.counts, 'crashed')
      list(
        frame.children,
        { name: 'Bail out!', status: 'crashed', reason: frame.bail, subtests: [] },
        frame.pending,
      )
    }
    if (frame.plan !== undefined && missing < 0)
      error(
        frame.name,
        `There are ${plural(frame.seen, 'result')}, but ${plural(frame.plan, 'test')} planned.`,
      )
    frame.plan = undefined
    frame.bail = undefined
    frame.seen = 0
    frame.next = 1
  }

  /** Closes the innermost frame: with its result, or without where none came. */
  function close(result?: ResultLine): void {
    const frame = stack.pop()
    if (!frame) return
    const around = inner() ?? top
    const { skip, plan } = frame
    settle(frame)
    const empty = frame.counts.total === 0
    if (frame.document && frame.name === undefined && !result) {
      // a kernel with KUnit and no suite prints an empty plan at every boot
      if (empty && (skip || plan !== 0)) error(undefined, `0 tests ran${skip ? `: ${skip}` : ''}.`)
      addCounts(around.counts, frame.counts)
      for (const test of frame.children) around.children.push(test)
      return
    }
    const lacking = result ? result.reason : (death ?? 'It started, but has no result.')
    const own = result?.status ?? 'crashed'
    const status = bubble(own, frame.counts)
    const name = frame.name ?? result?.name ?? 'a test without a name'
    const subtestsFailed = isBad(status) && !isBad(own) ? 'A subtest did not pass.' : undefined
    const reason = lacking ?? skip ?? subtestsFailed
    if (empty && status === 'passed' && !frame.program) error(name, '0 tests ran.')
    addCounts(around.counts, frame.counts)
    if (empty || (isBad(own) && failures(frame.counts) === 0)) countTest(around.counts, status)
    list(around.children, { name, status, reason, subtests: frame.children }, [
      ...frame.own,
      ...frame.pending,
    ])
    took(around, result)
  }

  /** Notes that the frame has got one more result, and whether its number was the right one. */
  function took(frame: Frame, result?: ResultLine): void {
    if (result && frame !== top && result.number !== frame.next)
      error(frame.name, `Expected test number ${frame.next}, but found ${result.number} (${result.name}).`)
    frame.seen += 1
    frame.next = (result?.number ?? frame.next) + 1
  }

  function open(facts: Partial<Frame>): boolean {
    if (stack.length >= LIMITS.depth) {
      error(undefined, `Tests are nested more than ${LIMITS.depth} deep.`)
      return false
    }
    const around = inner()
    stack.push(newFrame({ ...facts, own: around?.pending ?? [] }))
    if (around) around.pending = []
    return true
  }

  function onVersion(line: KtapLine, { dialect, version }: Meaning & { kind: 'version' }): boolean {
    const { column, hashed } = line
    started = true
    const [least, most] = VERSIONS[dialect]
    if (version < least || version > most) error(undefined, `${dialect} version ${version} is not known.`)
    // a module that was loaded brings a document of its own, which may be indented
    const frame = inner()
    if (frame?.document && isFulfilled(frame)) close()
    else if (frame && isUntouched(frame) && frame.name && frame.column === column && !frame.program)
      return true
    // what has no "# " in front of it comes from beside the program that runs, and belongs to it
    const ends = (frame: Frame) => (frame.program ? hashed && frame.column > column : frame.column >= column)
    for (let frame = inner(); frame && ends(frame); frame = inner()) close()
    const around = inner()
    if (around?.program && around.column === column) {
      // the next document of the same program
      settle(around)
      return true
    }
    const document = !around || around.program
    return open({ column, hashed, document, flat: around !== undefined && around.column >= column })
  }

  /** Closes what stands deeper than a line. False where the line cannot mean what it says. */
  function closeDeeper({ column, hashed }: KtapLine): boolean {
    if (hashed && !stack.some(frame => frame.hashed && frame.column === column)) return false
    for (let frame = inner(); frame && frame.column > column; frame = inner()) close()
    return true
  }

  function onSubtest(line: KtapLine, { name }: Meaning & { kind: 'subtest' }): boolean {
    const { column, hashed } = line
    // programs of kselftest may print such a line as text
    if (inner()?.program && !hashed) return false
    if (!started || !closeDeeper(line)) return false
    const frame = inner()
    const fresh = frame?.column === column && isUntouched(frame) && !frame.program
    // at the left edge a document has no name: nothing could end it
    if (frame && fresh && frame.name === undefined && !(frame.document && column === 0)) {
      frame.name = copy(name)
      return true
    }
    return open({ column, hashed, name: copy(name), flat: frame?.column === column })
  }

  function onSelftest(line: KtapLine, { name }: Meaning & { kind: 'selftest' }): boolean {
    const { column } = line
    if (!stack.some(frame => frame.column === column) || !closeDeeper(line)) return false
    return open({ column: column + 2, hashed: true, program: true, name: copy(name) })
  }

  function onPlan({ column, hashed }: KtapLine, { count, reason }: Meaning & { kind: 'plan' }): boolean {
    const around = inner()
    const untouched = around && isUntouched(around) && around.column < column
    const frame =
      stack.findLast(frame => frame.column === column && (frame.hashed || !hashed)) ??
      (untouched && !hashed ? around : undefined)
    if (!frame) return false
    if (frame.plan !== undefined) error(frame.name, `A second plan, of ${plural(count, 'test')}, is ignored.`)
    else frame.plan = Math.min(count, 1e12)
    frame.skip = reason && copy(reason)
    return true
  }

  function onResult(line: KtapLine, result: ResultLine): boolean {
    const { column, hashed } = line
    if (hashed && !stack.some(frame => frame.hashed && frame.column === column)) return false
    const deeper = (frame: Frame) => frame.column > column || (frame.flat && frame.column === column)
    const name = copy(result.name)
    const named = (frame: Frame) => frame.name === name
    const outermost = stack.findIndex(deeper)
    const first = stack[outermost]
    const claimed = first && named(first) ? outermost : stack.findLastIndex(f => deeper(f) && named(f))
    if (claimed >= 0) {
      while (stack.length > claimed + 1) close()
      close(result)
      return true
    }
    for (let frame = inner(); frame && frame.column > column; frame = inner()) {
      const last = (stack.at(-2)?.column ?? -1) <= column
      const mine = last && frame.name === undefined
      close(mine ? result : undefined)
      if (mine) return true
    }
    const frame = inner()
    if (!frame) return false
    countTest(frame.counts, result.status)
    list(frame.children, { ...result, subtests: [] }, frame.pending)
    frame.pending = []
    took(frame, result)
    return true
  }

  /** Does what a line says. False where it says nothing in this place: then it is a line of a log. */
  function obey(line: KtapLine): boolean {
    const { meaning } = line
    switch (meaning.kind) {
      case 'version':
        return onVersion(line, meaning)
      case 'subtest':
        return onSubtest(line, meaning)
      case 'selftest':
        return onSelftest(line, meaning)
      case 'plan':
        return onPlan(line, meaning)
      case 'result':
        return onResult(line, meaning)
      case 'bail': {
        const frame = stack.findLast(frame => frame.column === line.column)
        if (frame) frame.bail = copy(meaning.reason)
        return false
      }
      case 'panic':
        if (!line.hashed) death ??= copy(meaning.reason)
        return false
      case 'boot':
        while (stack.length > 0) close()
        death = undefined
        return true
      case 'text':
        return false
    }
  }

  return {
    line(text) {
      // nothing else can start a document: this is all that a log without one costs
      if (!started && !text.includes('TAP version ')) return
      const line = readLine(text)
      if (obey(line) || line.text === '') return
      const frame = inner()
      if (!frame || (frame.document && isFulfilled(frame))) return
      const log = isUntouched(frame) && !frame.document ? frame.own : frame.pending
      keepLine(log, dedent(line.text, frame.column, frame.hashed))
    },
    end() {
      while (stack.length > 0) close()
      if (!started) return undefined
      return { counts: top.counts, tests: top.children, errors: errors() }
    },
  }
}
