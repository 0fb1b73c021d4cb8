import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { dirname } from 'node:path'
import { BuildError, InfraError } from '../errors.js'
import { type Command, describeEnd, type Finished, lastLines, run } from '../host/processes.js'
import type { Log } from '../log.js'
import type { Diagnostic } from '../result.js'
import { isFatal, parseStep } from './diagnostics.js'

/** A builder's own settings would make another kernel of the same ref, and the next build another one again. */
const REPRODUCIBLE = {
  KBUILD_BUILD_TIMESTAMP: 'Thu Jan 1 00:00:00 UTC 1970',
  KBUILD_BUILD_USER: 'kernelcraft',
  KBUILD_BUILD_HOST: 'kernelcraft',
  KBUILD_BUILD_VERSION: '1',
  LC_ALL: 'C',
}

/** One call of make that compiles. */
export interface MakeRequest {
  /** begins the sentence of a failure: `The kernel does not build` */
  what: string
  args: readonly string[]
  cwd?: string
  env: NodeJS.ProcessEnv
  /** the complaint in a line of output, if there is one */
  diagnostic: (line: string) => Diagnostic | undefined
  /** Kbuild steps that it will take, as far as that is known */
  expected?: number | undefined
  /** runs make elsewhere, with as many jobs as there are CPUs */
  runRemotely?: (args: readonly string[], env: NodeJS.ProcessEnv, call: MakeCall) => Promise<Finished>
}

export type MakeCall = Pick<Command, 'cancel' | 'deadline' | 'onLine' | 'onData'>

export interface MakeOutput {
  /** gets all that is said, behind what is there */
  buildLog: string
  log: Log
  cancel?: AbortSignal | undefined
}

/** Runs make with all CPUs and returns how many steps it took. Throws BuildError with the compiler's complaints. */
export async function runMake(wanted: MakeRequest, { buildLog, log, cancel }: MakeOutput): Promise<number> {
  await mkdir(dirname(buildLog), { recursive: true })
  const file = createWriteStream(buildLog, { flags: 'a' })
  let writeError: Error | undefined
  file.on('error', error => {
    writeError = error
  })
  const diagnostics: Diagnostic[] = []
  const fatal: string[] = []
  let steps = 0
  const onLine = (line: string) => {
    const step = parseStep(line)
    if (step) {
      steps++
      log.progress({
        done: steps,
        total: wanted.expected && Math.max(wanted.expected, steps),
        what: `${step.verb} ${step.what}`,
      })
      return
    }
    const diagnostic = wanted.diagnostic(line)
    if (diagnostic) {
      diagnostics.push(diagnostic)
      log.diagnostic(diagnostic)
    } else if (isFatal(line)) fatal.push(line)
    log.detail(line)
  }
  const args = ['--output-sync=line', ...wanted.args]
  const env = { ...REPRODUCIBLE, ...wanted.env }
  const call: MakeCall = { deadline: 6 * 3600, onLine, onData: chunk => file.write(chunk) }
  if (cancel) call.cancel = cancel
  const make = wanted.runRemotely
    ? wanted.runRemotely(args, env, call)
    : run({
        ...call,
        file: 'make',
        args: [`-j${availableParallelism()}`, ...args],
        ...(wanted.cwd ? { cwd: wanted.cwd } : {}),
        env,
      })
  const end = await make.finally(async () => {
    file.end()
    if (!writeError) await once(file, 'close').catch(() => {})
  })
  if (writeError) throw writeError
  if (end.status === 0) return steps
  if (/No space left on device/.test(end.stderr)) {
    throw new InfraError('The disk is full: make room for the build directory.', lastLines(end.stderr, 3))
  }
  const [first] = diagnostics
  const reason = first
    ? `${first.file}:${first.line}: ${first.message}`
    : (fatal[0] ?? describeEnd('make', end))
  throw new BuildError(
    `${wanted.what}: ${reason}`,
    // the compiler's own words say more than make's
    first ? [] : fatal.length > 0 ? fatal.slice(0, 8) : lastLines(end.stderr, 8),
    diagnostics.slice(0, 50),
  )
}
