import { lutimesSync } from 'node:fs'
import { link, lstat, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cachePath } from '../host/paths.js'
import { git } from '../source/git.js'
import { type BuildStamp, readStamp } from './build-kernel.js'

/**
 * Build-dir snapshots: a build directory is packed on one machine and continued on another, so that make compiles only
 * what differs. make compares time stamps, and those of a fresh checkout have no meaning; therefore a snapshot also holds
 * a listing of the source that it was built from. A file that is unchanged since gets an old time stamp; one that changed
 * keeps the time of its checkout, which is newer than every object.
 */

const OUT = 'out'
const LISTING = 'listing'

/** The path of the snapshot, while it is packed, saved, or restored. */
export const buildDirSnapshotPath = (...rest: string[]) => cachePath('build', ...rest)

/** Linked anew after any change: most of the bytes of a build directory, and almost none of the build's time. */
const RELINKED =
  /^(?:\.modules(?:$|\/)|(?:\.tmp_)?vmlinux|System\.map|arch\/\w+\/boot\/(?:bzImage|Image|vmlinux|compressed\/(?:vmlinux|piggy)))/

/** Mode, blob and path of every file of a git tree, as `git ls-tree -z` prints them. */
async function listing(gitDir: string, treeId: string): Promise<string> {
  return await git(['ls-tree', '-r', '-z', treeId], { gitDir, whole: true })
}

/** Path to mode and blob. */
function parseListing(text: string): Map<string, string> {
  return new Map(
    text
      .split('\0')
      .filter(Boolean)
      .map(entry => {
        const tab = entry.indexOf('\t')
        return [entry.slice(tab + 1), entry.slice(0, tab)]
      }),
  )
}

/** Packs a build directory into a snapshot; false if it is not what `expected` says any more. */
export async function packBuildDir(out: string, gitDir: string, expected: BuildStamp): Promise<boolean> {
  const stamp = await readStamp(out)
  if (stamp?.treeId !== expected.treeId || stamp.configHash !== expected.configHash) return false
  const snapshot = buildDirSnapshotPath()
  await rm(snapshot, { recursive: true, force: true })
  await mkdir(join(snapshot, OUT), { recursive: true })
  await writeFile(join(snapshot, LISTING), await listing(gitDir, expected.treeId))
  const entries = (await readdir(out, { recursive: true, withFileTypes: true }))
    .map(entry => ({ path: join(entry.parentPath, entry.name).slice(out.length + 1), entry }))
    .filter(({ path }) => !RELINKED.test(path))
  // empty directories as well: Kbuild looks for some targets through them
  for (const { path, entry } of entries)
    if (entry.isDirectory()) await mkdir(join(snapshot, OUT, path), { recursive: true })
  const paths = entries.filter(({ entry }) => !entry.isDirectory()).map(({ path }) => path)
  // hard links: nothing is copied
  await Promise.all(paths.map(path => link(join(out, path), join(snapshot, OUT, path))))
  return true
}

/** A restored snapshot, and how the source differs from the one that it was built from: paths of files. */
export interface BuildDirSnapshot {
  stamp: BuildStamp
  changed: readonly string[]
  unchanged: readonly string[]
}

/** Opens the snapshot at `buildDirSnapshotPath()`, to continue it with a git tree; or returns why it cannot be used. */
export async function openBuildDirSnapshot(
  gitDir: string,
  treeId: string,
): Promise<BuildDirSnapshot | { useless: string }> {
  const [stamp, text] = await Promise.all([
    readStamp(buildDirSnapshotPath(OUT)),
    readFile(buildDirSnapshotPath(LISTING), 'utf8').catch(() => undefined),
  ])
  if (!stamp || text === undefined) return { useless: 'it is not complete' }
  if ((await newestChange(buildDirSnapshotPath(OUT))) > Date.now())
    return { useless: 'it was built on a machine whose clock was ahead' }
  const before = parseListing(text)
  const now = parseListing(await listing(gitDir, treeId))
  const changed: string[] = []
  const unchanged: string[] = []
  for (const [path, entry] of now) (before.get(path) === entry ? unchanged : changed).push(path)
  for (const path of before.keys()) if (!now.has(path)) changed.push(path)
  return { stamp, changed, unchanged }
}

/** When a file of a directory was changed last, in milliseconds since the epoch. */
async function newestChange(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const times = await Promise.all(
    entries
      .filter(entry => entry.isFile())
      .map(async entry => (await lstat(join(entry.parentPath, entry.name))).mtimeMs),
  )
  return times.reduce((most, time) => Math.max(most, time), 0)
}

/** Older than any object, so that make never compiles an unchanged file again. */
const LONG_AGO = new Date('2000-01-01T00:00:00Z')

/** Moves the snapshot below a source that was just checked out, and sets the time stamps of the source's files. */
export async function restoreBuildDir(
  snapshot: BuildDirSnapshot,
  source: string,
  out: string,
): Promise<void> {
  // synchronous: eighty thousand calls, and a promise costs more than each
  for (const path of snapshot.unchanged) {
    const file = join(source, path)
    try {
      lutimesSync(file, LONG_AGO, LONG_AGO)
    } catch {
      // a submodule's directory, which is not checked out
    }
  }
  await rm(join(source, out), { recursive: true, force: true })
  await mkdir(source, { recursive: true })
  await rename(buildDirSnapshotPath(OUT), join(source, out))
  await rm(buildDirSnapshotPath(), { recursive: true, force: true })
}

/** Files that affect the one object that they are compiled into, or none. */
const SINGLE_OBJECT = /(?:\.[cS]|\.rst|\.txt|\.md|\.yaml|\.py|^MAINTAINERS|^CREDITS)$/
const MOST_SMALL = 100

/** True if make will have so little to do that restoring ccache's directory would take longer. */
export function isSmallChange({ changed }: BuildDirSnapshot): boolean {
  return changed.length <= MOST_SMALL && changed.every(path => SINGLE_OBJECT.test(path))
}
