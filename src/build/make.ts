import { once } from 'node:events'
import { createWriteStream, type WriteStream } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { dirname } from 'node:path'
import { BuildError, InfraError } from '../errors.js'
import { type Command, describeEnd, type Finished, lastLines, run } from '../host/processes.js'
import type { Log } from '../log.js'
import type { Diagnostic } from '../result.js'
import { isFatal, parseStep } from './diagnostics.js'

/** Fixed, because the values of each user and machine would make another kernel of the same source, at every build. */
const REPRODUCIBLE = {
  KBUILD_BUILD_TIMESTAMP: 'Thu Jan 1 00:00:00 UTC 1970',
  KBUILD_BUILD_USER: 'kernelcraft',
  KBUILD_BUILD_HOST: 'kernelcraft',
  KBUILD_BUILD_VERSION: '1',
  // LC_ALL alone decides; ccache hashes the others as well, and machines in other languages share its entries
  LC_ALL: 'C',
  LANG: 'C',
  LC_CTYPE: 'C',
  LC_MESSAGES: 'C',
}

/** Seconds until make is ended. */
const DEADLINE = 6 * 3600

/** One call of make that compiles. */
export interface MakeRequest {
  /** begins the message of a failure: `The kernel does not build` */
  what: string
  args: readonly string[]
  cwd?: string
  env: NodeJS.ProcessEnv
  /** parses the diagnostic in a line of output, if there is one */
  diagnostic: (line: string) => Diagnostic | undefined
  /** how many Kbuild steps it will take, as far as that is known */
  expected?: number | undefined
  /** runs make on a build host, with as many jobs as that has CPUs */
  runRemotely?: (args: readonly string[], env: NodeJS.ProcessEnv, call: MakeCall) => Promise<Finished>
}

export type MakeCall = Pick<Command, 'cancel' | 'deadline' | 'onLine' | 'onData'>

export interface MakeOutput {
  /** make's output is appended to this file */
  buildLog: string
  log: Log
  cancel?: AbortSignal | undefined
}

/**
 * Runs make with all CPUs and returns how many Kbuild steps it took. Throws BuildError with the compiler's diagnostics, or
 * InfraError if the disk is full.
 */
export async function runMake(request: MakeRequest, { buildLog, log, cancel }: MakeOutput): Promise<number> {
  await mkdir(dirname(buildLog), { recursive: true })
  const parser = outputParser(request, log)
  const file = createWriteStream(buildLog, { flags: 'a' })
  const written = watchErrors(file)
  let end: Finished
  try {
    end = await startMake(request, {
      deadline: DEADLINE,
      onLine: parser.line,
      onData: chunk => file.write(chunk),
      ...(cancel ? { cancel } : {}),
    })
  } finally {
    await written.close()
  }
  if (written.error()) throw written.error()
  if (end.status !== 0) throw failure(request.what, end, parser)
  return parser.steps()
}

function startMake(request: MakeRequest, call: MakeCall): Promise<Finished> {
  const args = ['--output-sync=line', ...request.args]
  const env = { ...REPRODUCIBLE, ...request.env }
  if (request.runRemotely) return request.runRemotely(args, env, call)
  return run({
    ...call,
    file: 'make',
    args: [`-j${availableParallelism()}`, ...args],
    ...(request.cwd ? { cwd: request.cwd } : {}),
    env,
  })
}

/** Keeps the error of a stream, which would end the process otherwise. */
function watchErrors(file: WriteStream): { error(): Error | undefined; close(): Promise<void> } {
  let error: Error | undefined
  file.on('error', thrown => {
    error = thrown
  })
  return {
    error: () => error,
    async close() {
      file.end()
      if (!error) await once(file, 'close').catch(() => {})
    },
  }
}

/** What has been parsed of make's output. */
interface MakeReport {
  diagnostics: readonly Diagnostic[]
  /** lines about why make stopped */
  fatal: readonly string[]
}

interface OutputParser extends MakeReport {
  line(line: string): void
  steps(): number
}

/** Logs make's output line by line: steps as progress, diagnostics as such. */
function outputParser({ diagnostic, expected }: MakeRequest, log: Log): OutputParser {
  const diagnostics: Diagnostic[] = []
  const fatal: string[] = []
  let steps = 0
  return {
    diagnostics,
    fatal,
    steps: () => steps,
    line(line) {
      const step = parseStep(line)
      if (step) {
        steps++
        const total = expected && Math.max(expected, steps)
        log.progress({ done: steps, total, what: `${step.verb} ${step.what}` })
        return
      }
      const found = diagnostic(line)
      if (found) {
        diagnostics.push(found)
        log.diagnostic(found)
      } else if (isFatal(line)) fatal.push(line)
      log.detail(line)
    },
  }
}

/** How many diagnostics an error has at most, and how many lines of output. */
const MOST_DIAGNOSTICS = 50
const MOST_LINES = 8

function failure(what: string, end: Finished, { diagnostics, fatal }: MakeReport): Error {
  if (/No space left on device/.test(end.stderr))
    return new InfraError('The disk is full: make room for the build directory.', lastLines(end.stderr, 3))
  const [first] = diagnostics
  const reason = first
    ? `${first.file}:${first.line}: ${first.message}`
    : (fatal[0] ?? describeEnd('make', end))
  const lines = fatal.length > 0 ? fatal.slice(0, MOST_LINES) : lastLines(end.stderr, MOST_LINES)
  // the compiler's diagnostics explain more than make's lines
  const details = first ? [] : lines
  return new BuildError(`${what}: ${reason}`, details, diagnostics.slice(0, MOST_DIAGNOSTICS))
}
