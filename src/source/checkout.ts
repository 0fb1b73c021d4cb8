import { existsSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cachePath } from '../host/paths.js'
import { git, openRepository, tryGit } from './git.js'
import { changesPath } from './workspace.js'

/** A person's checkout. Nothing here writes to it. */
export interface Checkout {
  path: string
  /** its repository, also of a linked work tree */
  gitDir: string
  /** directory of its objects, for others to borrow from */
  objects: string
  /** file of its configuration */
  config: string
  /** top of its work tree; a bare repository has none */
  top?: string
  /** it was cloned without its history */
  shallow: boolean
}

/** The checkout that a directory is in; undefined if it is in none. */
export async function openCheckout(path: string): Promise<Checkout | undefined> {
  const ask = async (...words: string[]) => {
    const end = await tryGit(['-C', path, 'rev-parse', '--path-format=absolute', ...words])
    return end.status === 0 ? end.stdout.replace(/\n$/, '') : undefined
  }
  const [gitDir, objects, config, top, shallow] = await Promise.all([
    ask('--absolute-git-dir'),
    ask('--git-path', 'objects'),
    ask('--git-path', 'config'),
    ask('--show-toplevel'),
    ask('--is-shallow-repository'),
  ])
  if (!gitDir || !objects || !config) return undefined
  return { path, gitDir, objects, config, shallow: shallow === 'true', ...(top ? { top } : {}) }
}

/** Paths, relative to the top, of what a checkout has that its commit has not. */
export interface Changes {
  /** edited, added or removed files that git tracks */
  changed: string[]
  /** in conflict */
  unmerged: string[]
  /** neither tracked nor ignored; a directory of such files ends with a slash */
  untracked: string[]
  /** ignored ones, if they were asked for */
  ignored: string[]
}

/** False where nothing was checked out yet (`git clone --no-checkout`): that is no removal of every file. */
async function isCheckedOut(at: Checkout & { top: string }): Promise<boolean> {
  const files = (await readdir(at.top)).filter(name => name !== '.git')
  return files.length > 0 && existsSync(await indexOf(at))
}

const indexOf = async (at: Checkout) =>
  await git(['rev-parse', '--path-format=absolute', '--git-path', 'index'], { gitDir: at.gitDir })

export async function changesOf(at: Checkout, options: { ignored?: boolean } = {}): Promise<Changes> {
  const changes: Changes = { changed: [], unmerged: [], untracked: [], ignored: [] }
  if (!at.top || !(await isCheckedOut({ ...at, top: at.top }))) return changes
  const words = ['status', '--porcelain=v1', '-z', '--no-renames', '--untracked-files=normal']
  const status = await git(
    [...words, '--ignore-submodules=all', ...(options.ignored ? ['--ignored=traditional'] : [])],
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
 * The work tree's tracked files as a git tree, as `git commit --all` would make it. The index is a copy, and new objects
 * go to a repository of our own that borrows all others from the checkout's. Returns that repository and the tree.
 */
export async function snapshotWorkTree(
  at: Checkout & { top: string },
  cancel?: AbortSignal,
): Promise<{ gitDir: string; treeId: string }> {
  const gitDir = changesPath(at.gitDir, 'repository.git')
  await openRepository(gitDir, at.objects)
  await writeFile(changesPath(at.gitDir, 'origin'), at.gitDir)
  // filters, and whom to ask for objects that a partial clone has not fetched yet
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

async function copyIndex(at: Checkout, to: string): Promise<void> {
  const from = await indexOf(at)
  await copyFile(from, to)
  // git trusts an entry that is older than its index; a copy must not look younger than what it is a copy of
  const { mtimeMs } = await stat(from)
  const seconds = Math.floor(mtimeMs) / 1000
  await utimes(to, seconds, seconds)
}
