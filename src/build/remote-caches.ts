import { cachePath } from '../host/paths.js'
import { buildDirSnapshotPath, packBuildDir } from './build-dir-snapshot.js'
import type { BuildStamp } from './build-kernel.js'
import { ccacheContents, trimCcache } from './ccache.js'
import { configRecordsPath } from './config-records.js'
import { entryPath } from './kernel-cache.js'

/**
 * Kinds of entries in the caches beyond this machine: an entry of the kernel cache, the config records, a build-dir
 * snapshot, ccache's directory.
 */
export type CacheKind = 'kernel' | 'config' | 'build' | 'ccache'

/** An entry to be saved when the job ends. `key` is unique among its kind; entries are never changed. */
export type CacheOffer =
  | { kind: 'kernel'; key: string }
  | { kind: 'config'; key: string }
  | { kind: 'build'; key: string; out: string; gitDir: string; stamp: BuildStamp }
  | { kind: 'ccache'; key: string; before: string; began: number }

/** Caches beyond this machine; in a job, GitHub's. An error of theirs is logged and changes nothing else. */
export interface RemoteCaches {
  /**
   * Restores an entry to its path: the one with this key, else the newest whose key begins with one of the prefixes, the
   * first prefix first. Returns its key; undefined if nothing was found, or if this kind is not cached.
   */
  restore(kind: CacheKind, key: string, prefixes?: readonly string[]): Promise<string | undefined>
  /** Registers an entry to be saved when the job ends. */
  offer(offer: CacheOffer): void
  /** differs between jobs, for keys that have to */
  unique: string
}

/** The path of an entry, the same on every machine below the cache's root; that of a kernel depends on `key`. */
export function cacheEntryPath(kind: CacheKind, key: string): string {
  const paths: Record<CacheKind, string> = {
    kernel: entryPath(key),
    config: configRecordsPath(),
    build: buildDirSnapshotPath(),
    ccache: cachePath('ccache'),
  }
  return paths[kind]
}

/** Makes an entry ready to be saved from its path; returns a phrase if there is no need to save it after all. */
export async function prepareOffer(offer: CacheOffer): Promise<string | undefined> {
  if (offer.kind === 'ccache') {
    if ((await ccacheContents()) === offer.before) return 'nothing new'
    await trimCcache(offer.began)
  }
  if (offer.kind === 'build' && !(await packBuildDir(offer.out, offer.gitDir, offer.stamp)))
    return 'the build directory holds another kernel by now'
  return undefined
}
