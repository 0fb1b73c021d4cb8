import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import * as core from '@actions/core'
import { messageOf } from '../errors.js'
import { FILES } from '../run-directory.js'
import { repositoryUrl } from './repository-url.js'
import { withTimeout } from './timeout.js'

/** Characters that artifact names may not have (@actions/artifact, path-and-artifact-name-validation). */
const FORBIDDEN = /["':<>|*?\\/\r\n]/g

/** A name that is unique to this job of a matrix and this attempt. */
export function artifactName(base: string, env: NodeJS.ProcessEnv, unique: string): string {
  return [base, env.GITHUB_JOB, env.GITHUB_RUN_ATTEMPT, unique]
    .filter(Boolean)
    .join('-')
    .replace(FORBIDDEN, '_')
}

/** The files of a run directory that one artifact has. */
export interface ArtifactSpec {
  name: string
  /** absolute paths */
  files: readonly string[]
  retentionDays?: number
  /** 0 stores, for what is already compressed; zlib's default if absent */
  compressionLevel?: number
  /** prefix of the names of its outputs */
  outputs: 'artifact' | 'vmcore-artifact'
}

/** The dump and the kernel that a debugger opens it with: large, often kept for a shorter time than the rest. */
const DUMP: readonly string[] = [FILES.vmcore, FILES.vmlinux]

/** The other files: not the guest's share, not what hides files from the snapshot. */
const KEPT = [...Object.values(FILES).filter(name => !DUMP.includes(name)), 'console.times']

/** External modules under test, with which stacks are decoded. */
function modulesIn(runDirectory: string): string[] {
  const directory = join(runDirectory, 'modules')
  return existsSync(directory) ? readdirSync(directory).map(name => join(directory, name)) : []
}

export interface ArtifactNaming {
  /** name of the artifact with everything but the dump */
  artifact: string
  /** days, as a decimal number */
  retentionDays?: string
  vmcoreRetentionDays?: string
}

/** The artifacts of a run directory, of the files that exist; none without files. */
export function artifactsOf(runDirectory: string, naming: ArtifactNaming): ArtifactSpec[] {
  const existing = (names: readonly string[]) =>
    names.map(name => join(runDirectory, name)).filter(path => existsSync(path))
  const days = (value: string | undefined) => (value === undefined ? {} : { retentionDays: Number(value) })
  const specs: ArtifactSpec[] = [
    {
      name: naming.artifact,
      files: [...existing(KEPT), ...modulesIn(runDirectory)],
      ...days(naming.retentionDays),
      outputs: 'artifact',
    },
    {
      name: `${naming.artifact}-vmcore`,
      // a vmlinux is of no use without its dump
      files: existsSync(join(runDirectory, FILES.vmcore)) ? existing(DUMP) : [],
      ...days(naming.vmcoreRetentionDays ?? naming.retentionDays),
      // the vmcore is compressed page by page, and the vmlinux is not worth a minute of zlib
      compressionLevel: 0,
      outputs: 'vmcore-artifact',
    },
  ]
  return specs.filter(({ files }) => files.length > 0)
}

export interface Uploaded {
  name: string
  url: string
  /** true for the artifact with the vmcore */
  isDump: boolean
}

/** Uploads the artifacts of a run directory. A failed upload is a warning and changes nothing else. */
export async function uploadRun(runDirectory: string, naming: ArtifactNaming): Promise<Uploaded[]> {
  if (!process.env.ACTIONS_RUNTIME_TOKEN) {
    core.info(`There is no artifact service; the files stay in ${runDirectory}.`)
    return []
  }
  const uploaded: Uploaded[] = []
  // the client logs a line for every eight megabytes
  core.startGroup('Upload the results')
  for (const spec of artifactsOf(runDirectory, naming)) {
    const { name, outputs } = spec
    try {
      const url = await upload(runDirectory, spec)
      if (url !== undefined) uploaded.push({ name, url, isDump: outputs === 'vmcore-artifact' })
    } catch (error) {
      core.warning(
        `The artifact ${name} could not be uploaded: ${messageOf(error)}. The verdict does not change.`,
      )
    }
  }
  core.endGroup()
  for (const { name, url } of uploaded) core.info(`${name}: ${url}`)
  return uploaded
}

/** Uploads one artifact and sets its outputs. Returns the URL of its page; undefined outside of a workflow run. */
async function upload(runDirectory: string, spec: ArtifactSpec): Promise<string | undefined> {
  const { name, files, outputs, retentionDays, compressionLevel } = spec
  // loaded only when needed: it is most of the bundle
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
