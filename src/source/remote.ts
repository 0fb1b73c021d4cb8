import { SourceError } from '../errors.js'
import type { Log } from '../log.js'
import type { Tree } from '../request/trees.js'
import type { Checkout } from './checkout.js'
import { type Attempt, isFullSha, isHex, redactUrl, splitAncestor, tryMirrors } from './fetch.js'
import { type GitCall, git, resolveCommit, tryGit, withConfig } from './git.js'

/** The URL of a repository's remote; undefined if the remote does not exist. */
export async function remoteUrl(gitDir: string, name: string): Promise<string | undefined> {
  const end = await tryGit(['config', '--get', `remote.${name}.url`], { gitDir })
  return end.status === 0 ? end.stdout.replace(/\n$/, '') : undefined
}

/** A URL without what does not change the repository that it names: `.git`, a final slash, and http or git as scheme. */
const normalizeUrl = (url: string) =>
  redactUrl(url)
    .replace(/^(git|https?):/, '')
    .replace(/\/*$/, '')
    .replace(/\.git$/, '')

/** Adds a tree as a remote, if it does not exist. Throws SourceError for an existing one of another repository. */
export async function ensureRemote(gitDir: string, name: string, tree: Tree, log: Log): Promise<void> {
  const url = await remoteUrl(gitDir, name)
  if (url === undefined) {
    await git(['remote', 'add', '--no-tags', '--', name, tree.repo], { gitDir })
    log.info(`added the remote ${name}, ${redactUrl(tree.repo)}, to this repository`)
  } else if (![tree.repo, ...(tree.mirrors ?? [])].some(known => normalizeUrl(known) === normalizeUrl(url))) {
    throw new SourceError(
      `This repository already has a remote ${name} with the URL ${redactUrl(url)}, not ${redactUrl(tree.repo)}: rename it with \`git remote rename\`, or give the tree another name in ~/.kernelcraft.conf.`,
    )
  }
}

/** The local ref for a ref of the server: that of git for a branch, its own name below refs/remotes/NAME for others. */
const trackingRef = (name: string, full: string) =>
  `refs/remotes/${name}/${full.replace(/^refs\/(heads\/)?/, '')}`

export interface RemoteCommit {
  sha: string
  /** the remote's branch that it is the tip of */
  branch?: string
}

/** Fetches a ref of a tree into the user's repository, with its history, into refs/remotes/NAME and nowhere else. */
export async function fetchRemote(
  checkout: Checkout,
  name: string,
  tree: Tree,
  ref: string,
  log: Log,
  { cancel, show }: { cancel?: AbortSignal; show?: (progress: Buffer) => void } = {},
): Promise<RemoteCommit> {
  const { gitDir } = checkout
  await ensureRemote(gitDir, name, tree, log)
  const base = splitAncestor(ref)?.base ?? ref
  // a SHA is the same commit everywhere: no network for one that the repository has
  const existing = isHex(base) ? await resolveCommit(gitDir, ref) : undefined
  if (existing) return { sha: existing }

  const call: FetchCall = {
    gitDir,
    name,
    cancel,
    deadline: 3 * 3600,
    onLine: line => log.detail(line),
    show,
  }
  const suffix = ref.slice(base.length)
  let branch: string | undefined
  const sha = await tryMirrors(tree, ref, call, log, async url => {
    log.info(`fetching ${ref} of ${redactUrl(url)} to refs/remotes/${name}`)
    if (isHex(base)) return await fetchSha(url, base, suffix, call)
    const full = await fullName(url, base, call)
    if (!full) return { stderr: '' }
    const fetched = await fetchAs(url, full, trackingRef(name, full), suffix, call)
    if ('sha' in fetched && suffix === '' && full.startsWith('refs/heads/'))
      branch = full.slice('refs/heads/'.length)
    return fetched
  })
  return { sha, ...(branch ? { branch } : {}) }
}

/** What the fetches into one remote have in common. */
interface FetchCall extends GitCall {
  gitDir: string
  /** of the remote */
  name: string
  /** gets git's progress, which is not printed without it */
  show?: (progress: Buffer) => void
}

/** Fetches a SHA with all branches of the server; a full SHA that no branch has by itself. */
async function fetchSha(url: string, sha: string, suffix: string, call: FetchCall): Promise<Attempt> {
  const { gitDir, name } = call
  const branches = await fetchSpec(url, `+refs/heads/*:refs/remotes/${name}/*`, call)
  if (branches.status !== 0) return branches
  const found = await resolveCommit(gitDir, sha + suffix)
  if (found) return { sha: found }
  if (!isFullSha(sha)) return { stderr: '' }
  return await fetchAs(url, sha, trackingRef(name, `refs/commits/${sha}`), suffix, call)
}

/** Fetches one ref of the server to a local one, and resolves that with the suffix (`~2`). */
async function fetchAs(
  url: string,
  remote: string,
  local: string,
  suffix: string,
  call: FetchCall,
): Promise<Attempt> {
  const end = await fetchSpec(url, `+${remote}:${local}`, call)
  if (end.status !== 0) return end
  const sha = await resolveCommit(call.gitDir, local + suffix)
  return sha ? { sha } : { stderr: '' }
}

async function fetchSpec(url: string, refspec: string, { show, name: _name, ...call }: FetchCall) {
  const options = ['--no-tags', '--no-prune', '--no-write-fetch-head', '--no-recurse-submodules']
  const args = [show ? '--progress' : '--quiet', ...options, '--end-of-options', url, refspec]
  return await tryGit(['fetch', ...args], { ...call, onData: show })
}

/** The full name of a ref on the server, in the order of gitrevisions(7); for HEAD, that of its branch. */
async function fullName(url: string, ref: string, call: GitCall): Promise<string | undefined> {
  const end = await tryGit(['ls-remote', '--symref', '--end-of-options', url, ref], {
    ...call,
    deadline: 600,
  })
  const lines = end.stdout.split('\n').map(line => line.split('\t'))
  const branch = lines.find(([to, name]) => name === 'HEAD' && to?.startsWith('ref: '))?.[0]?.slice(5)
  if (ref === 'HEAD' && branch) return branch
  const names = lines.map(([, name]) => name)
  return [ref, `refs/${ref}`, `refs/tags/${ref}`, `refs/heads/${ref}`].find(name => names.includes(name))
}

/** The remote that a checkout was cloned from, and the variables that git needs to read it from another repository. */
export interface Origin {
  name: string
  url: string
  env: NodeJS.ProcessEnv
}

/** The remote `origin`, else the only one; undefined without. */
export async function originOf({ gitDir }: Checkout): Promise<Origin | undefined> {
  const names = (await tryGit(['remote'], { gitDir })).stdout.split('\n').filter(Boolean)
  const name = names.includes('origin') ? 'origin' : names.length === 1 ? names[0] : undefined
  if (name === undefined) return undefined
  const end = await tryGit(['ls-remote', '--get-url', '--end-of-options', name], { gitDir })
  const url = end.stdout.replace(/\n$/, '')
  if (url === name) return undefined
  // actions/checkout stores the job's token as a header in the checkout's configuration; it must not be on a command line
  const found = await tryGit(['config', '--get-urlmatch', 'http.extraheader', url], { gitDir })
  const header = found.status === 0 ? found.stdout.replace(/\n$/, '') : ''
  return { name, url, env: header ? withConfig(`http.${url}.extraheader`, header) : {} }
}
