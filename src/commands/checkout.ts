import { existsSync } from 'node:fs'
import { mkdir, readdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { forgetPrevious } from '../build/previous-kernel.js'
import { InfraError, InputError } from '../errors.js'
import type { Log } from '../log.js'
import { findTree, isUrl, PACKAGE, type Trees } from '../request/trees.js'
import { type Changes, type Checkout, changesOf, openCheckout } from '../source/checkout.js'
import { git, resolveCommit } from '../source/git.js'
import { fetchRemote } from '../source/remote.js'
import { removeWorkspaces } from '../source/workspace.js'

/** What kc -i and kc -x do to a person's repository: the only code that changes files in one, or where HEAD is. */

interface Asked {
  force: boolean
  log: Log
  cancel?: AbortSignal
  /** git's own progress, where somebody watches */
  show?: (progress: Buffer) => void
}

/**
 * `kc -i`: makes a repository with the tree as a remote, fetches, and checks out. In a repository that has commits it
 * fetches only; with `force` the work tree goes to the fetched commit, without a branch, and loses its uncommitted changes.
 */
export async function initRepository(
  directory: string,
  wanted: { release?: string; trees: Trees; ref?: string },
  { force, log, cancel, show }: Asked,
): Promise<void> {
  const { release = 'mainline', trees } = wanted
  const tree = findTree(release, trees)
  if (tree.repo === PACKAGE)
    throw new InputError(`${release} is a package and has no history: name a tree that is a repository.`)
  const name = isUrl(release) ? 'origin' : release
  if (!existsSync(resolve(directory, '.git'))) {
    if ((await readdir(directory).catch(() => [])).length > 0)
      throw new InputError(`${directory} has files and is no repository: name a new or an empty directory.`)
    await mkdir(directory, { recursive: true })
    await git(['init', '--quiet', '--', directory])
    log.info(`made the repository ${directory}; a kernel's history is some gigabytes, which take a while`)
  }
  const at = await openCheckout(directory)
  if (!at?.top) throw new InputError(`${directory} is a repository without a work tree: name another one.`)
  const head = await resolveCommit(at.gitDir, 'HEAD')
  if (at.shallow)
    throw new InputError(`${directory} was cloned without its history: run \`git fetch --unshallow\` first.`)
  const ref = wanted.ref ?? tree.branch ?? 'HEAD'
  const { sha, branch } = await fetchRemote(at, name, tree, ref, log, { cancel, show })
  const call = { gitDir: at.gitDir, workTree: at.top, cancel, deadline: 3600 }
  const place = `${sha.slice(0, 12)}, ${ref} of ${release}`
  if (!head) {
    const start = branch ? ['-b', branch, '--track', `refs/remotes/${name}/${branch}`] : ['--detach', sha]
    await git(['checkout', '--quiet', ...start], call)
    log.info(`${directory} is at ${place}`)
  } else if (head === sha) {
    log.info(`${directory} is at ${place} already`)
  } else if (!force) {
    log.info(`fetched ${place}; ${directory} stays at ${head.slice(0, 12)}: --force checks the former out`)
  } else {
    const { changed, unmerged } = await changesOf(at)
    announce(at, { changed, unmerged, untracked: [], ignored: [] }, log)
    await git(['reset', '--quiet', '--hard', 'HEAD'], call)
    // files that git does not know are not written over: that fails
    await git(['checkout', '--quiet', '--detach', '--no-overwrite-ignore', sha], call)
    log.info(`${directory} is at ${place}; it was at ${head}`)
  }
}

/**
 * `kc -x`: removes what kc keeps for a checkout. The checkout itself is built nowhere by kc and stays as it is, unless
 * `force` asks for it as committed.
 */
export async function cleanCheckout(path: string, { force, log }: Asked): Promise<void> {
  const at = await openCheckout(path)
  if (!at) throw new InputError(`${path} is not in a git checkout: name one with --directory.`)
  const { gone, held } = await removeWorkspaces(at.gitDir)
  await forgetPrevious(at.gitDir)
  for (const directory of gone) log.info(`removed ${directory}`)
  if (gone.length === 0 && held.length === 0) log.info(`nothing was kept for ${at.top ?? path}`)
  const changes = await changesOf(at, { ignored: true })
  const files = Object.values(changes).flat().length
  if (at.top && files > 0 && force) await dropChanges({ ...at, top: at.top }, changes, log)
  else if (files > 0) {
    const { changed, unmerged, untracked, ignored } = changes
    log.info(
      `${at.top} stays as it is, with ${changed.length + unmerged.length} uncommitted changes and ${untracked.length + ignored.length} files or directories that git does not track: --force drops them`,
    )
  }
  if (held.length > 0)
    throw new InfraError(`A run is using ${held.join(', ')}: wait for its end, and clean again.`)
}

async function dropChanges(at: Checkout & { top: string }, changes: Changes, log: Log): Promise<void> {
  announce(at, changes, log)
  const call = { gitDir: at.gitDir, workTree: at.top, deadline: 3600 }
  if (await resolveCommit(at.gitDir, 'HEAD')) await git(['reset', '--quiet', '--hard', 'HEAD'], call)
  await git(['clean', '--quiet', '-d', '-x', '--force'], call)
  const left = Object.values(await changesOf(at, { ignored: true })).flat()
  if (left.length > 0) log.warning(`These are repositories of their own, and stay: ${left.join(', ')}`)
}

/** Says what is about to be dropped. */
function announce(at: Checkout, changes: Changes, log: Log): void {
  const kinds = Object.entries(changes).flatMap(([kind, files]: [string, string[]]) =>
    files.map(file => `${kind.padEnd(9)}  ${file}`),
  )
  if (kinds.length === 0) return
  log.info(`dropped from ${at.top}:`)
  for (const line of kinds) log.info(`  ${line}`)
}
