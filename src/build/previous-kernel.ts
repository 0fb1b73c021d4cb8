import { copyFile, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { InfraError } from '../errors.js'
import { readJson, writeFileAtomic } from '../host/files.js'
import { hashFile } from '../host/hash.js'
import { cachePath } from '../host/paths.js'
import type { Source } from '../source/source.js'
import { repositoryName, sourceName } from '../source/workspace.js'
import type { Kernel } from './build-kernel.js'
import { holdKernel } from './kernel-cache.js'

/** The kernel that was made last for a source's repository and series (`--skip-build`). */
export interface PreviousKernel {
  kernel: Kernel
  /** its configuration */
  config: string
  sha: string
  treeId: string
  subject: string
  dirty?: boolean
  /** SHA-256 of the image, so that a touched one is not taken for the built one */
  imageHash: string
}

const noteOf = (source: Source, arch: string) =>
  cachePath('kernels', 'previous', `${sourceName(source)}-${arch}.json`)

export async function recordPrevious(source: Source, kernel: Kernel, config: string): Promise<void> {
  const { ccache: _ccache, ...lasting } = kernel
  const note: PreviousKernel = {
    kernel: { ...lasting, reused: true },
    config,
    sha: source.sha,
    treeId: source.treeId,
    subject: source.subject,
    ...(source.dirty ? { dirty: true } : {}),
    imageHash: (await hashFile(kernel.image)) ?? '',
  }
  await writeFileAtomic(noteOf(source, kernel.arch), JSON.stringify(note))
}

/** Forgets the previous kernels of a repository. */
export async function forgetPrevious(repository: string): Promise<void> {
  const directory = cachePath('kernels', 'previous')
  for (const name of await readdir(directory).catch(() => []))
    if (name.includes(`-${repositoryName(repository)}-`)) await rm(join(directory, name), { force: true })
}

/** Finds it again, with its image copied to `image`: the next build may come before this guest has ended. */
export async function takePrevious(source: Source, arch: string, image: string): Promise<PreviousKernel> {
  const note = await readJson<PreviousKernel>(noteOf(source, arch))
  const none = new InfraError(
    'There is no kernel to test without building one: run once without --skip-build.',
  )
  if (!note) throw none
  await copyFile(note.kernel.image, image).catch(() => {
    throw none
  })
  if ((await hashFile(image)) !== note.imageHash) throw none
  const { cache, ...kernel } = note.kernel
  if (cache) await holdKernel(cache.key)
  return { ...note, kernel: { ...kernel, image } }
}
