import { existsSync } from 'node:fs'
import { copyFile, cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { BuildError, InfraError } from '../errors.js'
import type { Cleanup } from '../host/cleanup.js'
import { cachePath } from '../host/paths.js'
import { describeEnd, lastLines, run } from '../host/processes.js'
import type { Log } from '../log.js'
import { type Dkms, expand } from '../request/dkms.js'
import { builtFiles, displayPath, type ModuleSource, moduleName } from '../request/module-source.js'
import type { Request } from '../request/request.js'
import type { Diagnostic } from '../result.js'
import { FILES } from '../run-directory.js'
import { git, tryGit } from '../source/git.js'
import type { BuiltKernel } from './build-kernel.js'
import { type Ccache, findCcache } from './ccache.js'
import { parseDiagnostic } from './diagnostics.js'
import { type KernelTree, type OpenedBuildDir, openKernelBuildDir } from './kernel-build-dir.js'
import { runMake } from './make.js'
import { toolArguments } from './toolchain.js'

/** An external module that was built. */
export interface ExternalModule {
  /** its name in the kernel: with underscores */
  name: string
  /** the directory of its source, as the request names it */
  requested: string
  /** the same, absolute */
  directory: string
}

/** A repository with more files than this is not copied for one directory of it. */
const MANY_FILES = 5000

export interface ExternalModules {
  modules: readonly ExternalModule[]
  /** directory with lib/modules/RELEASE, which holds the kernel's own modules as well */
  tree: string
}

/** What external modules are built against, and where. */
export interface ModulesContext {
  kernel: BuiltKernel
  /** the repository and the tree that the kernel was built from */
  source: KernelTree
  runDirectory: string
  /** paths in messages are relative to it */
  cwd: string
  /** removes the modules when they are not needed any more */
  cleanup: Cleanup
}

/**
 * Builds external modules against the kernel, each in a copy of its source, so that nothing is written to the source; a
 * later one may use the symbols of an earlier one. Throws BuildError with the compiler's diagnostics, their files
 * relative to `cwd`.
 */
export async function buildExternalModules(
  request: Request,
  context: ModulesContext,
  log: Log,
  cancel?: AbortSignal,
): Promise<ExternalModules> {
  const { kernel, source, runDirectory, cleanup } = context
  await mkdir(cachePath('modules'), { recursive: true })
  const scratch = await mkdtemp(cachePath('modules', 'run-'))
  cleanup.defer(() => rm(scratch, { recursive: true, force: true }))
  const common = {
    ...{ ...context, scratch },
    kernelBuildDir: await openKernelBuildDir(kernel, source, cancel),
    ccache: await findCcache(request, scratch),
  }
  const files: (Omit<ExternalModule, 'name'> & { file: string })[] = []
  const symbols: string[] = []
  for (const [index, module] of request.modules.entries()) {
    const { requested, directory } = module
    const copy = await copySource(module, join(scratch, 'module', String(index)), cancel)
    if (module.dkms) await linkPackage(join(scratch, 'dkms'), module.dkms, copy.directory)
    const built = await buildModule(module, { ...common, copy, symbols }, log, cancel)
    files.push(...built.map(file => ({ file, requested, directory })))
    symbols.push(join(copy.directory, 'Module.symvers'))
  }
  const tree = join(scratch, 'tree')
  const paths = files.map(({ file }) => file)
  await installModules(tree, kernel, paths, runDirectory)
  return { modules: files.map(({ file, ...of }) => ({ name: moduleName(file), ...of })), tree }
}

/** A copy of a module's source. */
interface SourceCopy {
  /** the copy of the module's directory */
  directory: string
  /** the copy of the repository around it, which the module may refer to; else the same as `directory` */
  top: string
  /** what `top` is a copy of */
  original: string
}

/** Copies a module's source: the repository that contains it, unless that is large, else the directory alone. */
async function copySource(module: ModuleSource, to: string, cancel?: AbortSignal): Promise<SourceCopy> {
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
    // git lists files that were removed from the work tree only; a submodule is a directory
    await cp(join(original, path), target, { recursive: true, verbatimSymlinks: true }).catch(error => {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    })
  }
  return { directory: join(to, relative(original, directory)), top: to, original }
}

/** DKMS builds a package in `$dkms_tree/$module/$module_version/build`: a link from there to the copy. */
async function linkPackage(dkmsTree: string, dkms: Dkms, directory: string): Promise<void> {
  const home = join(dkmsTree, dkms.package, dkms.version)
  await mkdir(home, { recursive: true })
  await rm(join(home, 'build'), { force: true })
  await symlink(directory, join(home, 'build'))
}

/** What one module is built with. */
interface ModuleBuild extends ModulesContext {
  scratch: string
  ccache: Ccache | undefined
  kernelBuildDir: OpenedBuildDir
  copy: SourceCopy
  /** Module.symvers of the modules that were built before */
  symbols: readonly string[]
}

/** Builds the modules of one source; returns the paths of their files, at least one. */
async function buildModule(
  module: ModuleSource,
  build: ModuleBuild,
  log: Log,
  cancel?: AbortSignal,
): Promise<string[]> {
  const { copy, runDirectory } = build
  await runMake(
    {
      what: `The module ${module.requested} does not build`,
      args: makeArguments(module, build),
      cwd: copy.directory,
      env: build.ccache?.env ?? {},
      diagnostic: line => parseModuleDiagnostic(line, build),
    },
    { buildLog: join(runDirectory, FILES.build), log, cancel },
  )
  const files = module.dkms ? dkmsFiles(module.dkms, build) : builtFiles(copy.directory)
  if (files.length === 0)
    throw new BuildError(`${module.requested} was built, but left no module: its Makefile has no obj-m.`)
  const missing = files.find(path => !existsSync(path))
  if (missing !== undefined)
    throw new BuildError(`${module.requested}: dkms.conf names ${basename(missing)}, which was not built.`)
  return files
}

function makeArguments({ dkms }: ModuleSource, build: ModuleBuild): string[] {
  const { kernel, kernelBuildDir, copy, symbols, ccache } = build
  const ownArgs = [
    ...toolArguments(kernel.arch, ccache !== undefined),
    ...prefixMap(build),
    ...(symbols.length > 0 ? [`KBUILD_EXTRA_SYMBOLS=${symbols.join(' ')}`] : []),
  ]
  if (!dkms?.make) return ['-C', kernelBuildDir.out, `M=${copy.directory}`, ...ownArgs, 'modules']
  const args = dkms.make.slice(1).map(arg => expand(arg, dkmsVariables(dkms, build)))
  return [`KERNELRELEASE=${kernel.release}`, ...args, ...ownArgs]
}

/**
 * An argument with which __FILE__ and debug information name the source, not its copy, which ccache turns into a relative
 * path. None for a path with a space or the like, which make could not pass on.
 */
function prefixMap({ copy: { top, original }, kernelBuildDir }: ModuleBuild): string[] {
  if (!/^[\w.+/-]+$/.test(original)) return []
  const maps = [top, relative(kernelBuildDir.out, top)].map(path => `-ffile-prefix-map=${path}=${original}`)
  return [`KCFLAGS=${maps.join(' ')}`]
}

/** Paths of the modules that a dkms.conf says are built. */
function dkmsFiles(dkms: Dkms, build: ModuleBuild): string[] {
  const variables = dkmsVariables(dkms, build)
  return dkms.built.map(({ name, location }) =>
    join(build.copy.directory, expand(location, variables), `${name}.ko`),
  )
}

/** A diagnostic about a file of the module, or of the kernel, which the module includes. */
function parseModuleDiagnostic(
  line: string,
  { copy, kernelBuildDir, cwd }: ModuleBuild,
): Diagnostic | undefined {
  const found = parseDiagnostic(line, '')
  if (!found) return undefined
  const printed = line.slice(0, line.indexOf(':'))
  // relative to where the compiler ran: the kernel's build directory, or since 6.13 the module's
  const path = [kernelBuildDir.out, copy.directory]
    .map(directory => resolve(directory, printed))
    .find(candidate => candidate.startsWith(`${copy.top}/`) && existsSync(candidate))
  if (path === undefined) return parseDiagnostic(line, kernelBuildDir.source)
  const file = displayPath(join(copy.original, relative(copy.top, path)), cwd)
  return { ...found, file, external: true }
}

/** Variables that a dkms.conf may use (dkms(8)). */
function dkmsVariables(dkms: Dkms, { kernel, kernelBuildDir, scratch }: ModuleBuild): Record<string, string> {
  return {
    kernelver: kernel.release,
    kernel_source_dir: kernelBuildDir.out,
    arch: kernel.arch,
    module: dkms.package,
    module_version: dkms.version,
    PACKAGE_NAME: dkms.package,
    PACKAGE_VERSION: dkms.version,
    dkms_tree: join(scratch, 'dkms'),
  }
}

/**
 * Installs the kernel's own modules and these into one tree, so that modprobe finds what they depend on; these are also
 * copied to the run directory. Throws InfraError if depmod fails.
 */
async function installModules(
  tree: string,
  kernel: BuiltKernel,
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
  for (const directory of [join(home, 'extra'), join(runDirectory, 'modules')]) {
    await mkdir(directory, { recursive: true })
    for (const file of files) await copyFile(file, join(directory, basename(file)))
  }
  const end = await run({ file: 'depmod', args: ['-b', tree, kernel.release], deadline: 120 })
  if (end.status !== 0) throw new InfraError(`${describeEnd('depmod', end)}.`, lastLines(end.stderr, 3))
}
