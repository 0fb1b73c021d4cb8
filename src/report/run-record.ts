import {
  BuildError,
  Cancelled,
  InfraError,
  InputError,
  isDiskFull,
  messageOf,
  StageError,
} from '../errors.js'
import type { Log } from '../log.js'
import type { Result } from '../result.js'
import type { RunStage } from './stages.js'
import { writeResult } from './write-result.js'

/** What is recorded of a run while it goes on. */
export interface RunRecord {
  /** gets what is learned on the way */
  result: Result
  /** the run's log; its warnings are recorded, too */
  log: Log
  stage: RunStage
  /** Records the verdict of an error, by the stage that it comes from. Throws InputError: no run took place. */
  fail(error: unknown): void
  /** Writes result.json and summary.md. */
  finish(): Promise<Result>
}

export interface RunRecordOptions {
  runDirectory: string
  /** the command that repeats the run, as far as it is known */
  repeat: string
  cancel?: AbortSignal
}

const round = (seconds: number) => Math.round(seconds * 1000) / 1000

/** Starts the record of a run. What is recorded is kept whatever happens: a run that is lost is an infra-error. */
export function startRecord({ runDirectory, repeat, cancel }: RunRecordOptions, log: Log): RunRecord {
  const began = performance.now()
  const result: Result = {
    schema: 1,
    verdict: 'infra-error',
    title: 'The run did not finish.',
    reason: 'The run did not finish.',
    findings: [],
    started: new Date().toISOString(),
    seconds: 0,
    runDirectory,
    repeat,
    timings: [],
    warnings: [],
    files: {},
  }
  return {
    result,
    log: {
      ...log,
      warning(message) {
        result.warnings.push(message)
        log.warning(message)
      },
    },
    async stage(name, title, work, summarize) {
      if (cancel?.aborted) throw new Cancelled(String(cancel.reason))
      log.stage(name, title)
      const start = performance.now()
      let summary = 'failed'
      try {
        const value = await work()
        summary = summarize(value)
        return value
      } finally {
        result.timings.push({ stage: name, seconds: round((performance.now() - start) / 1000), summary })
        log.stageEnd(name, summary)
      }
    },
    fail: error => recordError(result, error),
    async finish() {
      result.seconds = round((performance.now() - began) / 1000)
      await writeResult(result)
      return result
    },
  }
}

function recordError(result: Result, error: unknown): void {
  if (error instanceof InputError) throw error
  const typed =
    error instanceof StageError
      ? error
      : isDiskFull(error)
        ? new InfraError('The disk is full: make room and run again.')
        : undefined
  result.verdict = typed?.verdict ?? 'infra-error'
  result.reason = result.title = typed?.message ?? `KernelCraft itself failed: ${messageOf(error)}`
  result.error = {
    message: result.title,
    details:
      typed?.details ?? (error instanceof Error && error.stack ? error.stack.split('\n').slice(1, 6) : []),
    diagnostics: typed instanceof BuildError ? typed.diagnostics : [],
  }
}
