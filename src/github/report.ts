import { existsSync } from 'node:fs'
import { join } from 'node:path'
import * as core from '@actions/core'
import { InputError } from '../errors.js'
import { optionsOf } from '../options.js'
import { FILES } from '../report/files.js'
import { summarize } from '../report/summary.js'
import type { Result } from '../result.js'

/** What the action says of a run to the steps after it. */
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
    'ccache-hit-rate': hitRate(result),
    'console-log': file('console'),
    vmcore: file('vmcore'),
    junit: file('junit'),
    result: file('result'),
  }
  for (const [name, value] of Object.entries(outputs)) core.setOutput(name, value)
}

/** Percent of the compiler's calls that ccache answered; empty where nothing was compiled. */
function hitRate({ kernel }: Result): string {
  const { hits = 0, misses = 0 } = kernel?.ccache ?? {}
  return hits + misses > 0 ? String(Math.round((100 * hits) / (hits + misses))) : ''
}

export async function writeJobSummary(result: Result): Promise<void> {
  try {
    await core.summary.addRaw(summarize(result)).write()
  } catch (error) {
    // without a summary file (an old runner, a full disk) the log still has everything
    core.info(`The job summary could not be written: ${error instanceof Error ? error.message : error}`)
  }
}

/** Artifact names may not hold these (GitHub's @actions/artifact, path-and-artifact-name-validation). */
const FORBIDDEN = /["':<>|*?\\/\r\n]/g

/** A name that is unique to this job of a matrix and this attempt. */
export function artifactName(base: string, env: NodeJS.ProcessEnv, unique: string): string {
  return [base, env.GITHUB_JOB, env.GITHUB_RUN_ATTEMPT, unique]
    .filter(Boolean)
    .join('-')
    .replace(FORBIDDEN, '_')
}

/** Files worth keeping: not the guest's share, not the covers of the snapshot. */
const KEPT = [...Object.values(FILES), 'console.times']

/**
 * Uploads what the run directory holds. Trouble with the upload is told and changes nothing else.
 */
export async function uploadRun(
  runDirectory: string,
  name: string,
  retentionDays: string | undefined,
): Promise<void> {
  const files = KEPT.map(file => join(runDirectory, file)).filter(path => existsSync(path))
  if (files.length === 0) return
  if (!process.env.ACTIONS_RUNTIME_TOKEN) {
    core.info(`No artifact service here; the files stay in ${runDirectory}.`)
    return
  }
  try {
    // loaded only now: it is most of the bundle
    const { DefaultArtifactClient } = await import('@actions/artifact')
    const days = retentionDays === undefined ? {} : { retentionDays: Number(retentionDays) }
    const { id, size } = await new DefaultArtifactClient().uploadArtifact(name, files, runDirectory, days)
    core.info(`Artifact ${name} (${size ?? 0} bytes) uploaded.`)
    const { GITHUB_SERVER_URL, GITHUB_REPOSITORY, GITHUB_RUN_ID } = process.env
    core.setOutput('artifact-id', id ?? '')
    core.setOutput(
      'artifact-url',
      `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}/actions/runs/${GITHUB_RUN_ID}/artifacts/${id}`,
    )
  } catch (error) {
    core.warning(
      `The artifact ${name} could not be uploaded: ${error instanceof Error ? error.message : error}. The verdict stands.`,
    )
  }
}

/** Days as GitHub takes them; InputError for anything else. */
export function checkRetention(value: string | undefined): string | undefined {
  if (value === undefined || value === '') return undefined
  if (!/^\d+$/.test(value) || Number(value) < 1 || Number(value) > 400) {
    throw new InputError(`retention-days is ${JSON.stringify(value)}: it takes a number from 1 to 400.`)
  }
  return value
}

export function defaultOf(name: string): string {
  return optionsOf('action').find(option => option.name === name)?.default ?? ''
}
