import { SourceError } from '../errors.js'
import { sha256 } from '../host/hash.js'
import { cachePath } from '../host/paths.js'
import { lastLines } from '../host/processes.js'
import type { Log } from '../log.js'
import type { Tree } from '../request/trees.js'
import { type GitCall, openRepository, resolveCommit, tryGit } from './git.js'

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
export function redactUrl(url: string): string {
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/@]*@/i, '$1')
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

/** True for a SHA, full or abbreviated: what a server does not resolve. */
export const isHex = (ref: string) => /^[0-9a-f]{4,40}$/.test(ref)
export const isFullSha = (ref: string) => /^[0-9a-f]{40}$/.test(ref)

export interface Fetched {
  gitDir: string
  sha: string
  /** the ref as it was understood: the default branch if none was named */
  ref: string
}

/** What a URL gave, or the words of git for why it gave nothing. */
export type Attempt = { sha: string } | { stderr: string }

/**
 * Tries a tree's URL and then its mirrors, in order, until one can be read; that one has the last word on the ref.
 * Throws SourceError.
 */
export async function tryMirrors(
  tree: Tree,
  ref: string,
  call: GitCall,
  log: Log,
  attempt: (url: string) => Promise<Attempt>,
): Promise<string> {
  const urls = [tree.repo, ...(tree.mirrors ?? [])]
  const details: string[] = []
  for (const [index, url] of urls.entries()) {
    const made = await attempt(url)
    if ('sha' in made) return made.sha
    details.push(...lastLines(made.stderr.replaceAll(url, redactUrl(url)), 3))
    const reachable = await tryGit(['ls-remote', '--quiet', '--end-of-options', url, 'HEAD'], {
      ...call,
      deadline: 120,
    })
    if (reachable.status === 0) throw new SourceError(`${redactUrl(url)} has no ref "${ref}".`, details)
    const next = urls[index + 1]
    if (next !== undefined)
      log.warning(`${redactUrl(url)} cannot be read; its mirror ${redactUrl(next)} is tried.`)
  }
  throw new SourceError(
    `${urls.map(redactUrl).join(', ')} cannot be read: is it a git repository, and is it reachable from here?`,
    details,
  )
}

export interface FetchOptions {
  /** directory of objects to borrow from */
  reference?: string
  /** what git needs to read the URL */
  env?: NodeJS.ProcessEnv
  cancel?: AbortSignal
}

/**
 * Fetches one commit of a remote tree, one commit deep. `HEAD~2` and abbreviated SHAs, which a server does not
 * resolve, are resolved on history alone (`--filter=tree:0`), kept in a repository of its own.
 */
export async function fetchCommit(
  tree: Tree,
  wanted: string | undefined,
  log: Log,
  options: FetchOptions,
): Promise<Fetched> {
  const { reference, env, cancel } = options
  const gitDir = repositoryPath(tree.repo)
  await openRepository(gitDir, reference)
  const call: GitCall = { gitDir, env, cancel, deadline: 3600, onLine: line => log.detail(line) }
  const ref = wanted ?? tree.branch ?? 'HEAD'

  // a full SHA that we have needs no network
  if (isFullSha(ref) && (await hasTree(gitDir, ref))) return { gitDir, sha: ref, ref }

  const sha = await tryMirrors(tree, ref, call, log, async url => {
    log.info(`fetching ${ref} of ${redactUrl(url)}`)
    const direct = await fetchOne(url, ref, call)
    if ('sha' in direct) return direct
    const resolved = await resolveRemotely(tree, url, ref, log, options)
    return resolved ? await fetchOne(url, resolved, call) : direct
  })
  return { gitDir, sha, ref }
}

async function hasTree(gitDir: string, sha: string): Promise<boolean> {
  // a commit in a kept repository came with all of its tree: fetches are whole or not at all
  const end = await tryGit(['cat-file', '-e', `${sha}:Makefile`], { gitDir })
  return end.status === 0
}

async function fetchOne(url: string, ref: string, call: GitCall): Promise<Attempt> {
  // a name of its own for each ref: another run may fetch another ref at the same time
  const kept = `refs/kernelcraft/${sha256(ref).slice(0, 16)}`
  const words = ['--quiet', '--no-tags', '--depth=1', '--no-write-fetch-head', '--end-of-options']
  const end = await tryGit(['fetch', ...words, url, `+${ref}:${kept}`], call)
  const sha = end.status === 0 && call.gitDir ? await resolveCommit(call.gitDir, kept) : undefined
  return sha ? { sha } : { stderr: end.stderr }
}

/** The full SHA of `main~2` or `1234abc`, from the remote's history without any tree or file. */
async function resolveRemotely(
  tree: Tree,
  url: string,
  ref: string,
  log: Log,
  { env, cancel }: FetchOptions,
): Promise<string | undefined> {
  const ancestor = splitAncestor(ref)
  if (!ancestor && !isHex(ref)) return undefined
  log.info(`resolving ${ref} on the history of ${redactUrl(url)}`)
  const named = ancestor && !isHex(ancestor.base)
  // two: a fetch of a few commits would cut the whole history short
  const gitDir = repositoryPath(tree.repo, named ? '-tips' : '-history')
  await openRepository(gitDir)
  const shallow = named ? [`--depth=${ancestor.depth + 1}`] : []
  const specs = named ? [`+${ancestor.base}:refs/kernelcraft/base`] : ['+refs/*:refs/remote/*']
  const base = named ? 'refs/kernelcraft/base' : (ancestor?.base ?? ref)
  const words = ['--quiet', '--no-tags', '--filter=tree:0', ...shallow, '--end-of-options']
  const end = await tryGit(['fetch', ...words, url, ...specs], { gitDir, env, cancel, deadline: 3600 })
  if (end.status !== 0) return undefined
  return await resolveCommit(gitDir, ancestor ? base + ref.slice(ancestor.base.length) : base)
}
