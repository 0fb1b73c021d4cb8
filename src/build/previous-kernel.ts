import { copyFile, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { InfraError } from '../errors.js'
import { readJson, writeFileAtomic } from '../host/files.js'
import { hashFile } from '../host/hash.js'
import { cachePath } from '../host/paths.js'
import type { Source } from '../source/source.js'
import { repositoryName, sourceName } from '../source/workspace.js'
import type { Kernel } from './build-kernel.js'
import { KERNEL_CACHE_FORMAT } from './identity.js'
import { holdKernel } from './kernel-cache.js'

/** The record of the kernel that was built or reused last for a source's repository and series (`--skip-build`). */
export interface PreviousKernel {
  format: typeof KERNEL_CACHE_FORMAT
  kernel: Kernel
  /** its resolved .config */
  config: string
  sha: string
  treeId: string
  subject: string
  dirty?: boolean
  /** SHA-256 of the image: an image that has changed since is not the kernel that was built */
  imageHash: string
}

const recordPath = (source: Source, arch: string) =>
  cachePath('kernels', 'previous', `${sourceName(source)}-${arch}.json`)

/** Records the kernel under test for the next `--skip-build`. */
export async function recordPrevious(source: Source, kernel: Kernel, config: string): Promise<void> {
  // ccache's figures are those of one build
  const { ccache: _ccache, ...lasting } = kernel
  const record: PreviousKernel = {
    format: KERNEL_CACHE_FORMAT,
    kernel: { ...lasting, reused: true },
    config,
    sha: source.sha,
    treeId: source.treeId,
    subject: source.subject,
    ...(source.dirty ? { dirty: true } : {}),
    imageHash: (await hashFile(kernel.image)) ?? '',
  }
  await writeFileAtomic(recordPath(source, kernel.arch), JSON.stringify(record))
}

/** Removes the records of a repository's previous kernels. */
export async function removePrevious(repository: string): Promise<void> {
  const directory = cachePath('kernels', 'previous')
  for (const name of await readdir(directory).catch(() => []))
    if (name.includes(`-${repositoryName(repository)}-`)) await rm(join(directory, name), { force: true })
}

/**
 * The previous kernel, with its image copied to `image`: the next build may overwrite it before this guest has ended.
 * Throws InfraError if there is none, or its image has changed.
 */
export async function takePrevious(source: Source, arch: string, image: string): Promise<PreviousKernel> {
  const record = await readJson<PreviousKernel>(recordPath(source, arch))
  const none = new InfraError(
    'There is no kernel to test without building one: run once without --skip-build.',
  )
  if (record?.format !== KERNEL_CACHE_FORMAT) throw none
  await copyFile(record.kernel.image, image).catch(() => {
    throw none
  })
  if ((await hashFile(image)) !== record.imageHash) throw none
  const { cache, ...kernel } = record.kernel
  if (cache) await holdKernel(cache.key)
  return { ...record, kernel: { ...kernel, image } }
}
