import { SourceError } from '../errors.js'
import type { Log } from '../log.js'
import type { Request } from '../request.js'
import type { SourceFacts } from '../result.js'
import { distroRepository } from './distro.js'
import { fetchCommit, publicUrl } from './fetch.js'
import { git, resolveCommit, tryGit } from './git.js'
import { DISTRO, findTree } from './trees.js'

/** A commit that is at hand: its repository holds all of its files (or knows whom to ask for them). */
export interface Source extends SourceFacts {
  gitDir: string
  /** version of the kernel by its Makefile, e.g. 6.12.117 */
  version: string
}

/** The repository of a checkout, also of a linked work tree; undefined if it is none. */
export async function repositoryOf(path: string): Promise<string | undefined> {
  const end = await tryGit(['-C', path, 'rev-parse', '--absolute-git-dir'])
  return end.status === 0 ? end.stdout.trim() : undefined
}

/** The objects of a checkout, for a fetch to borrow from. */
async function objectsOf(path: string): Promise<string | undefined> {
  const end = await tryGit(['-C', path, 'rev-parse', '--path-format=absolute', '--git-path', 'objects'])
  return end.status === 0 ? end.stdout.trim() : undefined
}

/** Finds or fetches the commit that was asked for. The user's checkout is only read. */
export async function locateSource(request: Request, log: Log, cancel?: AbortSignal): Promise<Source> {
  const { release, ref } = request
  if (release === undefined) return await fromCheckout(request.path, ref ?? 'HEAD', log)
  if (release === DISTRO) {
    const { gitDir, branch } = await distroRepository(ref, log, cancel)
    return await describe({
      gitDir,
      tree: DISTRO,
      ref: ref ?? branch,
      sha: await resolveCommit(gitDir, ref ?? branch),
    })
  }
  const tree = findTree(release)
  const reference = await objectsOf(request.path)
  const fetched = await fetchCommit(tree, ref, log, { reference, cancel })
  return await describe({ ...fetched, tree: publicUrl(release) })
}

async function fromCheckout(path: string, ref: string, log: Log): Promise<Source> {
  const gitDir = await repositoryOf(path)
  if (!gitDir) {
    throw new SourceError(
      `${path} is not a git checkout of a kernel: name one with --directory (input path), or a tree with --release.`,
    )
  }
  const changes = await tryGit(['-C', path, 'status', '--porcelain', '--untracked-files=no'])
  if (changes.status === 0 && changes.stdout.trim() !== '') {
    log.warning(
      `${path} has uncommitted changes; they are not part of this run, which tests ${ref} as it is committed.`,
    )
  }
  return await describe({ gitDir, tree: path, ref, sha: await resolveCommit(gitDir, ref) })
}

/** The text of a file of the tree under test; undefined if it has none of that name. `file` is not to be trusted. */
export async function readFromTree(
  source: Pick<Source, 'gitDir' | 'sha'>,
  file: string,
): Promise<string | undefined> {
  if (/^\/|(^|\/)\.\.(\/|$)|[\0\n]/.test(file)) return undefined
  const end = await tryGit(['cat-file', 'blob', `${source.sha}:${file}`], {
    gitDir: source.gitDir,
    whole: true,
  })
  return end.status === 0 ? end.stdout : undefined
}

async function describe(found: { gitDir: string; tree: string; ref: string; sha?: string }): Promise<Source> {
  const { gitDir, tree, ref, sha } = found
  if (!sha) throw new SourceError(`${tree} has no commit "${ref}".`)
  const [treeId, subject, makefile] = await Promise.all([
    git(['rev-parse', '--verify', `${sha}^{tree}`], { gitDir }),
    git(['show', '--no-patch', '--format=%s', sha], { gitDir }),
    tryGit(['cat-file', 'blob', `${sha}:Makefile`], { gitDir }),
  ])
  const version = makefile.status === 0 ? kernelVersion(makefile.stdout) : undefined
  if (!version) {
    throw new SourceError(
      `${tree} at ${ref} is no Linux kernel tree: its top directory has no kernel Makefile.`,
    )
  }
  return { gitDir, tree, ref, sha, treeId, subject, version }
}

/** `6.12.117` or `6.13.0-rc1` of a kernel's top Makefile; undefined if it is none. */
export function kernelVersion(makefile: string): string | undefined {
  const field = (name: string) => new RegExp(`^${name} *=[ \t]*(.*)$`, 'm').exec(makefile)?.[1]?.trim()
  const [version, patchlevel] = [field('VERSION'), field('PATCHLEVEL')]
  if (!version || !patchlevel || !/^KERNELVERSION *=/m.test(makefile)) return undefined
  return `${version}.${patchlevel}.${field('SUBLEVEL') || '0'}${field('EXTRAVERSION') ?? ''}`
}
