import { existsSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cachePath } from '../host/paths.js'
import { git, openRepository, tryGit } from './git.js'
import { changesPath } from './workspace.js'

/** The user's checkout. Nothing in this file writes to it. */
export interface Checkout {
  path: string
  /** its repository; of a linked work tree, that of the work tree */
  gitDir: string
  /** directory of its objects, which other repositories borrow from */
  objects: string
  /** its configuration file */
  config: string
  /** top of its work tree; a bare repository has none */
  top?: string
  /** its history is incomplete */
  shallow: boolean
}

/** The checkout with this directory; undefined if the directory is not in one. */
export async function openCheckout(path: string): Promise<Checkout | undefined> {
  const revParse = async (...args: string[]) => {
    const end = await tryGit(['-C', path, 'rev-parse', '--path-format=absolute', ...args])
    return end.status === 0 ? end.stdout.replace(/\n$/, '') : undefined
  }
  const [gitDir, objects, config, top, shallow] = await Promise.all([
    revParse('--absolute-git-dir'),
    revParse('--git-path', 'objects'),
    revParse('--git-path', 'config'),
    revParse('--show-toplevel'),
    revParse('--is-shallow-repository'),
  ])
  if (!gitDir || !objects || !config) return undefined
  return { path, gitDir, objects, config, shallow: shallow === 'true', ...(top ? { top } : {}) }
}

/** What differs between a checkout and its commit: paths relative to the top. */
export interface Changes {
  /** edited, added or removed files that git tracks */
  changed: string[]
  /** in conflict */
  unmerged: string[]
  /** neither tracked nor ignored; a directory of such files ends with a slash */
  untracked: string[]
  /** ignored files, if requested */
  ignored: string[]
}

/** False where nothing is checked out yet (`git clone --no-checkout`), which does not mean that all files were removed. */
async function isCheckedOut(at: Checkout & { top: string }): Promise<boolean> {
  const files = (await readdir(at.top)).filter(name => name !== '.git')
  return files.length > 0 && existsSync(await indexPath(at))
}

/** Path of the checkout's index. */
const indexPath = async (at: Checkout) =>
  await git(['rev-parse', '--path-format=absolute', '--git-path', 'index'], { gitDir: at.gitDir })

/** The uncommitted changes of a checkout; none for a bare repository. */
export async function changesOf(at: Checkout, options: { ignored?: boolean } = {}): Promise<Changes> {
  const changes: Changes = { changed: [], unmerged: [], untracked: [], ignored: [] }
  if (!at.top || !(await isCheckedOut({ ...at, top: at.top }))) return changes
  const args = ['status', '--porcelain=v1', '-z', '--no-renames', '--untracked-files=normal']
  const status = await git(
    [...args, '--ignore-submodules=all', ...(options.ignored ? ['--ignored=traditional'] : [])],
    { gitDir: at.gitDir, workTree: at.top, whole: true },
  )
  for (const entry of status.split('\0').filter(Boolean)) {
    const [kind, path] = [entry.slice(0, 2), entry.slice(3)]
    if (kind === '??') changes.untracked.push(path)
    else if (kind === '!!') changes.ignored.push(path)
    else if (/U|AA|DD/.test(kind)) changes.unmerged.push(path)
    else changes.changed.push(path)
  }
  return changes
}

/**
 * Writes the work tree's tracked files as a git tree, as `git commit --all` would. The index is a copy, and new objects are
 * written to a repository in the cache that borrows all others from the checkout's. Returns that repository and the tree.
 */
export async function snapshotWorkTree(
  at: Checkout & { top: string },
  cancel?: AbortSignal,
): Promise<{ gitDir: string; treeId: string }> {
  const gitDir = changesPath(at.gitDir, 'repository.git')
  await openRepository(gitDir, at.objects)
  await writeFile(changesPath(at.gitDir, 'origin'), at.gitDir)
  // for its filters, and for the remote with the objects that a partial clone has not fetched yet
  await git(['config', '--replace-all', 'include.path', at.config], { gitDir })
  await mkdir(cachePath('work'), { recursive: true })
  const scratch = await mkdtemp(cachePath('work', 'index-'))
  try {
    const index = join(scratch, 'index')
    await copyIndex(at, index)
    const call = {
      ...{ gitDir: at.gitDir, workTree: at.top, cancel, deadline: 3600 },
      env: { GIT_INDEX_FILE: index, GIT_OBJECT_DIRECTORY: join(gitDir, 'objects') },
    }
    await git(['add', '--update'], call)
    return { gitDir, treeId: await git(['write-tree'], call) }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** Copies the checkout's index with its modification time. */
async function copyIndex(at: Checkout, to: string): Promise<void> {
  const from = await indexPath(at)
  await copyFile(from, to)
  // git does not compare a file that is older than the index: a newer copy would hide recent changes
  const { mtimeMs } = await stat(from)
  const seconds = Math.floor(mtimeMs) / 1000
  await utimes(to, seconds, seconds)
}
