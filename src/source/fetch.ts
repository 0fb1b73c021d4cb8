import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SourceError } from '../errors.js'
import { sha256 } from '../host/hash.js'
import { cachePath } from '../host/paths.js'
import { lastLines } from '../host/processes.js'
import type { Log } from '../log.js'
import { type GitCall, git, resolveCommit, tryGit } from './git.js'
import type { Tree } from './trees.js'

/** Where a URL's objects are kept: a name that a person recognizes, and a hash that is unique. */
export function repositoryPath(url: string, suffix = ''): string {
  const hash = sha256(url).slice(0, 12)
  const name = url
    .replace(/\.git\/?$/, '')
    .split(/[/:]/)
    .filter(Boolean)
    .slice(-2)
    .join('-')
    .replace(/[^\w.-]/g, '_')
  return cachePath('trees', `${name}-${hash}${suffix}.git`)
}

/** A URL without a password or token in it. */
export function publicUrl(url: string): string {
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/@]*@/i, '$1')
}

/** Makes the repository, or makes it again where the clone that it borrowed objects from has gone. */
async function openRepository(gitDir: string, reference?: string): Promise<void> {
  const alternates = join(gitDir, 'objects', 'info', 'alternates')
  const borrowed = await readFile(alternates, 'utf8').catch(() => '')
  const gone = borrowed.split('\n').some(path => path !== '' && !existsSync(path))
  if (gone) await rm(gitDir, { recursive: true, force: true })
  if (!existsSync(join(gitDir, 'HEAD'))) {
    await mkdir(gitDir, { recursive: true })
    await git(['init', '--quiet', '--bare', gitDir])
  }
  if (reference && !borrowed.split('\n').includes(reference)) {
    await mkdir(join(gitDir, 'objects', 'info'), { recursive: true })
    await writeFile(alternates, `${gone ? '' : borrowed}${reference}\n`)
  }
}

/** `main~2` into `main` and how many commits before it; undefined if the ref has no such tail. */
export function splitAncestor(ref: string): { base: string; depth: number } | undefined {
  const match = /^(.+?)((?:~\d*|\^)+)$/.exec(ref)
  if (!match?.[1] || !match[2]) return undefined
  const steps = [...match[2].matchAll(/~(\d*)|\^/g)].map(step =>
    step[1] === undefined || step[1] === '' ? 1 : Number(step[1]),
  )
  return { base: match[1], depth: steps.reduce((sum, step) => sum + step, 0) }
}

const isHex = (ref: string) => /^[0-9a-f]{4,40}$/.test(ref)

export interface Fetched {
  gitDir: string
  sha: string
  /** the ref as it was understood: the default branch if none was named */
  ref: string
}

/**
 * Fetches one commit of a remote tree, one commit deep. `HEAD~2` and abbreviated SHAs, which a server does not
 * resolve, are resolved on history alone (`--filter=tree:0`), kept in a repository of its own.
 */
export async function fetchCommit(
  tree: Tree,
  wanted: string | undefined,
  log: Log,
  options: { reference?: string; cancel?: AbortSignal },
): Promise<Fetched> {
  const gitDir = repositoryPath(tree.repo)
  await openRepository(gitDir, options.reference)
  const call: GitCall = { gitDir, cancel: options.cancel, deadline: 3600, onLine: line => log.detail(line) }
  const ref = wanted ?? tree.branch ?? 'HEAD'

  // a full SHA that we have needs no network
  if (/^[0-9a-f]{40}$/.test(ref) && (await hasTree(gitDir, ref))) return { gitDir, sha: ref, ref }

  log.info(`fetching ${ref} of ${publicUrl(tree.repo)}`)
  const direct = await fetchOne(tree.repo, ref, call)
  if (direct.sha) return { gitDir, sha: direct.sha, ref }
  const sha = await resolveRemotely(tree, ref, log, options.cancel)
  if (sha) {
    const exact = await fetchOne(tree.repo, sha, call)
    if (exact.sha) return { gitDir, sha: exact.sha, ref }
  }
  throw await explainFailure(tree, ref, direct.stderr, call)
}

async function hasTree(gitDir: string, sha: string): Promise<boolean> {
  // a commit in a kept repository came with all of its tree: fetches are whole or not at all
  const end = await tryGit(['cat-file', '-e', `${sha}:Makefile`], { gitDir })
  return end.status === 0
}

async function fetchOne(url: string, ref: string, call: GitCall): Promise<{ sha?: string; stderr: string }> {
  // a name of its own for each ref: another run may fetch another ref at the same time
  const kept = `refs/kernelcraft/${sha256(ref).slice(0, 16)}`
  const end = await tryGit(
    [
      'fetch',
      '--quiet',
      '--no-tags',
      '--depth=1',
      '--no-write-fetch-head',
      '--end-of-options',
      url,
      `+${ref}:${kept}`,
    ],
    call,
  )
  if (end.status !== 0 || !call.gitDir) return { stderr: end.stderr }
  return { sha: await resolveCommit(call.gitDir, kept), stderr: '' }
}

/** The full SHA of `main~2` or `1234abc`, from the remote's history without any tree or file. */
async function resolveRemotely(
  tree: Tree,
  ref: string,
  log: Log,
  cancel?: AbortSignal,
): Promise<string | undefined> {
  const ancestor = splitAncestor(ref)
  if (!ancestor && !isHex(ref)) return undefined
  log.info(`resolving ${ref} on the history of ${publicUrl(tree.repo)}`)
  const gitDir = repositoryPath(tree.repo, '-history')
  await openRepository(gitDir)
  const call: GitCall = { gitDir, cancel, deadline: 3600 }
  const shallow = ancestor && !isHex(ancestor.base) ? [`--depth=${ancestor.depth + 1}`] : []
  const specs =
    ancestor && !isHex(ancestor.base)
      ? [`+${ancestor.base}:refs/kernelcraft/base`]
      : ['+refs/*:refs/remote/*']
  const base = ancestor && !isHex(ancestor.base) ? 'refs/kernelcraft/base' : (ancestor?.base ?? ref)
  const end = await tryGit(
    ['fetch', '--quiet', '--no-tags', '--filter=tree:0', ...shallow, '--end-of-options', tree.repo, ...specs],
    call,
  )
  if (end.status !== 0) return undefined
  return await resolveCommit(gitDir, ancestor ? base + ref.slice(ancestor.base.length) : base)
}

async function explainFailure(tree: Tree, ref: string, stderr: string, call: GitCall): Promise<SourceError> {
  const url = publicUrl(tree.repo)
  const details = lastLines(stderr.replaceAll(tree.repo, url), 3)
  const reachable = await tryGit(['ls-remote', '--quiet', '--end-of-options', tree.repo, 'HEAD'], {
    ...call,
    deadline: 120,
  })
  return reachable.status === 0
    ? new SourceError(`${url} has no ref "${ref}".`, details)
    : new SourceError(
        `${url} cannot be read: is it a git repository, and is it reachable from here?`,
        details,
      )
}
