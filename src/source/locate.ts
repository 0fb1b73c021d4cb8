import { SourceError } from '../errors.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import { findTree, isUrl, PACKAGE, type Tree } from '../request/trees.js'
import { type Changes, type Checkout, changesOf, openCheckout, snapshotWorkTree } from './checkout.js'
import { distroRepository } from './distro.js'
import { fetchCommit, isFullSha, isHex, redactUrl, splitAncestor } from './fetch.js'
import { git, resolveCommit, tryGit } from './git.js'
import { fetchRemote, originOf, remoteUrl } from './remote.js'
import type { Source } from './source.js'

/**
 * Finds or fetches the requested source. In the user's repository only refs/remotes/NAME is written, and only by kc.
 * Throws SourceError.
 */
export async function locateSource(request: Request, log: Log, cancel?: AbortSignal): Promise<Source> {
  const { release, ref, path } = request
  if (release === undefined) return await fromCheckout(request, log, cancel)
  const tree = findTree(release, request.trees)
  if (tree.repo === PACKAGE) {
    const wanted = ref ?? tree.branch
    const { gitDir, branch } = await distroRepository(wanted, log, cancel)
    const sha = await resolveCommit(gitDir, wanted ?? branch)
    return await describe({ gitDir, tree: release, ref: wanted ?? branch, sha })
  }
  const checkout = await openCheckout(path)
  if (checkout && request.local && !isUrl(release) && (await takesRemote(checkout, release))) {
    const wanted = ref ?? tree.branch ?? 'HEAD'
    const { sha } = await fetchRemote(checkout, release, tree, wanted, log, { cancel })
    return await describe({ gitDir: checkout.gitDir, tree: release, ref: wanted, sha })
  }
  const fetched = await fetchCommit(tree, ref, log, { reference: checkout?.objects, cancel })
  return await describe({ ...fetched, tree: redactUrl(release) })
}

/**
 * True for a repository of a kernel with its history: in others no refs are added, and a fetch into a shallow one would
 * either make more histories shallow or fetch a complete one.
 */
async function takesRemote({ gitDir, shallow }: Checkout, name: string): Promise<boolean> {
  if ((await remoteUrl(gitDir, name)) !== undefined) return !shallow
  return !shallow && (await versionOf(gitDir, 'HEAD')) !== undefined
}

/** HEAD of the checkout with its uncommitted changes, or a commit that it has or can fetch from its origin. */
async function fromCheckout(request: Request, log: Log, cancel?: AbortSignal): Promise<Source> {
  const { path, ref, force } = request
  const checkout = await openCheckout(path)
  if (!checkout) {
    throw new SourceError(
      `${path} is not a git checkout of a kernel: name one with --directory (input path), or a tree with --release.`,
    )
  }
  const { gitDir, top } = checkout
  const changes = await changesOf(checkout)
  const sha = await resolveCommit(gitDir, ref ?? 'HEAD')
  if (!sha && ref !== undefined) return await fromOrigin(checkout, ref, log, cancel)
  const committed = await describe({ gitDir, tree: path, ref: ref ?? 'HEAD', sha })
  const uncommitted = [...changes.unmerged, ...changes.changed]
  if (uncommitted.length > 0 && (ref !== undefined || force || !top)) {
    log.info(
      `${ref ?? 'HEAD'} is tested as it is committed, without ${count(uncommitted)} (they stay in the checkout): ${some(uncommitted)}`,
    )
    return committed
  }
  checkUncommitted(request, changes, log)
  if (changes.changed.length === 0 || !top) return committed
  log.info(`HEAD is tested with ${count(changes.changed)}: ${some(changes.changed)}`)
  return await withChanges(committed, await snapshotWorkTree({ ...checkout, top }, cancel))
}

/** Throws SourceError for unresolved conflicts; reports files that git does not track. */
function checkUncommitted({ path, ref }: Request, changes: Changes, log: Log): void {
  const { changed, unmerged, untracked } = changes
  if (unmerged.length > 0) {
    throw new SourceError(
      `${path} has ${unmerged.length} files with conflicts: finish the merge, or test what is committed with --commit HEAD (input ref).`,
      unmerged,
    )
  }
  if (ref !== undefined || untracked.length === 0) return
  const message = `Files that git does not track are not built, add them with \`git add\`: ${some(untracked)}`
  // without changed files, nothing that is built can refer to them
  if (changed.length > 0) log.warning(message)
  else log.detail(message)
}

/** A commit with the snapshot of the work tree instead of its own tree. */
async function withChanges(committed: Source, snapshot: { gitDir: string; treeId: string }): Promise<Source> {
  if (snapshot.treeId === committed.treeId) return committed
  const version = await versionOf(snapshot.gitDir, snapshot.treeId)
  return { ...committed, ...snapshot, dirty: true, version: version ?? committed.version }
}

const count = (files: readonly string[]) =>
  files.length === 1 ? 'one uncommitted change' : `${files.length} uncommitted changes`

/** The first names of a list, quoted where a terminal could not print them. */
function some(files: readonly string[], limit = 20): string {
  const names = files
    .slice(0, limit)
    .map(file => (/^[\w@%+=:,./-]+$/.test(file) ? file : JSON.stringify(file)))
  return names.join(', ') + (files.length > limit ? ` and ${files.length - limit} more` : '')
}

/** Fetches a ref that the checkout does not have, such as one of a pull request or of Gerrit, from its origin. */
async function fromOrigin(checkout: Checkout, ref: string, log: Log, cancel?: AbortSignal): Promise<Source> {
  const base = splitAncestor(ref)?.base ?? ref
  const missing = `${checkout.path} has no commit "${ref}"`
  // refs that only this repository can have; and an abbreviated SHA, for which the complete history would be fetched
  const local = /^([A-Z_]*HEAD|@)$|@\{/.test(base) || (isHex(base) && !isFullSha(base))
  const origin = local ? undefined : await originOf(checkout)
  if (!origin) throw new SourceError(`${missing}.`)
  const tree: Tree = { repo: origin.url }
  try {
    const fetched = await fetchCommit(tree, ref, log, {
      reference: checkout.objects,
      env: origin.env,
      cancel,
    })
    return await describe({ ...fetched, repository: checkout.gitDir, tree: checkout.path })
  } catch (error) {
    if (!(error instanceof SourceError)) throw error
    throw new SourceError(
      `${missing}, and fetching it from its remote ${origin.name} failed: ${error.message}`,
      error.details,
    )
  }
}

/** The text of a file of the tree under test; undefined if it does not exist. `file` is untrusted. */
export async function readFromTree(
  source: Pick<Source, 'gitDir' | 'treeId'>,
  file: string,
): Promise<string | undefined> {
  if (/^\/|(^|\/)\.\.(\/|$)|[\0\n]/.test(file)) return undefined
  const end = await tryGit(['cat-file', 'blob', `${source.treeId}:${file}`], {
    gitDir: source.gitDir,
    whole: true,
  })
  return end.status === 0 ? end.stdout : undefined
}

/** The facts about a commit. Throws SourceError if there is none, or if it is not a kernel's. */
async function describe(found: {
  gitDir: string
  repository?: string
  tree: string
  ref: string
  sha?: string
}): Promise<Source> {
  const { gitDir, repository = gitDir, tree, ref, sha } = found
  if (!sha) throw new SourceError(`${tree} has no commit "${ref}".`)
  const [treeId, subject, version] = await Promise.all([
    git(['rev-parse', '--verify', `${sha}^{tree}`], { gitDir }),
    git(['show', '--no-patch', '--format=%s', sha], { gitDir }),
    versionOf(gitDir, sha),
  ])
  if (!version) {
    throw new SourceError(
      `${tree} at ${ref} is not a Linux kernel tree: its top directory has no kernel Makefile.`,
    )
  }
  return { gitDir, repository, tree, ref, sha, treeId, subject, version }
}

async function versionOf(gitDir: string, treeish: string): Promise<string | undefined> {
  const makefile = await tryGit(['cat-file', 'blob', `${treeish}:Makefile`], { gitDir })
  return makefile.status === 0 ? kernelVersion(makefile.stdout) : undefined
}

/** The version in a kernel's top Makefile, `6.12.117` or `6.13.0-rc1`; undefined for any other text. */
export function kernelVersion(makefile: string): string | undefined {
  const field = (name: string) => new RegExp(`^${name} *=[ \t]*(.*)$`, 'm').exec(makefile)?.[1]?.trim()
  const [version, patchlevel] = [field('VERSION'), field('PATCHLEVEL')]
  if (!version || !patchlevel || !/^KERNELVERSION *=/m.test(makefile)) return undefined
  return `${version}.${patchlevel}.${field('SUBLEVEL') || '0'}${field('EXTRAVERSION') ?? ''}`
}
