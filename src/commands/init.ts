import { existsSync } from 'node:fs'
import { mkdir, readdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { InputError } from '../errors.js'
import type { Log } from '../log.js'
import { findTree, isUrl, PACKAGE, type Trees } from '../request/trees.js'
import { type Checkout, changesOf, openCheckout } from '../source/checkout.js'
import { type GitCall, git, resolveCommit } from '../source/git.js'
import { fetchRemote } from '../source/remote.js'
import { type CheckoutContext, logDiscarded } from './checkout.js'

/**
 * `kc -i`: creates a repository with the tree as a remote, fetches, and checks out. In a repository that has commits it
 * fetches only; with `force` the work tree is moved to the fetched commit, with a detached HEAD, and loses its uncommitted
 * changes. Throws InputError, and SourceError for a tree or ref that cannot be fetched.
 */
export async function initRepository(
  directory: string,
  requested: { release: string; trees: Trees; ref?: string },
  { force, log, cancel, show }: CheckoutContext,
): Promise<void> {
  const { release, trees } = requested
  const tree = findTree(release, trees)
  if (tree.repo === PACKAGE)
    throw new InputError(`${release} is a package and has no history: name a tree that is a repository.`)
  const remote = isUrl(release) ? 'origin' : release
  const checkout = await openOrCreate(directory, log)
  const head = await resolveCommit(checkout.gitDir, 'HEAD')
  if (checkout.shallow)
    throw new InputError(`${directory} was cloned without its history: run \`git fetch --unshallow\` first.`)
  const ref = requested.ref ?? tree.branch ?? 'HEAD'
  const { sha, branch } = await fetchRemote(checkout, remote, tree, ref, log, { cancel, show })
  const call = { gitDir: checkout.gitDir, workTree: checkout.top, cancel, deadline: 3600 }
  const commit = `${sha.slice(0, 12)}, ${ref} of ${release}`
  if (!head) {
    const start = branch ? ['-b', branch, '--track', `refs/remotes/${remote}/${branch}`] : ['--detach', sha]
    await git(['checkout', '--quiet', ...start], call)
    log.info(`${directory} is at ${commit}`)
  } else if (head === sha) {
    log.info(`${directory} is at ${commit} already`)
  } else if (!force) {
    log.info(
      `fetched ${commit}; ${directory} stays at ${head.slice(0, 12)}: --force checks out the fetched commit`,
    )
  } else {
    await moveTo(sha, checkout, call, log)
    log.info(`${directory} is at ${commit}; it was at ${head}`)
  }
}

/** The checkout in a directory, which is created with an empty repository if it does not exist or is empty. */
async function openOrCreate(directory: string, log: Log): Promise<Checkout> {
  if (!existsSync(resolve(directory, '.git'))) {
    if ((await readdir(directory).catch(() => [])).length > 0)
      throw new InputError(
        `${directory} has files and is not a repository: name a new or an empty directory.`,
      )
    await mkdir(directory, { recursive: true })
    await git(['init', '--quiet', '--', directory])
    log.info(
      `created the repository ${directory}; the history of the kernel is several gigabytes, which take a while`,
    )
  }
  const checkout = await openCheckout(directory)
  if (!checkout?.top)
    throw new InputError(`${directory} is a repository without a work tree: name another one.`)
  return checkout
}

/** Moves the work tree to a commit, without its uncommitted changes. */
async function moveTo(sha: string, checkout: Checkout, call: GitCall, log: Log): Promise<void> {
  const { changed, unmerged } = await changesOf(checkout)
  logDiscarded(checkout, { changed, unmerged, untracked: [], ignored: [] }, log)
  await git(['reset', '--quiet', '--hard', 'HEAD'], call)
  // fails rather than overwrite a file that git does not track
  await git(['checkout', '--quiet', '--detach', '--no-overwrite-ignore', sha], call)
}
