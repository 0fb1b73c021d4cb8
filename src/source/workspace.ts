import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { InfraError } from '../errors.js'
import { sha256 } from '../host/hash.js'
import { releaseLock, takeLock } from '../host/lock.js'
import { cachePath } from '../host/paths.js'
import { git, withConfig } from './git.js'
import type { Source } from './source.js'

/** A work tree and build directory in the cache, locked by one run at a time. */
export interface Workspace {
  directory: string
  /** the source at the commit under test */
  source: string
  /** Unlocks it; a second call does nothing. */
  release(): Promise<void>
}

/** How many runs of one repository may build at the same time. */
const SLOTS = 16
const DAY_MS = 86400_000

/** `6.12` of 6.12.117. Each series has a workspace: a change of series changes nearly every file. */
export function seriesOf({ version }: Pick<Source, 'version'>): string {
  return version.split('.').slice(0, 2).join('.')
}

/** A name for a repository in paths. */
export const repositoryName = (repository: string) => sha256(repository).slice(0, 12)

/** Path for a checkout's uncommitted changes: beside the workspaces, and removed with them. */
export const changesPath = (repository: string, ...rest: string[]) =>
  cachePath('work', `changes-${repositoryName(repository)}`, ...rest)

/** A name for a source's repository and series in paths. */
export function sourceName(source: Source): string {
  return `${seriesOf(source)}-${repositoryName(source.repository)}`
}

/** Directories of the workspaces of a source's repository and series, in the order of preference. */
function slots(source: Source): string[] {
  const key = sourceName(source)
  return Array.from({ length: SLOTS }, (_, slot) => cachePath('work', slot === 0 ? key : `${key}.${slot}`))
}

/**
 * Locks the first free workspace of the source's repository and series. Its files stay between runs, so that the next
 * checkout changes only files that differ and make compiles only those. Throws InfraError if all are locked.
 */
export async function acquireWorkspace(source: Source): Promise<Workspace> {
  for (const directory of slots(source)) {
    await mkdir(directory, { recursive: true })
    const lock = join(directory, 'lock')
    if (!(await takeLock(lock))) continue
    try {
      await writeFile(join(directory, 'origin'), source.repository)
      // what others left behind is not this run's trouble
      await removeOrphans().catch(() => {})
    } catch (error) {
      await releaseLock(lock)
      throw error
    }
    return { directory, source: join(directory, 'src'), release: () => releaseLock(lock) }
  }
  throw new InfraError(
    `${SLOTS} runs of this repository are already in progress: wait until one of them ends.`,
  )
}

/**
 * Removes the cache's files for a repository: work trees with their build directories, and files of uncommitted changes.
 * Returns the directories that were removed, and those that a run has locked.
 */
export async function removeWorkspaces(repository: string): Promise<{ gone: string[]; held: string[] }> {
  const done = { gone: [] as string[], held: [] as string[] }
  const names = await readdir(cachePath('work')).catch(() => [])
  for (const name of names.sort()) {
    const directory = cachePath('work', name)
    const origin = await readFile(join(directory, 'origin'), 'utf8').catch(() => undefined)
    if (origin !== repository) continue
    // a run in progress may still read the files of its changes
    if (directory === changesPath(repository) && done.held.length > 0) continue
    const lock = join(directory, 'lock')
    if (!(await takeLock(lock))) {
      done.held.push(directory)
      continue
    }
    await removeLocked(directory, lock)
    done.gone.push(directory)
  }
  return done
}

/** Removes the workspaces of repositories that no longer exist, and files of imports that were killed. */
async function removeOrphans(): Promise<void> {
  for (const name of await readdir(cachePath('work'))) {
    const directory = cachePath('work', name)
    const origin = await readFile(join(directory, 'origin'), 'utf8').catch(() => undefined)
    const info = await stat(directory).catch(() => undefined)
    if (!info) continue
    const orphan = origin !== undefined ? !existsSync(origin) : Date.now() - info.mtimeMs > DAY_MS
    const lock = join(directory, 'lock')
    // an index file of a killed import is not a directory, and has no lock
    if (orphan && (!info.isDirectory() || (await takeLock(lock)))) await removeLocked(directory, lock)
  }
}

/**
 * Removes a directory and the lock in it, which this process holds. It is renamed first: a run that comes meanwhile makes
 * a directory of its own. NFS cannot remove a file that is open.
 */
async function removeLocked(directory: string, lock: string): Promise<void> {
  const removed = cachePath('work', `removed-${randomUUID()}`)
  try {
    await rename(directory, removed)
  } finally {
    await releaseLock(lock)
  }
  await rm(removed, { recursive: true, force: true })
}

/**
 * Checks the tree's files out into the workspace. Nothing is written to the source's repository: the index is the
 * workspace's. Files that did not change keep their time stamps.
 */
export async function checkOut(source: Source, workspace: Workspace, cancel?: AbortSignal): Promise<void> {
  const index = join(workspace.directory, 'index')
  await mkdir(workspace.source, { recursive: true })
  // this run has locked the workspace, so a lock of its index is left from a git that was killed
  await rm(`${index}.lock`, { force: true })
  const fresh = !existsSync(index)
  const call = {
    gitDir: source.gitDir,
    workTree: workspace.source,
    cancel,
    // the build needs all files, also those that a sparse checkout leaves out
    env: { GIT_INDEX_FILE: index, ...withConfig('core.sparseCheckout', 'false') },
    deadline: 3600,
  }
  try {
    await git(['read-tree', '--reset', '-u', source.treeId], call)
    // restores files that differ from the index (after an aborted checkout, or an edit)
    if (!fresh) await git(['checkout-index', '--all', '--force', '--quiet'], call)
  } catch (error) {
    if (!cancel?.aborted) await rm(index, { force: true })
    throw error
  }
}
