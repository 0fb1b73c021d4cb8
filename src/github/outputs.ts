import { existsSync } from 'node:fs'
import { join } from 'node:path'
import * as core from '@actions/core'
import { messageOf } from '../errors.js'
import { type SummaryContext, summarize } from '../report/summary.js'
import type { Result } from '../result.js'

/** Sets the action's outputs, except those of the artifacts. */
export function setOutputs(result: Result): void {
  const file = (kind: string) => {
    const name = result.files[kind]
    return name && existsSync(join(result.runDirectory, name)) ? join(result.runDirectory, name) : ''
  }
  const outputs = {
    verdict: result.verdict,
    title: result.title,
    fingerprint: result.fingerprint ?? '',
    'exit-code': result.exitCode === undefined ? '' : String(result.exitCode),
    sha: result.source?.sha ?? '',
    'kernel-release': result.kernel?.release ?? '',
    'run-directory': result.runDirectory,
    'kernel-cache-hit': result.kernel?.cache ? String(result.kernel.cache.hit) : '',
    'ccache-hit-rate': hitRate(result),
    'console-log': file('console'),
    vmcore: file('vmcore'),
    junit: file('junit'),
    result: file('result'),
  }
  for (const [name, value] of Object.entries(outputs)) core.setOutput(name, value)
}

/** Percentage of the compiler's calls that were ccache hits; empty if nothing was compiled. */
function hitRate({ kernel }: Result): string {
  const { hits = 0, misses = 0 } = kernel?.ccache ?? {}
  return hits + misses > 0 ? String(Math.round((100 * hits) / (hits + misses))) : ''
}

/** Writes the step's summary; a second call replaces the first one's. */
export async function writeJobSummary(result: Result, context: SummaryContext): Promise<void> {
  try {
    await core.summary.emptyBuffer().addRaw(summarize(result, context)).write({ overwrite: true })
  } catch (error) {
    // without a summary file (an old runner, a full disk) the log still has everything
    core.info(`The job summary could not be written: ${messageOf(error)}`)
  }
}
