import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { InputError } from '../errors.js'
import { ktapParser } from '../triage/ktap.js'
import type { TestReport } from '../triage/tests.js'
import { type IgnoreWindow, type Triage, triage } from '../triage/triage.js'

/** Listens to what a guest prints, while it prints it, in memory that does not grow with it. */
export interface GuestOutputParser {
  /** true when the first report of a bug begins in this piece */
  console(chunk: Buffer): boolean
  stdout(chunk: Buffer): void
  /** what was heard; to be called once, at the end */
  end(): ParsedOutput
}

export interface ParsedOutput extends Triage {
  tests?: TestReport
}

/** What every KTAP and TAP document begins with; until it is there, a stream is only looked through for it. */
const BEGINS = 'TAP version '
const NEWLINE = 0x0a
/** bytes of an unfinished line that are kept */
const MOST_LINE = 65536

/** Feeds a stream's lines to a KTAP parser of its own. */
function ktapStream(): { push(chunk: Buffer): void; end(): TestReport | undefined } {
  const parser = ktapParser()
  let started = false
  let rest = Buffer.alloc(0)
  return {
    push(chunk) {
      const end = chunk.lastIndexOf(NEWLINE)
      // where the words are cut in two, the rest of the line before is looked at too
      const line = end < 0 ? chunk : chunk.subarray(0, chunk.indexOf(NEWLINE))
      started ||= chunk.includes(BEGINS) || Buffer.concat([rest, line]).includes(BEGINS)
      if (started && end >= 0) {
        const text = Buffer.concat([rest, chunk.subarray(0, end)]).toString('utf8')
        for (const whole of text.split('\n')) parser.line(whole)
      }
      rest = end < 0 ? Buffer.concat([rest, chunk]) : Buffer.from(chunk.subarray(end + 1))
      rest = rest.subarray(0, MOST_LINE)
    },
    end() {
      if (started && rest.length > 0) parser.line(rest.toString('utf8'))
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

export function guestOutputParser(windows: readonly IgnoreWindow[]): GuestOutputParser {
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

/** Listens to a console log: a file, or stdin as `-`. Throws InputError if it cannot be read. */
export async function parseConsoleFile(path: string): Promise<ParsedOutput> {
  if (path !== '-') {
    const info = await stat(path).catch(() => undefined)
    if (!info) throw new InputError(`triage: ${JSON.stringify(path)} does not exist.`)
    if (info.isDirectory())
      throw new InputError(`triage: ${JSON.stringify(path)} is a directory; name a console log.`)
  }
  const ear = guestOutputParser([])
  const input = path === '-' ? process.stdin : createReadStream(path, { highWaterMark: 1 << 20 })
  for await (const chunk of input) ear.console(chunk as Buffer)
  return ear.end()
}
