import { lutimesSync } from 'node:fs'
import { link, lstat, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cachePath } from '../host/paths.js'
import { git } from '../source/git.js'
import { readStamp, type Stamp } from './build-kernel.js'

/**
 * A build directory that travels: packed on one machine, continued on another, so that make compiles only what differs.
 * make goes by time stamps, and a fresh checkout has none that make sense; so beside the directory lies a listing of the
 * source that it was built from. What is unchanged since gets a time long ago, what changed keeps the time of its
 * checkout, which is younger than every object.
 */

const OUT = 'out'
const LISTING = 'listing'

/** Where a build directory lies while it travels. */
export const buildDirSnapshotPath = (...rest: string[]) => cachePath('build', ...rest)

/** Linked anew whenever anything has changed: most of the bytes, and none of the time. */
const REMADE =
  /^(?:\.modules(?:$|\/)|(?:\.tmp_)?vmlinux|System\.map|arch\/\w+\/boot\/(?:bzImage|Image|vmlinux|compressed\/(?:vmlinux|piggy)))/

/** path to mode and blob of every file of a git tree */
async function listing(gitDir: string, treeId: string): Promise<string> {
  return await git(['ls-tree', '-r', '-z', treeId], { gitDir, whole: true })
}

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

/** Packs a build directory that holds what `made` says; false if it holds something else by now. */
export async function packBuildDir(out: string, gitDir: string, made: Stamp): Promise<boolean> {
  const stamp = await readStamp(out)
  if (stamp?.treeId !== made.treeId || stamp.configHash !== made.configHash) return false
  const parcel = buildDirSnapshotPath()
  await rm(parcel, { recursive: true, force: true })
  await mkdir(join(parcel, OUT), { recursive: true })
  await writeFile(join(parcel, LISTING), await listing(gitDir, made.treeId))
  const entries = (await readdir(out, { recursive: true, withFileTypes: true }))
    .map(entry => ({ path: join(entry.parentPath, entry.name).slice(out.length + 1), entry }))
    .filter(({ path }) => !REMADE.test(path))
  // empty ones as well: Kbuild looks for some targets by way of them
  for (const { path, entry } of entries)
    if (entry.isDirectory()) await mkdir(join(parcel, OUT, path), { recursive: true })
  const paths = entries.filter(({ entry }) => !entry.isDirectory()).map(({ path }) => path)
  // hard links: nothing is copied
  await Promise.all(paths.map(path => link(join(out, path), join(parcel, OUT, path))))
  return true
}

/** A build directory that came from elsewhere, and how the source differs from what it was built from. */
export interface BuildDirSnapshot {
  stamp: Stamp
  changed: readonly string[]
  unchanged: readonly string[]
}

/** What has been put at `parcelPath()`; undefined if it is of no use here, and why. */
export async function openBuildDirSnapshot(
  gitDir: string,
  treeId: string,
): Promise<BuildDirSnapshot | { useless: string }> {
  const [stamp, text] = await Promise.all([
    readStamp(buildDirSnapshotPath(OUT)),
    readFile(buildDirSnapshotPath(LISTING), 'utf8').catch(() => undefined),
  ])
  if (!stamp || text === undefined) return { useless: 'it is not whole' }
  if ((await youngest(buildDirSnapshotPath(OUT))) > Date.now())
    return { useless: 'its clock was ahead of this one' }
  const before = parseListing(text)
  const now = parseListing(await listing(gitDir, treeId))
  const changed: string[] = []
  const unchanged: string[] = []
  for (const [path, entry] of now) (before.get(path) === entry ? unchanged : changed).push(path)
  for (const path of before.keys()) if (!now.has(path)) changed.push(path)
  return { stamp, changed, unchanged }
}

/** Milliseconds since the epoch of the file that was changed last. */
async function youngest(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const times = await Promise.all(
    entries
      .filter(entry => entry.isFile())
      .map(async entry => (await lstat(join(entry.parentPath, entry.name))).mtimeMs),
  )
  return times.reduce((most, time) => Math.max(most, time), 0)
}

/** Older than any object: make never takes an unchanged file for newer than what was made from it. */
const LONG_AGO = new Date('2000-01-01T00:00:00Z')

/** Puts the build directory in place below a source that was just checked out, and sets the times of the source's files. */
export async function restoreBuildDir(parcel: BuildDirSnapshot, source: string, out: string): Promise<void> {
  // synchronous: eighty thousand calls, and a promise costs more than each
  for (const path of parcel.unchanged) {
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

/** Files that decide over no more than the object they are compiled into, or over none. */
const OF_ITS_OWN = /(?:\.[cS]|\.rst|\.txt|\.md|\.yaml|\.py|^MAINTAINERS|^CREDITS)$/
const FEW = 100

/** True if make has so little to do that fetching ccache's directory would take longer. */
export function isSmallChange({ changed }: BuildDirSnapshot): boolean {
  return changed.length <= FEW && changed.every(path => OF_ITS_OWN.test(path))
}
