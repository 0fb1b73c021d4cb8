import { cachePath } from '../host/paths.js'
import { buildDirSnapshotPath, packBuildDir } from './build-dir-snapshot.js'
import type { Stamp } from './build-kernel.js'
import { ccacheContents, trimCcache } from './ccache.js'
import { entryPath } from './kernel-cache.js'

/** What is kept beyond this machine. */
export type CacheKind = 'kernel' | 'asked' | 'build' | 'ccache'

/**
 * Something that is worth keeping beyond this machine when the job ends. `key` is unique among its kind; entries are
 * never changed.
 */
export type CacheOffer =
  | { kind: 'kernel'; key: string }
  | { kind: 'asked'; key: string }
  | { kind: 'build'; key: string; out: string; gitDir: string; made: Stamp }
  | { kind: 'ccache'; key: string; before: string; began: number }

/** Caches beyond this machine; in a job, GitHub's. Trouble with them is told and changes nothing. */
export interface RemoteCaches {
  /**
   * Puts an entry in its place: the one with this key, else the newest whose key begins with one of the prefixes, the
   * first prefix first. Returns its key; undefined if nothing was found, or if this kind is not kept.
   */
  restore(kind: CacheKind, key: string, prefixes?: readonly string[]): Promise<string | undefined>
  /** Keeps it when the job ends. */
  offer(offer: CacheOffer): void
  /** tells jobs apart, for keys that are */
  unique: string
}

/**
 * The directory of an entry, the same on every machine below the cache's root: for a kernel, `key` is part of it.
 */
export function cacheEntryPath(kind: CacheKind, key: string): string {
  const places: Record<CacheKind, string> = {
    kernel: entryPath(key),
    asked: cachePath('kernels', 'asked'),
    build: buildDirSnapshotPath(),
    ccache: cachePath('ccache'),
  }
  return places[kind]
}

/** Makes an offer ready to be saved from its place; a phrase if it is not worth it after all. */
export async function prepareOffer(offer: CacheOffer): Promise<string | undefined> {
  if (offer.kind === 'ccache') {
    if ((await ccacheContents()) === offer.before) return 'nothing new'
    await trimCcache(offer.began)
  }
  if (offer.kind === 'build' && !(await packBuildDir(offer.out, offer.gitDir, offer.made)))
    return 'another kernel was built there since'
  return undefined
}
