import { copyFile } from 'node:fs/promises'
import { InfraError } from '../errors.js'
import { readJson, writeWhole } from '../host/files.js'
import { hashFile } from '../host/hash.js'
import { cachePath } from '../host/paths.js'
import type { Source } from '../source/source.js'
import { sourceName } from '../source/workspace.js'
import type { Kernel } from './build.js'
import { hold } from './store.js'

/** The kernel that was made last for a source's repository and series (`--skip-build`). */
export interface Previous {
  kernel: Kernel
  /** its configuration */
  config: string
  sha: string
  subject: string
  /** SHA-256 of the image, so that a touched one is not taken for the built one */
  imageHash: string
}

const noteOf = (source: Source, arch: string) =>
  cachePath('kernels', 'previous', `${sourceName(source)}-${arch}.json`)

export async function notePrevious(source: Source, kernel: Kernel, config: string): Promise<void> {
  const { ccache: _ccache, ...lasting } = kernel
  const note: Previous = {
    kernel: { ...lasting, reused: true },
    config,
    sha: source.sha,
    subject: source.subject,
    imageHash: (await hashFile(kernel.image)) ?? '',
  }
  await writeWhole(noteOf(source, kernel.arch), JSON.stringify(note))
}

/** Finds it again, with its image copied to `image`: the next build may come before this guest has ended. */
export async function takePrevious(source: Source, arch: string, image: string): Promise<Previous> {
  const note = await readJson<Previous>(noteOf(source, arch))
  const none = new InfraError(
    'There is no kernel to test without building one: run once without --skip-build.',
  )
  if (!note) throw none
  await copyFile(note.kernel.image, image).catch(() => {
    throw none
  })
  if ((await hashFile(image)) !== note.imageHash) throw none
  const { cache, ...kernel } = note.kernel
  if (cache) await hold(cache.key)
  return { ...note, kernel: { ...kernel, image } }
}
