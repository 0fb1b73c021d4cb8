import { existsSync } from 'node:fs'
import { copyFile, cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { BuildError, InfraError } from '../errors.js'
import { cachePath } from '../host/paths.js'
import { describeEnd, lastLines, run } from '../host/processes.js'
import type { Log } from '../log.js'
import { type Dkms, expand } from '../request/dkms.js'
import { builtFiles, displayPath, type ModuleSource, moduleName } from '../request/module-source.js'
import type { Request } from '../request/request.js'
import type { Diagnostic } from '../result.js'
import { FILES } from '../run-directory.js'
import { git, tryGit } from '../source/git.js'
import type { Kernel } from './build-kernel.js'
import { type Ccache, findCcache } from './ccache.js'
import { parseDiagnostic } from './diagnostics.js'
import { openKernelBuildDir } from './kernel-build-dir.js'
import { runMake } from './make.js'
import { toolArguments } from './toolchain.js'

/** An external module that was built. */
export interface ExternalModule {
  /** as the kernel calls it */
  name: string
  /** directory of its source, as it was asked for, and absolute */
  requested: string
  directory: string
}

export interface ExternalModules {
  modules: readonly ExternalModule[]
  /** directory with lib/modules/RELEASE, which holds the kernel's own modules as well */
  tree: string
  /** removes what was needed to build and to load them */
  release(): Promise<void>
}

export interface ExternalFrom {
  kernel: Kernel
  /** the repository, and the tree that the kernel was made from */
  source: { gitDir: string; treeId: string }
  runDirectory: string
  /** paths are shown relative to it */
  cwd: string
}

/** a repository with more files than this is not copied for a directory of it */
const MANY_FILES = 5000

/**
 * Builds external modules against the kernel, each in a copy of its source, so that nothing is written beside it; a
 * later one may use the symbols of an earlier one. Throws BuildError with the compiler's complaints, their files
 * relative to `cwd`.
 */
export async function buildExternalModules(
  request: Request,
  from: ExternalFrom,
  log: Log,
  cancel?: AbortSignal,
): Promise<ExternalModules> {
  const { kernel, source } = from
  await mkdir(cachePath('modules'), { recursive: true })
  const scratch = await mkdtemp(cachePath('modules', 'run-'))
  const release = () => rm(scratch, { recursive: true, force: true })
  try {
    const devel = await openKernelBuildDir(kernel, source, cancel)
    const ccache = await findCcache(request, scratch)
    const files: { file: string; requested: string; directory: string }[] = []
    const symbols: string[] = []
    for (const [index, module] of request.modules.entries()) {
      const place = await copySource(module, join(scratch, 'module', String(index)), cancel)
      if (module.dkms) await linkPackage(join(scratch, 'dkms'), module.dkms, place.directory)
      const found = await buildOne(module, { ...from, devel, place, symbols, scratch, ccache }, log, cancel)
      if (found.length === 0)
        throw new BuildError(`${module.requested} was built, but left no module: its Makefile has no obj-m.`)
      files.push(...found.map(file => ({ file, requested: module.requested, directory: module.directory })))
      symbols.push(join(place.directory, 'Module.symvers'))
    }
    const tree = join(scratch, 'tree')
    await plant(
      tree,
      kernel,
      files.map(({ file }) => file),
      from.runDirectory,
    )
    return { modules: files.map(({ file, ...of }) => ({ name: moduleName(file), ...of })), tree, release }
  } catch (error) {
    await release()
    throw error
  }
}

interface Place {
  /** the copy of the module's directory */
  directory: string
  /** the copy of what it lies in, which the directory may refer to */
  top: string
  /** what `top` is a copy of */
  original: string
}

/** Copies a module's source: the repository that it lies in, unless that is large, else the directory alone. */
async function copySource(module: ModuleSource, to: string, cancel?: AbortSignal): Promise<Place> {
  const { directory } = module
  const found = await tryGit(['-C', directory, 'rev-parse', '--show-toplevel'], { cancel })
  const original = found.status === 0 ? found.stdout.replace(/\n$/, '') : directory
  const list = ['ls-files', '-z', '--cached', '--others', '--exclude-standard']
  const names = found.status === 0 ? await git(['-C', original, ...list], { whole: true, cancel }) : ''
  const listed = names.split('\0').filter(Boolean)
  if (listed.length === 0 || listed.length > MANY_FILES) {
    await cp(directory, to, { recursive: true, filter: path => basename(path) !== '.git' })
    return { directory: to, top: to, original: directory }
  }
  for (const path of new Set(listed)) {
    const target = join(to, path)
    await mkdir(dirname(target), { recursive: true })
    // what was removed without git's knowledge is in its list still; a submodule is a directory
    await cp(join(original, path), target, { recursive: true, verbatimSymlinks: true }).catch(error => {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    })
  }
  return { directory: join(to, relative(original, directory)), top: to, original }
}

/** `$dkms_tree/$module/$module_version/build` is where DKMS builds a package. */
async function linkPackage(tree: string, dkms: Dkms, directory: string): Promise<void> {
  const home = join(tree, dkms.package, dkms.version)
  await mkdir(home, { recursive: true })
  await rm(join(home, 'build'), { force: true })
  await symlink(directory, join(home, 'build'))
}

interface OneBuild extends ExternalFrom {
  scratch: string
  ccache: Ccache | undefined
  devel: { source: string; out: string }
  place: Place
  /** Module.symvers of those that were built before */
  symbols: readonly string[]
}

async function buildOne(
  module: ModuleSource,
  at: OneBuild,
  log: Log,
  cancel?: AbortSignal,
): Promise<string[]> {
  const { devel, place, kernel } = at
  const { dkms } = module
  // __FILE__ and debug information name the source, not its copy, which ccache makes a relative path of; make takes no
  // path with a space
  const copies = [place.top, relative(devel.out, place.top)]
  const maps = copies.map(copy => `-ffile-prefix-map=${copy}=${place.original}`).join(' ')
  const mapped = /^[\w.+/-]+$/.test(place.original) ? [`KCFLAGS=${maps}`] : []
  const ours = [
    ...toolArguments(kernel.arch, at.ccache !== undefined),
    ...mapped,
    ...(at.symbols.length > 0 ? [`KBUILD_EXTRA_SYMBOLS=${at.symbols.join(' ')}`] : []),
  ]
  const kbuild = ['-C', devel.out, `M=${place.directory}`]
  const args = dkms?.make
    ? [
        `KERNELRELEASE=${kernel.release}`,
        ...dkms.make.slice(1).map(word => expand(word, dkmsVariables(dkms, at))),
        ...ours,
      ]
    : [...kbuild, ...ours, 'modules']
  await runMake(
    {
      what: `The module ${module.requested} does not build`,
      args,
      cwd: place.directory,
      env: at.ccache?.env ?? {},
      diagnostic: line => complaint(line, at),
    },
    { buildLog: join(at.runDirectory, FILES.build), log, cancel },
  )
  if (!dkms) return builtFiles(place.directory)
  const wanted = dkms.built.map(({ name, location }) =>
    join(place.directory, expand(location, dkmsVariables(dkms, at)), `${name}.ko`),
  )
  const lost = wanted.find(path => !existsSync(path))
  if (lost !== undefined)
    throw new BuildError(`${module.requested}: dkms.conf promises ${basename(lost)}, which was not built.`)
  return wanted
}

/** A complaint about a file of the module's, or of the kernel's that it includes. */
function complaint(line: string, { place, devel, cwd }: OneBuild): Diagnostic | undefined {
  const told = parseDiagnostic(line, '')
  const said = told && line.slice(0, line.indexOf(':'))
  if (!told || said === undefined) return undefined
  // relative to where the compiler ran: the kernel's build directory, or since 6.13 the module's
  const path = [devel.out, place.directory]
    .map(directory => resolve(directory, said))
    .find(candidate => candidate.startsWith(`${place.top}/`) && existsSync(candidate))
  if (path === undefined) return parseDiagnostic(line, devel.source)
  return { ...told, file: displayPath(join(place.original, relative(place.top, path)), cwd), external: true }
}

/** Variables that a dkms.conf may use (dkms(8)). */
function dkmsVariables(dkms: Dkms, at: OneBuild): Record<string, string> {
  return {
    kernelver: at.kernel.release,
    kernel_source_dir: at.devel.out,
    arch: at.kernel.arch,
    module: dkms.package,
    module_version: dkms.version,
    PACKAGE_NAME: dkms.package,
    PACKAGE_VERSION: dkms.version,
    dkms_tree: join(at.scratch, 'dkms'),
  }
}

/** Makes a tree of modules: the kernel's own, and these beside them, so that modprobe finds what they depend on. */
async function plant(
  tree: string,
  kernel: Kernel,
  files: readonly string[],
  runDirectory: string,
): Promise<void> {
  const home = join(tree, 'lib', 'modules', kernel.release)
  await mkdir(home, { recursive: true })
  if (kernel.modules) {
    const own = join(kernel.modules, 'lib', 'modules', kernel.release)
    await cp(own, home, {
      recursive: true,
      filter: path => !['build', 'source'].includes(relative(own, path)),
    })
  }
  const kept = join(runDirectory, 'modules')
  for (const directory of [join(home, 'extra'), kept]) {
    await mkdir(directory, { recursive: true })
    for (const file of files) await copyFile(file, join(directory, basename(file)))
  }
  const end = await run({ file: 'depmod', args: ['-b', tree, kernel.release], deadline: 120 })
  if (end.status !== 0) throw new InfraError(`${describeEnd('depmod', end)}.`, lastLines(end.stderr, 3))
}
