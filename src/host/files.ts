import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { uniqueSuffix } from './proc.js'

/** What a file of our own says as JSON; undefined if it is not there or is no JSON. Its shape is taken on trust. */
export async function readJson<T>(path: string): Promise<T | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as T
  } catch {
    return undefined
  }
}

/** Writes a small file whole or not at all. */
export async function writeFileAtomic(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const draft = `${path}.${uniqueSuffix()}`
  await writeFile(draft, text)
  await rename(draft, path)
}
