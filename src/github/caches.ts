import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import * as core from '@actions/core'
import {
  type CacheKind,
  type CacheOffer,
  cacheEntryPath,
  prepareOffer,
  type RemoteCaches,
} from '../build/remote-caches.js'
import { messageOf } from '../errors.js'
import { sha256 } from '../host/hash.js'
import { cachePath } from '../host/paths.js'
import { ServiceTimeout, withTimeout } from './timeout.js'

/** Changes when what is stored is laid out differently. */
const CACHE_FORMAT = 1

/** What each kind is called in the log. */
const NAMES: Record<CacheKind, string> = {
  kernel: 'kernel cache',
  asked: 'kernel cache (index)',
  build: 'build directory',
  ccache: 'ccache',
}

const cacheKey = (kind: CacheKind, key: string) => `kernelcraft-${kind}-${CACHE_FORMAT}-${key}`

/**
 * The path is part of what GitHub compares (a hash of the words themselves), so it is the same word on every runner:
 * with a tilde, whatever the user is called.
 */
function storedPath(kind: CacheKind, key: string): string {
  const path = cacheEntryPath(kind, key)
  return path.startsWith(`${homedir()}/`) ? `~${path.slice(homedir().length)}` : path
}

/**
 * What GitHub's client does, with its warnings and errors as plain lines: it calls every trouble of the service a warning
 * and some an error, and each would be an annotation of a run that lacks nothing but time. `hear` gets what it prints.
 */
async function asNotice<T>(work: () => Promise<T>, hear: (text: string) => void = () => {}): Promise<T> {
  const { stdout } = process
  const write = stdout.write
  stdout.write = ((chunk: string | Uint8Array, ...rest: []) => {
    if (typeof chunk !== 'string') return write.call(stdout, chunk, ...rest)
    hear(chunk)
    return write.call(stdout, chunk.replace(/^::(?:warning|error)::/gm, ''), ...rest)
  }) as typeof write
  try {
    return await work()
  } finally {
    stdout.write = write
  }
}

/** Begins the service's reason where the token may only read (@actions/cache, cache.ts). */
const WRITE_DENIED = 'cache write denied:'

const since = (start: number) => `${((performance.now() - start) / 1000).toFixed(1)} s`

/** Whether GitHub's cache can be reached from this step at all. */
function hasService(env: NodeJS.ProcessEnv): boolean {
  return Boolean(env.ACTIONS_RESULTS_URL && env.ACTIONS_RUNTIME_TOKEN)
}

/**
 * True for a machine that keeps nothing between jobs. One that does has its own caches, which are nearer and larger. A
 * step that comes after another one of the same job finds what that one left, and the job's mark on it.
 */
function isFresh(env: NodeJS.ProcessEnv): boolean {
  const mark = cachePath('kernels', 'job')
  const job = [env.GITHUB_RUN_ID, env.GITHUB_RUN_ATTEMPT, env.GITHUB_JOB, env.RUNNER_NAME].join(' ')
  const kept = (['kernels', 'ccache'] as const).some(room => {
    const path = cachePath(room)
    return existsSync(path) && readdirSync(path).length > 0
  })
  if (kept) return existsSync(mark) && readFileSync(mark, 'utf8') === job
  mkdirSync(cachePath('kernels'), { recursive: true })
  writeFileSync(mark, job)
  return true
}

/**
 * GitHub's cache for the pipeline; undefined where there is none, or no need of one. What is offered goes to `remember`,
 * for post. No trouble with the service is more than a line of information.
 */
export function githubCaches(
  env: NodeJS.ProcessEnv,
  step: string,
  remember: (offers: readonly CacheOffer[]) => void,
): RemoteCaches | undefined {
  if (!hasService(env)) return undefined
  if (!isFresh(env)) {
    core.info('This machine keeps its own caches: nothing is restored from GitHub or saved there.')
    return undefined
  }
  const offers: CacheOffer[] = []
  /** it did not answer once: the job does not wait for it again */
  let silent = false
  const job = sha256(`${env.GITHUB_JOB} ${step}`).slice(0, 12)
  return {
    unique: [env.GITHUB_RUN_ID, env.GITHUB_RUN_ATTEMPT, job].filter(Boolean).join('-'),
    offer(offer) {
      offers.push(offer)
      remember(offers)
    },
    async restore(kind, key, prefixes = []) {
      if (silent) return undefined
      const start = performance.now()
      try {
        // loaded only now: it is most of the bundle
        const { restoreCache } = await import('@actions/cache')
        const fallbacks = prefixes.map(prefix => cacheKey(kind, prefix))
        const found = await asNotice(() =>
          withTimeout('restore', () => restoreCache([storedPath(kind, key)], cacheKey(kind, key), fallbacks)),
        )
        core.info(
          found
            ? `${NAMES[kind]}: restored ${found} in ${since(start)}.`
            : `${NAMES[kind]}: nothing to restore (${since(start)}).`,
        )
        return found?.slice(cacheKey(kind, '').length)
      } catch (error) {
        core.info(`${NAMES[kind]}: could not be restored (${messageOf(error)}).`)
        silent = error instanceof ServiceTimeout
        if (silent) core.info('Nothing else is asked of the cache.')
        return undefined
      }
    },
  }
}

/** Saves what main offered, each for itself, also after a run that failed. Never throws. */
export async function saveOffers(offers: readonly CacheOffer[]): Promise<void> {
  for (const offer of offers) {
    const name = NAMES[offer.kind]
    try {
      if (await saveOffer(offer, name)) continue
      core.info('This run may only read caches, so nothing is saved.')
      return
    } catch (error) {
      core.info(`${name}: not saved (${messageOf(error)}).`)
      // the others would wait as long
      if (error instanceof ServiceTimeout) return
    }
  }
}

/** False if this run may save nothing at all. */
async function saveOffer(offer: CacheOffer, name: string): Promise<boolean> {
  const { kind, key } = offer
  const path = storedPath(kind, key)
  const full = cacheKey(kind, key)
  const { restoreCache, saveCache } = await import('@actions/cache')
  // saveCache packs everything before it learns that the key is taken: look first
  const there = await asNotice(() =>
    withTimeout('restore', () => restoreCache([path], full, [], { lookupOnly: true })),
  )
  if (there === full) {
    core.info(`${name}: ${full} is there already.`)
    return true
  }
  const reason = await prepareOffer(offer)
  if (reason !== undefined) {
    core.info(`${name}: ${reason}, nothing is saved.`)
    return true
  }
  const start = performance.now()
  // -1: the service said no, and the client has told why
  let denied = false
  const id = await asNotice(
    () => withTimeout('save', () => saveCache([path], full)),
    text => {
      denied ||= text.includes(WRITE_DENIED)
    },
  )
  core.info(id === -1 ? `${name}: not saved.` : `${name}: saved as ${full} in ${since(start)}.`)
  return !denied
}
