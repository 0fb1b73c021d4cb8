import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { InputError } from '../errors.js'
import type { IgnoreWindow } from '../triage/ignore-windows.js'
import { ktapParser } from '../triage/ktap.js'
import type { TestReport } from '../triage/tests.js'
import { type Triage, triage } from '../triage/triage.js'

/** Parses what a guest prints while it prints it: reports of bugs, and tests. Memory is bounded. */
export interface GuestOutputParser {
  /** takes the console's next chunk; true if a report of a bug begins in it */
  console(chunk: Buffer): boolean
  /** takes the next chunk of the commands' stdout */
  stdout(chunk: Buffer): void
  /** what both streams held; to be called once, at the end */
  end(): ParsedOutput
}

export interface ParsedOutput extends Triage {
  tests?: TestReport
}

/** How every KTAP and TAP document begins; before its first occurrence no line of a stream is parsed. */
const DOCUMENT_START = 'TAP version '
const NEWLINE = 0x0a
/** bytes of an unfinished line that are kept */
const MAX_LINE = 65536

/** Splits a stream into lines for a KTAP parser of its own. */
function ktapStream(): { push(chunk: Buffer): void; end(): TestReport | undefined } {
  const parser = ktapParser()
  let started = false
  let rest = Buffer.alloc(0)
  return {
    push(chunk) {
      const end = chunk.lastIndexOf(NEWLINE)
      // the start of a document may be split between two chunks
      const line = end < 0 ? chunk : chunk.subarray(0, chunk.indexOf(NEWLINE))
      started ||= chunk.includes(DOCUMENT_START) || Buffer.concat([rest, line]).includes(DOCUMENT_START)
      if (started && end >= 0) {
        const text = Buffer.concat([rest, chunk.subarray(0, end)]).toString('utf8')
        for (const whole of text.split('\n')) parser.line(whole)
      }
      rest = end < 0 ? Buffer.concat([rest, chunk]) : Buffer.from(chunk.subarray(end + 1))
      rest = rest.subarray(0, MAX_LINE)
    },
    end() {
      if (started && rest.length > 0) parser.line(rest.toString('utf8'))
      return parser.end()
    },
  }
}

/** The tests of both streams: kselftest prints to the commands' stdout, KUnit to the console. */
function mergeTests(reports: readonly (TestReport | undefined)[]): TestReport | undefined {
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
      const tests = mergeTests([stdout.end(), console.end()])
      return { ...reports.end(), ...(tests ? { tests } : {}) }
    },
  }
}

/** Parses a console log: a file, or stdin as `-`. Throws InputError if it cannot be read. */
export async function parseConsoleFile(path: string): Promise<ParsedOutput> {
  if (path !== '-') {
    const info = await stat(path).catch(() => undefined)
    if (!info) throw new InputError(`triage: ${JSON.stringify(path)} does not exist.`)
    if (info.isDirectory())
      throw new InputError(`triage: ${JSON.stringify(path)} is a directory; name a console log.`)
  }
  const parser = guestOutputParser([])
  const input = path === '-' ? process.stdin : createReadStream(path, { highWaterMark: 1 << 20 })
  for await (const chunk of input) parser.console(chunk as Buffer)
  return parser.end()
}
