import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { type ArchName, archOf } from '../arch.js'
import { InfraError } from '../errors.js'
import { cachePath } from '../host/paths.js'
import { describeEnd, lastLines, run } from '../host/processes.js'
import { git } from '../source/git.js'
import type { BuiltKernel } from './build-kernel.js'

/** Paths in the source that modules are built against: Kbuild, headers, and what Makefiles of an architecture refer to. */
const SOURCES = ['Makefile', 'Kbuild', 'Kconfig', 'scripts', 'include', 'tools/include', 'tools/objtool']

/** A directory that no run has used for so long is removed. */
const WEEK_MS = 7 * 86400_000

/** A kernel build directory (KDIR), and the source that its Makefile includes. */
export interface OpenedBuildDir {
  source: string
  out: string
}

/** The repository and the tree that a kernel was built from. */
export interface KernelTree {
  gitDir: string
  treeId: string
}

/**
 * The directory that external modules are built against (`make -C`, KDIR; Documentation/kbuild/modules.rst): the kernel's
 * own build directory if it is in a workspace, else one that is unpacked from the kernel cache, with the source's headers
 * from git. The latter stays for the next run with this kernel; building modules does not write to it. Throws InfraError.
 */
export async function openKernelBuildDir(
  kernel: BuiltKernel,
  tree: KernelTree,
  cancel?: AbortSignal,
): Promise<OpenedBuildDir> {
  const { kernelBuildDir } = kernel
  if (!kernelBuildDir)
    throw new InfraError(
      'This kernel was stored without the files that modules are built against: build it again.',
    )
  if ('out' in kernelBuildDir) return kernelBuildDir
  const home = cachePath('modules', `kdir-${basename(dirname(kernelBuildDir.archive))}`)
  const opened = { source: join(home, SOURCE), out: join(home, OUT) }
  if (!existsSync(home)) await create(home, kernel.arch, kernelBuildDir.archive, tree, cancel)
  const now = new Date()
  await utimes(home, now, now)
  await removeUnused()
  return opened
}

const SOURCE = 'src'
const OUT = 'out'

/** Unpacks archive and headers into a draft, which is renamed to `home` when it is complete. */
async function create(
  home: string,
  arch: ArchName,
  archive: string,
  tree: KernelTree,
  cancel?: AbortSignal,
): Promise<void> {
  await mkdir(cachePath('modules'), { recursive: true })
  const draft = await mkdtemp(cachePath('modules', 'draft-'))
  try {
    const headers = join(draft, 'src.tar')
    await archiveHeaders(headers, archOf(arch).linux, tree, cancel)
    await unpack(headers, join(draft, SOURCE), cancel)
    await rm(headers)
    await unpack(archive, join(draft, OUT), cancel)
    // the Makefile in the archive includes that of the workspace in which the kernel was built
    await writeFile(join(draft, OUT, 'Makefile'), `include ${join(home, SOURCE, 'Makefile')}\n`)
    // another process may have created the same directory meanwhile
    await rename(draft, home).catch(error => {
      if (!existsSync(home)) throw error
    })
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
}

async function removeUnused(): Promise<void> {
  for (const name of await readdir(cachePath('modules'))) {
    const path = cachePath('modules', name)
    const info = await stat(path).catch(() => undefined)
    if (info && Date.now() - info.mtimeMs > WEEK_MS) await rm(path, { recursive: true, force: true })
  }
}

/** Writes a tar file of the source's headers and of Kbuild. */
async function archiveHeaders(
  file: string,
  linux: string,
  { gitDir, treeId }: KernelTree,
  cancel?: AbortSignal,
): Promise<void> {
  const tools = await git(['ls-tree', '--name-only', treeId, 'tools/'], { gitDir })
  // not every kernel has all of them, and git archive fails for a path that does not exist
  const paths = SOURCES.filter(path => !path.startsWith('tools/') || tools.split('\n').includes(path))
  await git(
    [
      ...['archive', '--format=tar', `--output=${file}`, treeId, '--'],
      ...paths,
      `arch/${linux}`,
      // device trees are the larger part of some architectures
      ':(exclude)arch/*/boot/dts',
    ],
    { gitDir, cancel },
  )
}

async function unpack(archive: string, directory: string, cancel?: AbortSignal): Promise<void> {
  await mkdir(directory)
  const end = await run({ file: 'tar', args: ['-C', directory, '-xf', archive], deadline: 600, cancel })
  if (end.status !== 0) throw new InfraError(`${describeEnd('tar', end)}.`, lastLines(end.stderr, 3))
}
