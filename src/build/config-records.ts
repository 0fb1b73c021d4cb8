import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { readConfig } from '../config/fragments.js'
import { readJson, writeFileAtomic } from '../host/files.js'
import { cachePath } from '../host/paths.js'
import { commitText } from '../result.js'
import { differences, type Identity, type KernelInputs } from './identity.js'

/**
 * What Kconfig answered to a question, noted when a kernel was made of it. With it a kernel is found by what was asked,
 * without a checkout; without the kernel it still tells how the next one differs.
 */
export interface ConfigRecord {
  configKey: string
  /** key of the kernel */
  key: string
  identity: Identity
  commit: { sha: string; subject: string; dirty?: boolean }
  /** the resolved .config */
  config: string
  /** what configuring warned of: said again when it is not repeated */
  warnings: string[]
}

const directory = () => cachePath('kernels', 'asked')

export async function writeConfigRecord(answer: ConfigRecord): Promise<void> {
  await writeFileAtomic(join(directory(), `${answer.configKey}.json`), JSON.stringify(answer))
}

/** The answer to exactly this question; undefined if it was never asked here. */
export async function findConfigRecord(question: string): Promise<ConfigRecord | undefined> {
  return await readJson<ConfigRecord>(join(directory(), `${question}.json`))
}

/** The made kernel of an answer or of a new one, to be compared. */
export function inputsOf(from: Pick<ConfigRecord, 'identity' | 'commit' | 'config'>): KernelInputs {
  const { identity, commit, config } = from
  const subject = commit.subject.length > 60 ? `${commit.subject.slice(0, 59)}…` : commit.subject
  return { identity, commit: `${commitText(commit)} (${subject})`, values: readConfig(config) }
}

/** Names of the answers, the newest one first. */
async function newestFirst(): Promise<string[]> {
  const names = (await readdir(directory()).catch(() => [])).filter(name => name.endsWith('.json'))
  const dated = await Promise.all(
    names.map(async name => ({
      name,
      at: await stat(join(directory(), name)).then(
        info => info.mtimeMs,
        () => 0,
      ),
    })),
  )
  return dated.sort((a, b) => b.at - a.at).map(({ name }) => name)
}

/** How many of the newest answers are compared, and how many are kept: about a hundred kilobytes each. */
const MOST_COMPARED = 20
const MOST_KEPT = 50

/** Forgets old answers. Their kernels are then found only after Kconfig was asked again. */
export async function pruneConfigRecords(): Promise<void> {
  for (const name of (await newestFirst()).slice(MOST_KEPT))
    await rm(join(directory(), name), { force: true })
}

/** What differs from the nearest kernel that was made here before; undefined if there was none. */
export async function differsFromNearest(now: KernelInputs): Promise<string[] | undefined> {
  const newest = (await newestFirst()).slice(0, MOST_COMPARED)
  let best: string[] | undefined
  for (const name of newest) {
    const answer = await readJson<ConfigRecord>(join(directory(), name))
    if (!answer) continue
    const found = differences(inputsOf(answer), now)
    // the newest of those that are equally near
    if (best === undefined || found.length < best.length) best = found
  }
  return best
}
