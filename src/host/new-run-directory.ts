import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { InfraError, InputError, isDiskFull, messageOf } from '../errors.js'
import { cachePath, cacheRoot } from './paths.js'

/** Run directories that are kept in the cache; older ones go. */
const KEPT = 20

/** mkdir -p, one level at a time: Node's own never returns where the file system refuses with ENOENT, as /proc does. */
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

/** Makes the directory in which one run keeps all that it learns. Throws InputError or InfraError. */
export async function makeRunDirectory(wanted?: string): Promise<string> {
  if (/[\s:]/.test(cacheRoot())) {
    throw new InputError(
      `${JSON.stringify(cacheRoot())} has a blank or a colon in it, and the kernel's make cannot build there: set KERNELCRAFT_CACHE to another directory.`,
    )
  }
  try {
    if (wanted !== undefined) {
      await makeDirectory(wanted)
      return wanted
    }
    await makeDirectory(cachePath('runs'))
    await forgetOld()
    const now = new Date().toISOString().slice(0, 19).replace('T', '-').replaceAll(':', '')
    return await mkdtemp(cachePath('runs', `${now}-`))
  } catch (error) {
    if (isDiskFull(error)) throw new InfraError('The disk is full: the run directory could not be made.')
    const where = wanted ?? cachePath('runs')
    throw new InputError(
      `The run directory cannot be made under ${where} (${messageOf(error)}): name another with --run-directory, or set KERNELCRAFT_CACHE.`,
    )
  }
}

async function forgetOld(): Promise<void> {
  const root = cachePath('runs')
  const names = (await readdir(root)).sort().reverse()
  for (const name of names.slice(KEPT)) {
    const path = join(root, name)
    // a run that is an hour old may still be under way: leave what was touched lately
    const info = await stat(path).catch(() => undefined)
    if (info && Date.now() - info.mtimeMs > 3600_000) await rm(path, { recursive: true, force: true })
  }
}
