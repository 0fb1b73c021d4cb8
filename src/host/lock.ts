import { link, rm, writeFile } from 'node:fs/promises'
import { readJson } from './files.js'
import { isAlive, type ProcessId, processId, uniqueSuffix } from './proc.js'

/**
 * Takes the lock at `path` for this process: `free` where nobody had it, `abandoned` where whoever did is gone without
 * removing it, undefined where a process that lives has it. Whoever takes it removes the file. Throws where the file
 * cannot be made.
 */
export async function takeLock(path: string): Promise<'free' | 'abandoned' | undefined> {
  for (const taken of ['free', 'abandoned'] as const) {
    // linked into place whole: a lock that exists always says whose it is
    const draft = `${path}.${uniqueSuffix()}`
    await writeFile(draft, JSON.stringify(processId(process.pid)))
    try {
      await link(draft, path)
      return taken
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    } finally {
      await rm(draft, { force: true })
    }
    const owner = await readJson<ProcessId>(path)
    if (owner && isAlive(owner)) return undefined
    await rm(path, { force: true })
  }
  return undefined
}
