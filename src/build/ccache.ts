import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readJson } from '../host/files.js'
import { sha256 } from '../host/hash.js'
import { cachePath } from '../host/paths.js'
import { run } from '../host/processes.js'
import { which } from '../host/tools.js'
import type { Request } from '../request/request.js'
import type { CcacheFacts } from '../result.js'
import type { Toolchain } from './toolchain.js'

/** ccache for one build. */
export interface Ccache {
  env: Readonly<Record<string, string>>
  /** file to which ccache writes the result of each call */
  statsLog: string
}

/**
 * ccache with settings for CI: the compiler is identified by its contents, not by its time stamp, and neither the work
 * directory nor the time of the build is hashed (ccache(1); the kernel's reproducible-builds.rst). Undefined where the
 * request turns it off, or it is not installed.
 */
export async function findCcache(request: Request, workspace: string): Promise<Ccache | undefined> {
  if (!request.ccache || !(await which('ccache'))) return undefined
  const directory = cachePath('ccache')
  const statsLog = join(workspace, 'ccache.log')
  await mkdir(directory, { recursive: true })
  return {
    statsLog,
    env: {
      CCACHE_DIR: directory,
      CCACHE_COMPILERCHECK: 'content',
      CCACHE_NOHASHDIR: '1',
      CCACHE_BASEDIR: workspace,
      CCACHE_MAXSIZE: request.ccacheMaxSize.replace(/\s/g, ''),
      CCACHE_STATSLOG: statsLog,
      ...(request.ccacheRemote
        ? {
            CCACHE_REMOTE_STORAGE: request.ccacheRemote,
            // its name before ccache 4.7
            CCACHE_SECONDARY_STORAGE: request.ccacheRemote,
          }
        : {}),
    },
  }
}

/** Hits and misses of one build in ccache's stats log, one name in each line (ccache(1), stats_log). */
export function countCcache(log: string): { hits: number; misses: number } {
  const lines = log.split('\n')
  const count = (...names: string[]) => lines.filter(line => names.includes(line)).length
  return { hits: count('direct_cache_hit', 'preprocessed_cache_hit'), misses: count('cache_miss') }
}

/** A file for what a miss costs on this machine, written after a build with enough misses to measure it. */
const COSTS = 'kernelcraft.json'
const ENOUGH_MISSES = 100

/**
 * What ccache did for a build: hits and misses, the size of its directory, and about how many seconds it saved. ccache
 * measures no time, so that is estimated from what a miss costs (wall time of a build that was nearly all misses, divided
 * by their number); absent until there was such a build. `seconds` is the build's wall time.
 */
export async function ccacheFacts(ccache: Ccache, seconds: number): Promise<CcacheFacts> {
  const { hits, misses } = countCcache(await readFile(ccache.statsLog, 'utf8').catch(() => ''))
  const costs = cachePath('ccache', COSTS)
  if (misses >= ENOUGH_MISSES && hits * 10 < misses) {
    await writeFile(costs, JSON.stringify({ secondsPerMiss: seconds / misses }))
  }
  const known = (await readJson<{ secondsPerMiss: number }>(costs))?.secondsPerMiss
  // the time of a build without any hit, less the time that this build took
  const saved = known === undefined ? undefined : (hits + misses) * known - seconds
  return {
    hits,
    misses,
    bytes: await ccacheSize(),
    ...(saved === undefined || hits === 0 ? {} : { savedSeconds: Math.max(0, Math.round(saved)) }),
  }
}

/** Bytes in ccache's directory, as ccache counts them. */
async function ccacheSize(): Promise<number> {
  const end = await run({
    file: 'ccache',
    args: ['--print-stats'],
    env: { CCACHE_DIR: cachePath('ccache') },
    deadline: 60,
  })
  return Number(/^cache_size_kibibyte\t(\d+)$/m.exec(end.stdout)?.[1] ?? 0) * 1024
}

/** Removes the stats log of an earlier build. */
export async function startCounting(ccache: Ccache): Promise<void> {
  await rm(ccache.statsLog, { force: true })
}

/**
 * The key of this job's entry in the remote caches, and the prefixes of entries to start from, the nearest one first:
 * same architecture, compiler and configuration base, then any base, then any compiler. All refs share them: ccache's own
 * hashes decide what can be used. `unique` differs between jobs.
 */
export function ccacheKeys(
  request: Pick<Request, 'arch' | 'configBase'>,
  { compiler }: Pick<Toolchain, 'compiler'>,
  unique: string,
): { key: string; fallbacks: string[] } {
  const parts = [request.arch, sha256(compiler).slice(0, 12), request.configBase.kind]
  const prefix = (count: number) => `${parts.slice(0, count).join('-')}-`
  return { key: prefix(3) + unique, fallbacks: [prefix(3), prefix(2), prefix(1)] }
}

/** A hash of the names of all entries: ccache names them by contents, so it changes when an entry is added. */
export async function ccacheContents(): Promise<string> {
  const entries = await readdir(cachePath('ccache'), { recursive: true, withFileTypes: true }).catch(() => [])
  const names = entries
    .filter(entry => entry.isFile() && /^[0-9a-z]{20,}/.test(entry.name))
    .map(entry => join(entry.parentPath, entry.name))
  return sha256(names.sort().join('\n'))
}

/**
 * Removes what was neither stored nor used since `began` (milliseconds since the epoch): ccache touches what it uses
 * (ccache(1), --evict-older-than).
 */
export async function trimCcache(began: number): Promise<void> {
  const age = Math.ceil((Date.now() - began) / 1000) + 60
  await run({
    file: 'ccache',
    args: ['--evict-older-than', `${age}s`],
    env: { CCACHE_DIR: cachePath('ccache') },
    deadline: 60,
  })
}
