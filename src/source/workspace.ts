import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { InfraError } from '../errors.js'
import { sha256 } from '../host/hash.js'
import { takeLock } from '../host/lock.js'
import { cachePath } from '../host/paths.js'
import { git, withConfig } from './git.js'
import type { Source } from './source.js'

/** A work tree and build directory of our own, held by one run at a time. */
export interface Workspace {
  directory: string
  /** the source at the commit under test */
  source: string
  release(): Promise<void>
}

/** How many runs of one repository may build at the same time. */
const SLOTS = 16
const DAY_MS = 86400_000

/** `6.12` of 6.12.117: going from one series to another and back would touch nearly every file. */
export function seriesOf({ version }: Pick<Source, 'version'>): string {
  return version.split('.').slice(0, 2).join('.')
}

/** A name for a repository. */
export const repositoryName = (repository: string) => sha256(repository).slice(0, 12)

/** Where the files of a checkout's uncommitted changes are kept: beside the workspaces, and removed with them. */
export const changesPath = (repository: string, ...rest: string[]) =>
  cachePath('work', `changes-${repositoryName(repository)}`, ...rest)

/** A name for a source's repository and series. */
export function sourceName(source: Source): string {
  return `${seriesOf(source)}-${repositoryName(source.repository)}`
}

/** Directories of the workspaces of a source's repository and series, the first one first. */
function slots(source: Source): string[] {
  const key = sourceName(source)
  return Array.from({ length: SLOTS }, (_, slot) => cachePath('work', slot === 0 ? key : `${key}.${slot}`))
}

/**
 * The first free workspace of the source's repository and series. Its files stay between runs, so that the next commit
 * touches only what changed and make compiles only that.
 */
export async function takeWorkspace(source: Source): Promise<Workspace> {
  for (const directory of slots(source)) {
    await mkdir(directory, { recursive: true })
    const lock = join(directory, 'lock')
    if (!(await takeLock(lock))) continue
    await writeFile(join(directory, 'origin'), source.repository)
    await removeOrphans()
    let held = true
    const release = async () => {
      // once: after that the lock may be somebody else's
      if (held) await rm(lock, { force: true })
      held = false
    }
    return { directory, source: join(directory, 'src'), release }
  }
  throw new InfraError(`${SLOTS} runs of this repository are under way already: wait for one of them to end.`)
}

/**
 * Removes what is kept for a repository: work trees with their build directories, and files of uncommitted changes.
 * Returns the directories that are gone, and those that are left because a run holds them.
 */
export async function removeWorkspaces(repository: string): Promise<{ gone: string[]; held: string[] }> {
  const done = { gone: [] as string[], held: [] as string[] }
  const names = await readdir(cachePath('work')).catch(() => [])
  for (const name of names.sort()) {
    const directory = cachePath('work', name)
    const origin = await readFile(join(directory, 'origin'), 'utf8').catch(() => undefined)
    if (origin !== repository) continue
    // a run that is under way may still read the files of its changes
    if (directory === changesPath(repository) && done.held.length > 0) continue
    const free = await takeLock(join(directory, 'lock'))
    if (free) await rm(directory, { recursive: true, force: true })
    ;(free ? done.gone : done.held).push(directory)
  }
  return done
}

/** Removes the workspaces of repositories that are gone, and what killed imports left behind. */
async function removeOrphans(): Promise<void> {
  for (const name of await readdir(cachePath('work'))) {
    const directory = cachePath('work', name)
    const origin = await readFile(join(directory, 'origin'), 'utf8').catch(() => undefined)
    const info = await stat(directory).catch(() => undefined)
    if (!info) continue
    const orphan = origin !== undefined ? !existsSync(origin) : Date.now() - info.mtimeMs > DAY_MS
    if (!orphan || !(await takeLock(join(directory, 'lock')).catch(() => true))) continue
    await rm(directory, { recursive: true, force: true })
  }
}

/**
 * Puts the tree's files into the workspace. Nothing is written to the repository they come from: the index is
 * ours. Files that did not change keep their time stamps.
 */
export async function checkOut(source: Source, workspace: Workspace, cancel?: AbortSignal): Promise<void> {
  const index = join(workspace.directory, 'index')
  await mkdir(workspace.source, { recursive: true })
  // we hold the workspace, so a lock on its index is what a killed git left behind
  await rm(`${index}.lock`, { force: true })
  const fresh = !existsSync(index)
  const call = {
    gitDir: source.gitDir,
    workTree: workspace.source,
    cancel,
    // what is built is whole, also where the checkout is sparse
    env: { GIT_INDEX_FILE: index, ...withConfig('core.sparseCheckout', 'false') },
    deadline: 3600,
  }
  try {
    await git(['read-tree', '--reset', '-u', source.treeId], call)
    // whatever differs from it all the same (an aborted checkout, an edit) is put right
    if (!fresh) await git(['checkout-index', '--all', '--force', '--quiet'], call)
  } catch (error) {
    if (!cancel?.aborted) await rm(index, { force: true })
    throw error
  }
}
