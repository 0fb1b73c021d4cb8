import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import * as core from '@actions/core'
import { compilerIdentity } from '../build/toolchain.js'
import { messageOf } from '../errors.js'
import { cachePath } from '../host/paths.js'
import { run } from '../host/processes.js'
import type { Request } from '../request.js'

/** What post has to know to save ccache's directory. */
export interface CcacheState {
  key: string
  /** hash of the names of all entries after they were restored */
  before: string
  /** milliseconds since the epoch */
  began: number
}

/** Changes when what is stored is laid out differently. */
const LAYOUT = 1

/**
 * The path is part of what GitHub compares (a hash of the words themselves), so it is the same word on every runner:
 * with a tilde, whatever the user is called.
 */
function storedPath(): string {
  const path = cachePath('ccache')
  return path.startsWith(`${homedir()}/`) ? `~${path.slice(homedir().length)}` : path
}

const short = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 12)

/**
 * The key of this job's entry and the prefixes that it may start from, the nearest one first: same architecture, compiler
 * and configuration base, then any base, then any compiler. Refs share all of it: ccache's own hashes tell what fits.
 */
export function ccacheKeys(
  request: Pick<Request, 'arch' | 'configBase'>,
  compiler: string,
  env: NodeJS.ProcessEnv,
): { key: string; fallbacks: string[] } {
  const parts = [`kernelcraft-ccache-${LAYOUT}`, request.arch, short(compiler), request.configBase.kind]
  const prefix = (count: number) => `${parts.slice(0, count).join('-')}-`
  const run = [
    env.GITHUB_RUN_ID,
    env.GITHUB_RUN_ATTEMPT,
    short(`${env.GITHUB_JOB} ${JSON.stringify(request)}`),
  ]
  return { key: prefix(4) + run.filter(Boolean).join('-'), fallbacks: [prefix(4), prefix(3), prefix(2)] }
}

/** A hash of the names of all entries: ccache names them by contents, so it changes when something new is stored. */
async function contents(): Promise<string> {
  const entries = await readdir(cachePath('ccache'), { recursive: true, withFileTypes: true }).catch(() => [])
  const names = entries
    .filter(entry => entry.isFile() && /^[0-9a-z]{20,}/.test(entry.name))
    .map(entry => join(entry.parentPath, entry.name))
  return short(names.sort().join('\n'))
}

/**
 * Restores ccache's directory from GitHub's cache, where this machine has none of its own. Trouble is told and changes
 * nothing. Returns what post needs to save it; undefined where there is no cache service, or no need of one.
 */
export async function restoreCcache(
  request: Request,
  env: NodeJS.ProcessEnv,
): Promise<CcacheState | undefined> {
  if (!request.ccache || request.skipBuild || !env.ACTIONS_RESULTS_URL || !env.ACTIONS_RUNTIME_TOKEN)
    return undefined
  const directory = cachePath('ccache')
  if (existsSync(directory) && (await readdir(directory)).length > 0) {
    core.info('ccache: this machine keeps its own, nothing is restored or saved.')
    return undefined
  }
  const { key, fallbacks } = ccacheKeys(request, await compilerIdentity(), env)
  await mkdir(directory, { recursive: true })
  const start = performance.now()
  try {
    // loaded only now: it is most of the bundle
    const { restoreCache } = await import('@actions/cache')
    const found = await restoreCache([storedPath()], key, fallbacks)
    const seconds = ((performance.now() - start) / 1000).toFixed(1)
    core.info(found ? `ccache: restored ${found} in ${seconds} s.` : 'ccache: nothing to restore yet.')
  } catch (error) {
    core.info(`ccache: could not be restored (${messageOf(error)}); everything is compiled.`)
  }
  return { key, before: await contents(), began: Date.now() }
}

/** Saves ccache's directory if something new is in it, also after a build that failed. Never throws. */
export async function saveCcache(state: CcacheState): Promise<void> {
  try {
    if ((await contents()) === state.before) {
      core.info('ccache: nothing new, nothing is saved.')
      return
    }
    await trim(state)
    const { saveCache } = await import('@actions/cache')
    const start = performance.now()
    // -1: somebody else's service said no, and the client has told why
    const id = await saveCache([storedPath()], state.key)
    const seconds = ((performance.now() - start) / 1000).toFixed(1)
    core.info(id === -1 ? 'ccache: not saved.' : `ccache: saved as ${state.key} in ${seconds} s.`)
  } catch (error) {
    core.info(`ccache: not saved (${messageOf(error)}).`)
  }
}

/** Leaves only what this job stored or used: ccache touches what it uses (ccache(1), --evict-older-than). */
async function trim({ began }: CcacheState): Promise<void> {
  const age = Math.ceil((Date.now() - began) / 1000) + 60
  await run({
    file: 'ccache',
    args: ['--evict-older-than', `${age}s`],
    env: { CCACHE_DIR: cachePath('ccache') },
    deadline: 60,
  })
}
