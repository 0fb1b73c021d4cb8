import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { readConfig } from '../config/fragments.js'
import { readJson, writeFileAtomic } from '../host/files.js'
import { cachePath } from '../host/paths.js'
import { commitText } from '../result.js'
import type { Source } from '../source/source.js'
import { differences, type Identity, type KernelInputs } from './identity.js'

/** The commit that a kernel was built from, as records and manifests name it. */
export interface CommitFacts {
  sha: string
  subject: string
  dirty?: boolean
}

export const commitFacts = ({ sha, subject, dirty }: Source): CommitFacts => ({
  sha,
  subject,
  ...(dirty ? { dirty } : {}),
})

/**
 * The configuration that Kconfig resolved for a config key, recorded when its kernel was stored. With it a kernel is found
 * without a checkout; after the kernel has been removed it still tells how the next one differs.
 */
export interface ConfigRecord {
  configKey: string
  /** key of the kernel in the kernel cache */
  key: string
  identity: Identity
  commit: CommitFacts
  /** the resolved .config */
  config: string
  /** warnings of the stage config: logged again when the stage is skipped */
  warnings: string[]
}

/** The directory of all config records. */
export const configRecordsPath = () => cachePath('kernels', 'configs')

const recordPath = (configKey: string) => join(configRecordsPath(), `${configKey}.json`)

export async function writeConfigRecord(record: ConfigRecord): Promise<void> {
  await writeFileAtomic(recordPath(record.configKey), JSON.stringify(record))
}

/** The record of exactly this config key; undefined if there is none. */
export async function findConfigRecord(configKey: string): Promise<ConfigRecord | undefined> {
  return await readJson<ConfigRecord>(recordPath(configKey))
}

/** The inputs of a kernel, in the form in which they are compared. */
export function inputsOf(from: Pick<ConfigRecord, 'identity' | 'commit' | 'config'>): KernelInputs {
  const { identity, commit, config } = from
  const subject = commit.subject.length > 60 ? `${commit.subject.slice(0, 59)}…` : commit.subject
  return { identity, commit: `${commitText(commit)} (${subject})`, values: readConfig(config) }
}

/** File names of the records, the newest one first. */
async function newestFirst(): Promise<string[]> {
  const names = (await readdir(configRecordsPath()).catch(() => [])).filter(name => name.endsWith('.json'))
  const dated = await Promise.all(
    names.map(async name => ({
      name,
      mtimeMs: await stat(join(configRecordsPath(), name)).then(
        info => info.mtimeMs,
        () => 0,
      ),
    })),
  )
  return dated.sort((a, b) => b.mtimeMs - a.mtimeMs).map(({ name }) => name)
}

/** How many of the newest records are compared, and how many are kept: about a hundred kilobytes each. */
const MOST_COMPARED = 20
const MOST_KEPT = 50

/** Removes old records. Their kernels are then found only after Kconfig has run again. */
export async function pruneConfigRecords(): Promise<void> {
  for (const name of (await newestFirst()).slice(MOST_KEPT))
    await rm(join(configRecordsPath(), name), { force: true })
}

/** What differs from the most similar kernel that was recorded; undefined if there is no record. */
export async function differsFromNearest(inputs: KernelInputs): Promise<string[] | undefined> {
  const newest = (await newestFirst()).slice(0, MOST_COMPARED)
  let best: string[] | undefined
  for (const name of newest) {
    const record = await readJson<ConfigRecord>(join(configRecordsPath(), name))
    if (!record) continue
    const found = differences(inputsOf(record), inputs)
    // the newest of those that are equally near
    if (best === undefined || found.length < best.length) best = found
  }
  return best
}
