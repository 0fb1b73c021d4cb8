import { SourceError } from '../errors.js'
import type { Log } from '../log.js'
import type { Tree } from '../request/trees.js'
import type { Checkout } from './checkout.js'
import { type Attempt, isFullSha, isHex, redactUrl, splitAncestor, tryMirrors } from './fetch.js'
import { type GitCall, git, resolveCommit, tryGit, withConfig } from './git.js'

/** The URL of a repository's remote; undefined if it has none of that name. */
export async function remoteUrl(gitDir: string, name: string): Promise<string | undefined> {
  const end = await tryGit(['config', '--get', `remote.${name}.url`], { gitDir })
  return end.status === 0 ? end.stdout.replace(/\n$/, '') : undefined
}

/** A URL without what makes no difference to where it leads: `.git`, a slash, and how a server is spoken to. */
const place = (url: string) =>
  redactUrl(url)
    .replace(/^(git|https?):/, '')
    .replace(/\/*$/, '')
    .replace(/\.git$/, '')

/** Adds a tree as a remote. One that is there is kept; throws SourceError if it leads elsewhere. */
export async function ensureRemote(gitDir: string, name: string, tree: Tree, log: Log): Promise<void> {
  const url = await remoteUrl(gitDir, name)
  if (url === undefined) {
    await git(['remote', 'add', '--no-tags', '--', name, tree.repo], { gitDir })
    log.info(`added the remote ${name}, ${redactUrl(tree.repo)}, to this repository`)
  } else if (![tree.repo, ...(tree.mirrors ?? [])].some(known => place(known) === place(url))) {
    throw new SourceError(
      `This repository has a remote ${name} already, ${redactUrl(url)}, and not ${redactUrl(tree.repo)}: rename it with \`git remote rename\`, or give the tree another name in ~/.kernelcraft.conf.`,
    )
  }
}

/** Where a ref of the server is kept: a branch as git does it, anything else below its own name. */
const keptAs = (name: string, full: string) => `refs/remotes/${name}/${full.replace(/^refs\/(heads\/)?/, '')}`

export interface RemoteCommit {
  sha: string
  /** the remote's branch that it is the tip of */
  branch?: string
}

/** Fetches a ref of a tree into a person's repository, with its history, below refs/remotes/NAME and nowhere else. */
export async function fetchRemote(
  at: Checkout,
  name: string,
  tree: Tree,
  ref: string,
  log: Log,
  { cancel, show }: { cancel?: AbortSignal; show?: (progress: Buffer) => void } = {},
): Promise<RemoteCommit> {
  await ensureRemote(at.gitDir, name, tree, log)
  const { gitDir } = at
  const base = splitAncestor(ref)?.base ?? ref
  const tail = ref.slice(base.length)
  // a SHA means the same everywhere: no network for one that is here
  const here = isHex(base) ? await resolveCommit(gitDir, ref) : undefined
  if (here) return { sha: here }

  const call: GitCall = { gitDir, cancel, deadline: 3 * 3600, onLine: line => log.detail(line) }
  const fetch = async (url: string, spec: string) => {
    const words = ['--no-tags', '--no-prune', '--no-write-fetch-head', '--no-recurse-submodules']
    const voice = show ? '--progress' : '--quiet'
    return await tryGit(['fetch', voice, ...words, '--end-of-options', url, spec], { ...call, onData: show })
  }
  const resolved = async (start: string): Promise<Attempt> => {
    const sha = await resolveCommit(gitDir, start + tail)
    return sha ? { sha } : { stderr: '' }
  }
  let branch: string | undefined
  const sha = await tryMirrors(tree, ref, call, log, async url => {
    log.info(`fetching ${ref} of ${redactUrl(url)} to refs/remotes/${name}`)
    if (isHex(base)) {
      const branches = await fetch(url, `+refs/heads/*:refs/remotes/${name}/*`)
      if (branches.status !== 0) return branches
      const found = await resolved(base)
      if ('sha' in found || !isFullSha(base)) return found
    }
    const full = isHex(base) ? base : await fullName(url, base, call)
    if (!full) return { stderr: '' }
    const kept = keptAs(name, isHex(base) ? `refs/commits/${base}` : full)
    const end = await fetch(url, `+${full}:${kept}`)
    if (end.status !== 0) return end
    if (tail === '' && full.startsWith('refs/heads/')) branch = full.slice('refs/heads/'.length)
    return await resolved(kept)
  })
  return { sha, ...(branch ? { branch } : {}) }
}

/** The full name that a server has for a ref, by the order of gitrevisions(7); of HEAD, that of its branch. */
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

/** The remote that a checkout came from, and what git needs to read it from elsewhere. */
export interface Origin {
  name: string
  url: string
  env: NodeJS.ProcessEnv
}

/** `origin`, or the only remote there is. */
export async function originOf(at: Checkout): Promise<Origin | undefined> {
  const { gitDir } = at
  const names = (await tryGit(['remote'], { gitDir })).stdout.split('\n').filter(Boolean)
  const name = names.includes('origin') ? 'origin' : names.length === 1 ? names[0] : undefined
  if (name === undefined) return undefined
  const end = await tryGit(['ls-remote', '--get-url', '--end-of-options', name], { gitDir })
  const url = end.stdout.replace(/\n$/, '')
  if (url === name) return undefined
  // a workflow's token lies in the checkout's own configuration, as a header; not on a command line
  const found = await tryGit(['config', '--get-urlmatch', 'http.extraheader', url], { gitDir })
  const header = found.status === 0 ? found.stdout.replace(/\n$/, '') : ''
  return { name, url, env: header ? withConfig(`http.${url}.extraheader`, header) : {} }
}
