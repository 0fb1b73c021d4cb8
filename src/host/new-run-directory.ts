import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { InfraError, InputError, isDiskFull, messageOf } from '../errors.js'
import { cachePath, cacheRoot } from './paths.js'

/** Number of run directories to keep in the cache; older ones are removed. */
const KEPT = 20

/** mkdir -p, one level at a time: Node's own never returns where the file system fails with ENOENT, as /proc does. */
async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return
    if (code !== 'ENOENT' || dirname(path) === path || existsSync(dirname(path))) throw error
    await makeDirectory(dirname(path))
    await mkdir(path)
  }
}

/** Creates the directory for the files of one run: the given one, else a new one in the cache. Throws InputError or InfraError. */
export async function createRunDirectory(wanted?: string): Promise<string> {
  if (/[\s:]/.test(cacheRoot())) {
    throw new InputError(
      `The cache directory ${JSON.stringify(cacheRoot())} has a blank or a colon in its path, where the kernel's make cannot build: set KERNELCRAFT_CACHE to another directory.`,
    )
  }
  try {
    if (wanted !== undefined) {
      await makeDirectory(wanted)
      return wanted
    }
    await makeDirectory(cachePath('runs'))
    await removeOld()
    const now = new Date().toISOString().slice(0, 19).replace('T', '-').replaceAll(':', '')
    return await mkdtemp(cachePath('runs', `${now}-`))
  } catch (error) {
    if (isDiskFull(error)) throw new InfraError('The disk is full: the run directory cannot be created.')
    const where = wanted ?? cachePath('runs')
    throw new InputError(
      `The run directory cannot be created under ${where} (${messageOf(error)}): name another with --run-directory, or set KERNELCRAFT_CACHE.`,
    )
  }
}

async function removeOld(): Promise<void> {
  const root = cachePath('runs')
  const names = (await readdir(root)).sort().reverse()
  for (const name of names.slice(KEPT)) {
    const path = join(root, name)
    // a run may take hours: keep directories that were changed in the last hour
    const info = await stat(path).catch(() => undefined)
    if (info && Date.now() - info.mtimeMs > 3600_000) await rm(path, { recursive: true, force: true })
  }
}
