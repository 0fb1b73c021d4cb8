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

/** Changes when the layout of entries changes. */
const CACHE_FORMAT = 1

/** The name of each kind in the log. */
const NAMES: Record<CacheKind, string> = {
  kernel: 'kernel cache',
  config: 'kernel cache (index)',
  build: 'build directory',
  ccache: 'ccache',
}

const cacheKey = (kind: CacheKind, key: string) => `kernelcraft-${kind}-${CACHE_FORMAT}-${key}`

/**
 * The path of an entry as GitHub gets it. A hash of its text is part of what GitHub compares, so it is the same text on
 * every runner: with a tilde, whatever the user's name is.
 */
function storedPath(kind: CacheKind, key: string): string {
  const path = cacheEntryPath(kind, key)
  return path.startsWith(`${homedir()}/`) ? `~${path.slice(homedir().length)}` : path
}

/**
 * Runs GitHub's client with its warnings and errors as plain lines: it reports every problem of the service as a warning
 * and some as an error, and each would be an annotation of a run that lost nothing but time. `onPrint` gets what it
 * prints.
 */
async function asNotice<T>(work: () => Promise<T>, onPrint: (text: string) => void = () => {}): Promise<T> {
  const { stdout } = process
  const write = stdout.write
  stdout.write = ((chunk: string | Uint8Array, ...rest: []) => {
    if (typeof chunk !== 'string') return write.call(stdout, chunk, ...rest)
    onPrint(chunk)
    return write.call(stdout, chunk.replace(/^::(?:warning|error)::/gm, ''), ...rest)
  }) as typeof write
  try {
    return await work()
  } finally {
    stdout.write = write
  }
}

/** Prefix of the service's reason where the token may only read (@actions/cache, cache.ts). */
const WRITE_DENIED = 'cache write denied:'

const since = (start: number) => `${((performance.now() - start) / 1000).toFixed(1)} s`

/** True if this step has the address of GitHub's cache and a token for it. */
function hasService(env: NodeJS.ProcessEnv): boolean {
  return Boolean(env.ACTIONS_RESULTS_URL && env.ACTIONS_RUNTIME_TOKEN)
}

/**
 * True for a machine that keeps nothing between jobs. One that does has its own caches, which are nearer and larger. A
 * later step of the same job finds what the earlier one left, and a file that names the job.
 */
function isFresh(env: NodeJS.ProcessEnv): boolean {
  const jobFile = cachePath('kernels', 'job')
  const job = [env.GITHUB_RUN_ID, env.GITHUB_RUN_ATTEMPT, env.GITHUB_JOB, env.RUNNER_NAME].join(' ')
  const hasEntries = (['kernels', 'ccache'] as const).some(name => {
    const path = cachePath(name)
    return existsSync(path) && readdirSync(path).length > 0
  })
  if (hasEntries) return existsSync(jobFile) && readFileSync(jobFile, 'utf8') === job
  mkdirSync(cachePath('kernels'), { recursive: true })
  writeFileSync(jobFile, job)
  return true
}

/**
 * GitHub's cache for the pipeline; undefined where there is none, or no need of one. `onOffers` gets all offers so far
 * at each new one, for the post step. A problem of the service is only a line of the log.
 */
export function githubCaches(
  env: NodeJS.ProcessEnv,
  step: string,
  onOffers: (offers: readonly CacheOffer[]) => void,
): RemoteCaches | undefined {
  if (!hasService(env)) return undefined
  if (!isFresh(env)) {
    core.info('This machine keeps its own caches: nothing is restored from GitHub or saved there.')
    return undefined
  }
  const offers: CacheOffer[] = []
  const job = sha256(`${env.GITHUB_JOB} ${step}`).slice(0, 12)
  let timedOut = false
  return {
    unique: [env.GITHUB_RUN_ID, env.GITHUB_RUN_ATTEMPT, job].filter(Boolean).join('-'),
    offer(offer) {
      offers.push(offer)
      onOffers(offers)
    },
    async restore(kind, key, prefixes = []) {
      if (timedOut) return undefined
      try {
        return await restoreEntry(kind, key, prefixes)
      } catch (error) {
        core.info(`${NAMES[kind]}: could not be restored (${messageOf(error)}).`)
        // the job does not wait a second time
        timedOut = error instanceof ServiceTimeout
        if (timedOut) core.info('Nothing more is restored in this run.')
        return undefined
      }
    },
  }
}

/** Restores the entry with this key, or with one of the prefixes. Returns its key; undefined if there is none. */
async function restoreEntry(
  kind: CacheKind,
  key: string,
  prefixes: readonly string[],
): Promise<string | undefined> {
  const start = performance.now()
  // loaded only when needed: it is most of the bundle
  const { restoreCache } = await import('@actions/cache')
  const fallbacks = prefixes.map(prefix => cacheKey(kind, prefix))
  const found = await asNotice(() =>
    withTimeout('restore', () => restoreCache([storedPath(kind, key)], cacheKey(kind, key), fallbacks)),
  )
  const summary = found ? `restored ${found} in ${since(start)}` : `nothing to restore (${since(start)})`
  core.info(`${NAMES[kind]}: ${summary}.`)
  return found?.slice(cacheKey(kind, '').length)
}

/** Saves each of main's offers, also after a run that failed. Never throws. */
export async function saveOffers(offers: readonly CacheOffer[]): Promise<void> {
  for (const offer of offers) {
    try {
      if (await saveOffer(offer)) continue
      core.info('This run may only read caches, so nothing is saved.')
      return
    } catch (error) {
      core.info(`${NAMES[offer.kind]}: not saved (${messageOf(error)}).`)
      // the others would wait as long
      if (error instanceof ServiceTimeout) return
    }
  }
}

/** Saves one entry. Returns false if this run has no permission to save any. */
async function saveOffer(offer: CacheOffer): Promise<boolean> {
  const name = NAMES[offer.kind]
  const path = storedPath(offer.kind, offer.key)
  const key = cacheKey(offer.kind, offer.key)
  // saveCache packs everything before it learns that the key is taken: look first
  if (await exists(path, key)) {
    core.info(`${name}: ${key} already exists.`)
    return true
  }
  const reason = await prepareOffer(offer)
  if (reason !== undefined) {
    core.info(`${name}: ${reason}, nothing is saved.`)
    return true
  }
  const start = performance.now()
  const { saveCache } = await import('@actions/cache')
  let denied = false
  const id = await asNotice(
    () => withTimeout('save', () => saveCache([path], key)),
    text => {
      denied ||= text.includes(WRITE_DENIED)
    },
  )
  // -1: the service refused, and the client has printed the reason
  core.info(id === -1 ? `${name}: not saved.` : `${name}: saved as ${key} in ${since(start)}.`)
  return !denied
}

async function exists(path: string, key: string): Promise<boolean> {
  const { restoreCache } = await import('@actions/cache')
  const found = await asNotice(() =>
    withTimeout('restore', () => restoreCache([path], key, [], { lookupOnly: true })),
  )
  return found === key
}
