import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { archOf } from '../arch.js'
import { InfraError } from '../errors.js'
import { cachePath } from '../host/paths.js'
import { describeEnd, lastLines, run } from '../host/processes.js'
import { git } from '../source/git.js'
import type { Kernel } from './build-kernel.js'

/** What of the source a module is built against: Kbuild itself, headers, and what Makefiles of an architecture name. */
const SOURCES = ['Makefile', 'Kbuild', 'Kconfig', 'scripts', 'include', 'tools/include', 'tools/objtool']

/** a layout that no run used for so long is removed */
const WEEK_MS = 7 * 86400_000

/**
 * A directory that external modules can be built against (`make -C`, KDIR; Documentation/kbuild/modules.rst): the build
 * directory itself where it is at hand, else one that is laid out from what the kernel cache keeps and the source's
 * headers, which git has. It stays for the next run with this kernel; whoever builds in it writes nothing there.
 */
export async function openKernelBuildDir(
  kernel: Kernel,
  source: { gitDir: string; treeId: string },
  cancel?: AbortSignal,
): Promise<{ source: string; out: string }> {
  const { kernelBuildDir } = kernel
  if (!kernelBuildDir)
    throw new InfraError('This kernel was kept without what modules are built against: build it once more.')
  if ('out' in kernelBuildDir) return kernelBuildDir
  const home = cachePath('modules', `devel-${basename(dirname(kernelBuildDir.archive))}`)
  const places = { source: join(home, 'src'), out: join(home, 'out') }
  if (!existsSync(home)) {
    await mkdir(cachePath('modules'), { recursive: true })
    const draft = await mkdtemp(cachePath('modules', 'draft-'))
    try {
      await unpack(kernelBuildDir.archive, archOf(kernel.arch).linux, source, draft, cancel)
      // the build directory's own Makefile leads to a source that may be elsewhere by now
      await writeFile(join(draft, 'out', 'Makefile'), `include ${join(places.source, 'Makefile')}\n`)
      // somebody else's that came first is the same
      await rename(draft, home).catch(error => {
        if (!existsSync(home)) throw error
      })
    } finally {
      await rm(draft, { recursive: true, force: true })
    }
  }
  const now = new Date()
  await utimes(home, now, now)
  await removeUnused()
  return places
}

async function removeUnused(): Promise<void> {
  for (const name of await readdir(cachePath('modules'))) {
    const path = cachePath('modules', name)
    const info = await stat(path).catch(() => undefined)
    if (info && Date.now() - info.mtimeMs > WEEK_MS) await rm(path, { recursive: true, force: true })
  }
}

async function unpack(
  archive: string,
  linux: string,
  { gitDir, treeId }: { gitDir: string; treeId: string },
  home: string,
  cancel?: AbortSignal,
): Promise<void> {
  const [source, out] = [join(home, 'src'), join(home, 'out')]
  await mkdir(source)
  await mkdir(out)
  const tar = join(home, 'src.tar')
  const tools = await git(['ls-tree', '--name-only', treeId, 'tools/'], { gitDir })
  const wanted = SOURCES.filter(path => !path.startsWith('tools/') || tools.split('\n').includes(path))
  await git(
    [
      ...['archive', '--format=tar', `--output=${tar}`, treeId, '--'],
      ...wanted,
      `arch/${linux}`,
      // device trees are the larger part of some architectures
      ':(exclude)arch/*/boot/dts',
    ],
    { gitDir, cancel },
  )
  for (const [file, directory] of [
    [tar, source],
    [archive, out],
  ] as const) {
    const end = await run({ file: 'tar', args: ['-C', directory, '-xf', file], deadline: 600, cancel })
    if (end.status !== 0) throw new InfraError(`${describeEnd('tar', end)}.`, lastLines(end.stderr, 3))
  }
  await rm(tar)
}
