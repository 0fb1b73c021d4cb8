import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { SourceError } from '../errors.js'
import { sha256 } from '../host/hash.js'
import { cachePath } from '../host/paths.js'
import { describeEnd, lastLines, run } from '../host/processes.js'
import type { Log } from '../log.js'
import { git, resolveCommit } from './git.js'

/** A kernel source archive that a package of the distribution installed. */
interface Archive {
  path: string
  /** series, e.g. 6.12 */
  series: string
}

const ARCHIVE = /^linux-source-(\d+\.\d+)(?:\.\d+)?\.tar\.(?:xz|bz2|zst|gz)$/

const compareSeries = (a: string, b: string) => a.localeCompare(b, 'en', { numeric: true })

/** Archives in /usr/src, the newest series first: Debian has them there, Ubuntu one directory below. */
async function findArchives(root = '/usr/src'): Promise<Archive[]> {
  const found: Archive[] = []
  const search = async (dir: string, recurse: boolean) => {
    for (const entry of await readdir(dir, { withFileTypes: true }).catch(() => [])) {
      const series = ARCHIVE.exec(entry.name)?.[1]
      if (entry.isFile() && series) found.push({ path: join(dir, entry.name), series })
      else if (recurse && entry.isDirectory() && entry.name.startsWith('linux-source-')) {
        await search(join(dir, entry.name), false)
      }
    }
  }
  await search(root, true)
  return found.sort((a, b) => compareSeries(b.series, a.series))
}

/** Name and version of the package that owns a file, from dpkg; undefined if none does. */
async function packageOf(path: string): Promise<{ name: string; version: string } | undefined> {
  const owner = await run({ file: 'dpkg-query', args: ['-S', path], deadline: 60 })
  const name = owner.status === 0 ? owner.stdout.split(':')[0] : undefined
  if (!name) return undefined
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholder
  const version = await run({ file: 'dpkg-query', args: ['-W', '-f=${Version}', name], deadline: 60 })
  return version.status === 0 ? { name, version: version.stdout } : undefined
}

/** The tag of a package version as DEP-14 maps it, with escapes for what git does not accept in a ref. */
export function packageTag(version: string): string {
  return `debian/${version
    .replaceAll(':', '%')
    .replaceAll('~', '_')
    .replace(/\.(?=\.|$|lock$)/g, '.#')}`
}

/**
 * The distribution's kernel source as a git repository: a branch for each series (`6.12`), a tag for each
 * package version. An archive is unpacked once; the commit is the same on every machine that has the package.
 * Returns the repository and the branch of the requested series, else of the newest. Throws SourceError.
 */
export async function distroRepository(
  wanted: string | undefined,
  log: Log,
  cancel?: AbortSignal,
): Promise<{ gitDir: string; branch: string }> {
  const archives = await findArchives()
  const archive = archives.find(({ series }) => series === wanted) ?? archives[0]
  if (!archive) {
    throw new SourceError(
      'The distribution kernel source is not on this machine: install the package linux-source (or run `kc doctor --install`).',
    )
  }
  const gitDir = cachePath('trees', 'distro.git')
  if (!existsSync(join(gitDir, 'HEAD'))) await git(['init', '--quiet', '--bare', gitDir])
  const owner = await packageOf(archive.path)
  const tag = owner ? packageTag(owner.version) : `archive/${sha256(archive.path).slice(0, 12)}`
  if (!(await resolveCommit(gitDir, `refs/tags/${tag}`))) {
    await importArchive(archive, { gitDir, tag, owner }, log, cancel)
  }
  return { gitDir, branch: archive.series }
}

/** Adds an archive's files to the repository as a commit with its branch and tag. */
async function importArchive(
  archive: Archive,
  { gitDir, tag, owner }: { gitDir: string; tag: string; owner?: { name: string; version: string } },
  log: Log,
  cancel?: AbortSignal,
): Promise<void> {
  await mkdir(cachePath('work'), { recursive: true })
  const scratch = await mkdtemp(cachePath('work', 'unpack-'))
  try {
    log.info(`unpacking ${archive.path} (once for this version)`)
    await unpack(archive.path, scratch, cancel)
    log.info('adding it to a git repository')
    const call = { gitDir, workTree: scratch, cancel, env: { GIT_INDEX_FILE: `${scratch}.index` } }
    // the package's own .gitignore ignores most of its files
    await git(['add', '--all', '--force', '.'], call)
    const tree = await git(['write-tree'], call)
    const subject = owner ? `${owner.name} ${owner.version}` : basename(archive.path)
    const env = { ...call.env, ...(await identity(archive.path)) }
    const commit = await git(['commit-tree', '-m', subject, tree], { ...call, env })
    await git(['update-ref', `refs/heads/${archive.series}`, commit], call)
    await git(['update-ref', `refs/tags/${tag}`, commit], call)
  } finally {
    await rm(scratch, { recursive: true, force: true })
    await rm(`${scratch}.index`, { force: true })
  }
}

async function unpack(archive: string, directory: string, cancel?: AbortSignal): Promise<void> {
  const options = ['--strip-components=1', '--no-same-owner']
  const args = ['--extract', '--file', archive, '--directory', directory, ...options]
  const end = await run({ file: 'tar', args, cancel })
  if (end.status !== 0) throw new SourceError(`${describeEnd('tar', end)}.`, lastLines(end.stderr, 3))
}

/** git's variables for author, committer and their dates, the same on every machine: the date is the archive's. */
async function identity(archive: string): Promise<Record<string, string>> {
  const date = `${Math.floor((await stat(archive)).mtimeMs / 1000)} +0000`
  const fields = { NAME: 'KernelCraft', EMAIL: 'kernelcraft@localhost', DATE: date }
  return Object.fromEntries(
    Object.entries(fields).flatMap(([key, value]) => [
      [`GIT_AUTHOR_${key}`, value],
      [`GIT_COMMITTER_${key}`, value],
    ]),
  )
}
