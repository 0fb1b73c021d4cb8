import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import * as core from '@actions/core'
import { InputError, messageOf } from '../errors.js'
import { type SummaryContext, summarize } from '../report/summary.js'
import { optionsOf } from '../request/options.js'
import type { Result } from '../result.js'
import { FILES } from '../run-directory.js'
import { withTimeout } from './timeout.js'

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
    'kernel-cache-hit': result.kernel?.cache ? String(result.kernel.cache.hit) : '',
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

/** Where GitHub shows the repository of this job; undefined outside of one. */
export function repositoryUrl(env: NodeJS.ProcessEnv): string | undefined {
  const { GITHUB_SERVER_URL: server, GITHUB_REPOSITORY: repository } = env
  return server && repository ? `${server}/${repository}` : undefined
}

/** Writes the step's summary; a second time it takes the place of the first. */
export async function writeJobSummary(result: Result, place: SummaryContext): Promise<void> {
  try {
    await core.summary.emptyBuffer().addRaw(summarize(result, place)).write({ overwrite: true })
  } catch (error) {
    // without a summary file (an old runner, a full disk) the log still has everything
    core.info(`The job summary could not be written: ${messageOf(error)}`)
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

/** What of a run directory goes into one artifact. */
export interface ArtifactSpec {
  name: string
  files: readonly string[]
  retentionDays?: number
  /** 0 stores, as for what is compressed already; zlib's default if absent */
  compressionLevel?: number
  /** begin of the names of its outputs */
  outputs: 'artifact' | 'vmcore-artifact'
}

/** The dump and what opens it: large, and worth keeping for a shorter time than the rest. */
const DUMP: readonly string[] = [FILES.vmcore, FILES.vmlinux]

/** Files worth keeping: not the guest's share, not the covers of the snapshot. */
const KEPT = [...Object.values(FILES).filter(name => !DUMP.includes(name)), 'console.times']

/** External modules under test: stacks are decoded with them. */
function modulesIn(runDirectory: string): string[] {
  const directory = join(runDirectory, 'modules')
  return existsSync(directory) ? readdirSync(directory).map(name => join(directory, name)) : []
}

export interface ArtifactNaming {
  /** of the artifact with everything but the dump */
  artifact: string
  retentionDays?: string
  vmcoreRetentionDays?: string
}

/** The artifacts that a run directory makes; none of files that are not there. */
export function artifactsOf(runDirectory: string, naming: ArtifactNaming): ArtifactSpec[] {
  const there = (names: readonly string[]) =>
    names.map(name => join(runDirectory, name)).filter(path => existsSync(path))
  const days = (value: string | undefined) => (value === undefined ? {} : { retentionDays: Number(value) })
  const made: ArtifactSpec[] = [
    {
      name: naming.artifact,
      files: [...there(KEPT), ...modulesIn(runDirectory)],
      ...days(naming.retentionDays),
      outputs: 'artifact',
    },
    {
      name: `${naming.artifact}-vmcore`,
      // without its dump a vmlinux is of no use to anybody
      files: existsSync(join(runDirectory, FILES.vmcore)) ? there(DUMP) : [],
      ...days(naming.vmcoreRetentionDays ?? naming.retentionDays),
      // the vmcore is compressed page by page, and the vmlinux is not worth a minute of zlib
      compressionLevel: 0,
      outputs: 'vmcore-artifact',
    },
  ]
  return made.filter(({ files }) => files.length > 0)
}

export interface Uploaded {
  name: string
  url: string
  /** holds the vmcore */
  isDump: boolean
}

/** Uploads what the run directory holds. Trouble with the upload is told and changes nothing else. */
export async function uploadRun(runDirectory: string, naming: ArtifactNaming): Promise<Uploaded[]> {
  if (!process.env.ACTIONS_RUNTIME_TOKEN) {
    core.info(`No artifact service here; the files stay in ${runDirectory}.`)
    return []
  }
  const uploaded: Uploaded[] = []
  // the client says a line for every eight megabytes
  core.startGroup('Upload the results')
  for (const parcel of artifactsOf(runDirectory, naming)) {
    const { name, outputs } = parcel
    try {
      const url = await upload(runDirectory, parcel)
      if (url !== undefined) uploaded.push({ name, url, isDump: outputs === 'vmcore-artifact' })
    } catch (error) {
      core.warning(`The artifact ${name} could not be uploaded: ${messageOf(error)}. The verdict stands.`)
    }
  }
  core.endGroup()
  for (const { name, url } of uploaded) core.info(`${name}: ${url}`)
  return uploaded
}

async function upload(runDirectory: string, parcel: ArtifactSpec): Promise<string | undefined> {
  const { name, files, outputs, retentionDays, compressionLevel } = parcel
  // loaded only now: it is most of the bundle
  const { DefaultArtifactClient } = await import('@actions/artifact')
  const options = {
    ...(retentionDays === undefined ? {} : { retentionDays }),
    ...(compressionLevel === undefined ? {} : { compressionLevel }),
  }
  const client = new DefaultArtifactClient()
  const { id, size, digest } = await withTimeout('upload', () =>
    client.uploadArtifact(name, [...files], runDirectory, options),
  )
  core.info(`Artifact ${name} (${((size ?? 0) / 2 ** 20).toFixed(1)} MiB) uploaded.`)
  const repository = repositoryUrl(process.env)
  const url =
    repository && id !== undefined
      ? `${repository}/actions/runs/${process.env.GITHUB_RUN_ID}/artifacts/${id}`
      : undefined
  core.setOutput(`${outputs}-id`, id ?? '')
  core.setOutput(`${outputs}-url`, url ?? '')
  core.setOutput(`${outputs}-digest`, digest ?? '')
  return url
}

/** Days as GitHub takes them; InputError for anything else. */
export function checkRetention(name: string, value: string | undefined): string | undefined {
  if (value === undefined || value === '') return undefined
  if (!/^\d+$/.test(value) || Number(value) < 1 || Number(value) > 400) {
    throw new InputError(`${name} is ${JSON.stringify(value)}: it takes a number from 1 to 400.`)
  }
  return value
}

export function defaultOf(name: string): string {
  return optionsOf('action').find(option => option.name === name)?.default ?? ''
}
