import { SourceError } from '../errors.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import { findTree, isUrl, PACKAGE, type Tree } from '../request/trees.js'
import { type Checkout, changesOf, openCheckout, snapshotWorkTree } from './checkout.js'
import { distroRepository } from './distro.js'
import { fetchCommit, isFullSha, isHex, redactUrl, splitAncestor } from './fetch.js'
import { git, resolveCommit, tryGit } from './git.js'
import { fetchRemote, originOf, remoteUrl } from './remote.js'
import type { Source } from './source.js'

/** Finds or fetches what was asked for. Of a person's repository only refs/remotes/NAME is written, and only at a desk. */
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
  const at = await openCheckout(path)
  if (at && request.local && !isUrl(release) && (await takesRemote(at, release))) {
    const wanted = ref ?? tree.branch ?? 'HEAD'
    const { sha } = await fetchRemote(at, release, tree, wanted, log, { cancel })
    return await describe({ gitDir: at.gitDir, tree: release, ref: wanted, sha })
  }
  const fetched = await fetchCommit(tree, ref, log, { reference: at?.objects, cancel })
  return await describe({ ...fetched, tree: redactUrl(release) })
}

/**
 * True for a repository that is a kernel's, with its history: others keep their refs, and a fetch into a shallow one
 * would either cut histories or fetch all of one.
 */
async function takesRemote(at: Checkout, name: string): Promise<boolean> {
  if ((await remoteUrl(at.gitDir, name)) !== undefined) return !at.shallow
  return !at.shallow && (await versionOf(at.gitDir, 'HEAD')) !== undefined
}

async function fromCheckout(request: Request, log: Log, cancel?: AbortSignal): Promise<Source> {
  const { path, ref, force } = request
  const at = await openCheckout(path)
  if (!at) {
    throw new SourceError(
      `${path} is not a git checkout of a kernel: name one with --directory (input path), or a tree with --release.`,
    )
  }
  const { gitDir, top } = at
  const { changed, unmerged, untracked } = await changesOf(at)
  const uncommitted = [...unmerged, ...changed]
  const sha = await resolveCommit(gitDir, ref ?? 'HEAD')
  if (!sha && ref !== undefined) return await fromOrigin(at, ref, log, cancel)
  const committed = await describe({ gitDir, tree: path, ref: ref ?? 'HEAD', sha })
  if (uncommitted.length > 0 && (ref !== undefined || force || !top)) {
    log.info(
      `${ref ?? 'HEAD'} is tested as it is committed, without ${count(uncommitted)} (they stay in the checkout): ${some(uncommitted)}`,
    )
    return committed
  }
  if (unmerged.length > 0) {
    throw new SourceError(
      `${path} has ${unmerged.length} files with conflicts: finish the merge, or test what is committed with --commit HEAD (input ref).`,
      unmerged,
    )
  }
  if (ref === undefined && untracked.length > 0) {
    const sentence = `Files that git does not track are not built, \`git add\` makes them known to it: ${some(untracked)}`
    // without a change nothing that is built can name them
    if (changed.length > 0) log.warning(sentence)
    else log.detail(sentence)
  }
  if (changed.length === 0 || !top) return committed
  log.info(`HEAD is tested with ${count(changed)}: ${some(changed)}`)
  const taken = await snapshotWorkTree({ ...at, top }, cancel)
  if (taken.treeId === committed.treeId) return committed
  const version = await versionOf(taken.gitDir, taken.treeId)
  return { ...committed, ...taken, dirty: true, version: version ?? committed.version }
}

const count = (files: readonly string[]) =>
  files.length === 1 ? 'one uncommitted change' : `${files.length} uncommitted changes`

/** The first names of a list that may be long, in a form that a terminal can show. */
function some(files: readonly string[], most = 20): string {
  const names = files
    .slice(0, most)
    .map(file => (/^[\w@%+=:,./-]+$/.test(file) ? file : JSON.stringify(file)))
  return names.join(', ') + (files.length > most ? ` and ${files.length - most} more` : '')
}

/** A ref that the checkout does not have, such as one of a pull request or of Gerrit, from where it was cloned. */
async function fromOrigin(at: Checkout, ref: string, log: Log, cancel?: AbortSignal): Promise<Source> {
  const base = splitAncestor(ref)?.base ?? ref
  const none = `${at.path} has no commit "${ref}"`
  // names that only this repository knows; and an abbreviated SHA would cost the whole history
  const local = /^([A-Z_]*HEAD|@)$|@\{/.test(base) || (isHex(base) && !isFullSha(base))
  const origin = local ? undefined : await originOf(at)
  if (!origin) throw new SourceError(`${none}.`)
  const tree: Tree = { repo: origin.url }
  try {
    const fetched = await fetchCommit(tree, ref, log, { reference: at.objects, env: origin.env, cancel })
    return await describe({ ...fetched, repository: at.gitDir, tree: at.path })
  } catch (error) {
    if (!(error instanceof SourceError)) throw error
    throw new SourceError(`${none}; its remote ${origin.name} was asked: ${error.message}`, error.details)
  }
}

/** The text of a file of the tree under test; undefined if it has none of that name. `file` is not to be trusted. */
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
      `${tree} at ${ref} is no Linux kernel tree: its top directory has no kernel Makefile.`,
    )
  }
  return { gitDir, repository, tree, ref, sha, treeId, subject, version }
}

async function versionOf(gitDir: string, treeish: string): Promise<string | undefined> {
  const makefile = await tryGit(['cat-file', 'blob', `${treeish}:Makefile`], { gitDir })
  return makefile.status === 0 ? kernelVersion(makefile.stdout) : undefined
}

/** `6.12.117` or `6.13.0-rc1` of a kernel's top Makefile; undefined if it is none. */
export function kernelVersion(makefile: string): string | undefined {
  const field = (name: string) => new RegExp(`^${name} *=[ \t]*(.*)$`, 'm').exec(makefile)?.[1]?.trim()
  const [version, patchlevel] = [field('VERSION'), field('PATCHLEVEL')]
  if (!version || !patchlevel || !/^KERNELVERSION *=/m.test(makefile)) return undefined
  return `${version}.${patchlevel}.${field('SUBLEVEL') || '0'}${field('EXTRAVERSION') ?? ''}`
}
