import { SourceError } from '../errors.js'
import { sha256 } from '../host/hash.js'
import { cachePath } from '../host/paths.js'
import { lastLines } from '../host/processes.js'
import type { Log } from '../log.js'
import type { Tree } from '../request/trees.js'
import { type GitCall, openRepository, resolveCommit, tryGit } from './git.js'

/** Path of the cache's repository for a URL: a readable name and a unique hash. */
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

/** A URL without user name, password or token. */
export function redactUrl(url: string): string {
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/@]*@/i, '$1')
}

/** Splits `main~2` into `main` and the number of commits before it; undefined for a ref without such a suffix. */
export function splitAncestor(ref: string): { base: string; depth: number } | undefined {
  const match = /^(.+?)((?:~\d*|\^)+)$/.exec(ref)
  if (!match?.[1] || !match[2]) return undefined
  const steps = [...match[2].matchAll(/~(\d*)|\^/g)].map(step =>
    step[1] === undefined || step[1] === '' ? 1 : Number(step[1]),
  )
  return { base: match[1], depth: steps.reduce((sum, step) => sum + step, 0) }
}

/** True for what may be a SHA, full or abbreviated: servers do not resolve abbreviated ones. */
export const isHex = (ref: string) => /^[0-9a-f]{4,40}$/.test(ref)
export const isFullSha = (ref: string) => /^[0-9a-f]{40}$/.test(ref)

export interface Fetched {
  gitDir: string
  sha: string
  /** the requested ref, else the tree's default branch */
  ref: string
}

/** The commit that a fetch found, or git's messages if it found none. */
export type Attempt = { sha: string } | { stderr: string }

/**
 * Tries a tree's URL and then its mirrors, in order, until one can be read. A ref that this one does not have is not looked
 * for in the others. Throws SourceError.
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
    const result = await attempt(url)
    if ('sha' in result) return result.sha
    details.push(...lastLines(result.stderr.replaceAll(url, redactUrl(url)), 3))
    const reachable = await tryGit(['ls-remote', '--quiet', '--end-of-options', url, 'HEAD'], {
      ...call,
      deadline: 120,
    })
    if (reachable.status === 0) throw new SourceError(`${redactUrl(url)} has no ref "${ref}".`, details)
    const next = urls[index + 1]
    if (next !== undefined)
      log.warning(`${redactUrl(url)} cannot be read; trying its mirror ${redactUrl(next)}.`)
  }
  throw new SourceError(
    `${urls.map(redactUrl).join(', ')} cannot be read: is it a git repository, and is it reachable from this machine?`,
    details,
  )
}

export interface FetchOptions {
  /** directory of objects to borrow from */
  reference?: string
  /** variables that git needs to read the URL */
  env?: NodeJS.ProcessEnv
  cancel?: AbortSignal
}

/**
 * Fetches one commit of a remote tree, without history. `HEAD~2` and abbreviated SHAs, which a server does not resolve, are
 * resolved with the history alone (`--filter=tree:0`), which is kept in another repository. Throws SourceError.
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

  // a full SHA that was fetched before needs no network
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

/** True if the repository has a commit with its files. */
async function hasTree(gitDir: string, sha: string): Promise<boolean> {
  // one file is enough: a fetch gets a commit with its complete tree, or nothing
  const end = await tryGit(['cat-file', '-e', `${sha}:Makefile`], { gitDir })
  return end.status === 0
}

/** Fetches one ref, without history. */
async function fetchOne(url: string, ref: string, call: GitCall): Promise<Attempt> {
  // a different local name for each ref: another run may fetch another ref at the same time
  const local = `refs/kernelcraft/${sha256(ref).slice(0, 16)}`
  const args = ['--quiet', '--no-tags', '--depth=1', '--no-write-fetch-head', '--end-of-options']
  const end = await tryGit(['fetch', ...args, url, `+${ref}:${local}`], call)
  const sha = end.status === 0 && call.gitDir ? await resolveCommit(call.gitDir, local) : undefined
  return sha ? { sha } : { stderr: end.stderr }
}

/** The full SHA of `main~2` or `1234abc` by the remote's history, without trees and files; undefined if not found. */
async function resolveRemotely(
  tree: Tree,
  url: string,
  ref: string,
  log: Log,
  { env, cancel }: FetchOptions,
): Promise<string | undefined> {
  const ancestor = splitAncestor(ref)
  if (!ancestor && !isHex(ref)) return undefined
  log.info(`resolving ${ref} with the history of ${redactUrl(url)}`)
  const named = ancestor && !isHex(ancestor.base)
  // two repositories: a fetch of a few commits would make the complete history shallow
  const gitDir = repositoryPath(tree.repo, named ? '-tips' : '-history')
  await openRepository(gitDir)
  const shallow = named ? [`--depth=${ancestor.depth + 1}`] : []
  const specs = named ? [`+${ancestor.base}:refs/kernelcraft/base`] : ['+refs/*:refs/remote/*']
  const base = named ? 'refs/kernelcraft/base' : (ancestor?.base ?? ref)
  const args = ['--quiet', '--no-tags', '--filter=tree:0', ...shallow, '--end-of-options']
  const end = await tryGit(['fetch', ...args, url, ...specs], { gitDir, env, cancel, deadline: 3600 })
  if (end.status !== 0) return undefined
  return await resolveCommit(gitDir, ancestor ? base + ref.slice(ancestor.base.length) : base)
}
