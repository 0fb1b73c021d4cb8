import { StringDecoder } from 'node:string_decoder'
import { ktapParser } from './triage/ktap.js'
import type { TestReport } from './triage/tests.js'
import { type Triage, triage, type Window } from './triage/triage.js'

/** Listens to what a guest prints, while it prints it, in memory that does not grow with it. */
export interface Ear {
  /** true when the first report of a bug begins in this piece */
  console(chunk: Buffer): boolean
  stdout(chunk: Buffer): void
  /** what was heard; to be called once, at the end */
  end(): Heard
}

export interface Heard extends Triage {
  tests?: TestReport
}

/** Feeds a stream's lines to a KTAP parser of its own. */
function ktapStream(): { push(chunk: Buffer): void; end(): TestReport | undefined } {
  const parser = ktapParser()
  const decoder = new StringDecoder('utf8')
  let rest = ''
  return {
    push(chunk) {
      const lines = (rest + decoder.write(chunk)).split('\n')
      rest = (lines.pop() ?? '').slice(0, 65536)
      for (const line of lines) parser.line(line)
    },
    end() {
      if (rest) parser.line(rest)
      return parser.end()
    },
  }
}

/** The tests of both streams: kselftest prints to the commands' stdout, KUnit to the console. */
function join(reports: readonly (TestReport | undefined)[]): TestReport | undefined {
  // a kernel with KUnit and no suite prints an empty plan
  const [first, second] = reports.filter(report => report !== undefined && report.counts.total > 0)
  if (!first || !second) return first
  const counts = { ...first.counts }
  for (const key of Object.keys(counts) as (keyof typeof counts)[]) counts[key] += second.counts[key]
  return { counts, tests: [...first.tests, ...second.tests], errors: [...first.errors, ...second.errors] }
}

export function guestEar(windows: readonly Window[]): Ear {
  let reported = false
  const reports = triage({
    windows,
    onReport: () => {
      reported = true
    },
  })
  const console = ktapStream()
  const stdout = ktapStream()
  return {
    console(chunk) {
      reported = false
      reports.push(chunk)
      console.push(chunk)
      return reported
    },
    stdout: chunk => stdout.push(chunk),
    end() {
      const tests = join([stdout.end(), console.end()])
      return { ...reports.end(), ...(tests ? { tests } : {}) }
    },
  }
}
