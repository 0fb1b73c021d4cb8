import { copyFile, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { archOf } from '../arch.js'
import { type Config, configureRemotely } from '../config/configure.js'
import { messageOf } from '../errors.js'
import { cachePath } from '../host/paths.js'
import type { Log } from '../log.js'
import { buildTitle, configTitle, describeBuild } from '../report/stages.js'
import type { Request } from '../request/request.js'
import { FILES } from '../run-directory.js'
import { git } from '../source/git.js'
import type { Source } from '../source/source.js'
import { type BuildHost, openBuildHost } from './build-host.js'
import {
  type BuiltKernel,
  INSTALLED_MODULES,
  KERNEL_FAILS,
  KERNEL_RELEASE,
  type Kernel,
  type PartsToBuild,
  partsToBuild,
} from './build-kernel.js'
import { type Builder, type BuildResult, collectWarnings, summarizeConfig } from './builder.js'
import { countCcache } from './ccache.js'
import { parseDiagnostic } from './diagnostics.js'
import { kernelBuildDirPaths } from './kernel-cache.js'
import type { KernelContext } from './kernel-context.js'
import { runMake } from './make.js'
import { toolArguments } from './toolchain.js'

/** A kernel that is built on a build host. */
interface RemoteBuild {
  context: KernelContext
  host: BuildHost
  /** name of the build directory in ~/.kernelcraft */
  out: string
  makeArgs: readonly string[]
  /** a directory of this machine for what is fetched */
  fetched: string
}

const outOf = ({ arch }: Pick<Request, 'arch'>) => `.out-${arch}`

/** Name of the archive of what external modules are built against, in the build directory and where it is fetched to. */
const KERNEL_BUILD_DIR = 'kdir.tar'

/** Builds on the build host, whose ~/.kernelcraft this run holds. */
export async function remoteBuilder(context: KernelContext, host: BuildHost): Promise<Builder> {
  const { request, source } = context
  await mkdir(cachePath('kernels'), { recursive: true })
  const out = outOf(request)
  const build: RemoteBuild = {
    context,
    host,
    out,
    makeArgs: [
      `O=${out}`,
      `LOCALVERSION=${request.localversion}`,
      ...toolArguments(request.arch, request.ccache && host.ccache, host.cross),
    ],
    fetched: await mkdtemp(cachePath('kernels', 'draft-')),
  }
  return {
    release: () => rm(build.fetched, { recursive: true, force: true }),
    async configure() {
      const { log, warnings } = collectWarnings(context.log)
      const title = configTitle(request.configBase.kind, host.host)
      const work = () => configureOnHost(build, log)
      return { config: await context.stage('config', title, work, summarizeConfig), warnings }
    },
    build: config =>
      context.stage(
        'build',
        buildTitle(source.version, host.host),
        () => buildOnHost(build, config),
        ({ kernel, steps }) => describeBuild(kernel, steps),
      ),
  }
}

async function configureOnHost({ context, host, out, makeArgs }: RemoteBuild, log: Log): Promise<Config> {
  const { request, source, result, cancel } = context
  await host.checkOut(source.gitDir, await commitToPush(source), cancel)
  const remote = {
    out: join(host.home, out),
    read: (name: string) => host.read(join(out, name)),
    write: (name: string, text: string) => host.write(join(out, name), text),
    make: (target: string, env: NodeJS.ProcessEnv) =>
      host.make([...makeArgs, target], env, { deadline: 600, ...(cancel ? { cancel } : {}) }),
  }
  try {
    return await configureRemotely(request, source, remote, log)
  } finally {
    // also when options were lost: that is when the user wants to read it
    const text = await host.read(join(out, '.config')).catch(() => undefined)
    if (text !== undefined) await writeFile(join(result.runDirectory, FILES.config), text)
  }
}

/** The commit to push. For uncommitted changes one is created, without the user's name, in KernelCraft's own repository. */
async function commitToPush({ dirty, sha, treeId, gitDir }: Source): Promise<string> {
  if (!dirty) return sha
  const identity = (role: string) => ({
    [`GIT_${role}_NAME`]: 'kernelcraft',
    [`GIT_${role}_EMAIL`]: 'kernelcraft',
    [`GIT_${role}_DATE`]: '1970-01-01T00:00:00Z',
  })
  const env = { ...identity('AUTHOR'), ...identity('COMMITTER') }
  return await git(['commit-tree', '-p', sha, '-m', 'uncommitted changes', treeId], { gitDir, env })
}

/** Builds what was configured on the build host, and fetches what a test needs, each file checked by hash. */
async function buildOnHost(build: RemoteBuild, config: Config): Promise<BuildResult> {
  const { context, host, out, fetched } = build
  const parts = partsToBuild(context.request, config)
  const steps = await compileOnHost(build, parts)
  await host.fetch(out, pathsToFetch(context.request, parts), fetched, context.cancel)
  return { kernel: await fetchedKernel(build, parts, config), out: fetched, steps }
}

/** ccache's stats log (`countCcache`), relative to ~/.kernelcraft. */
const statsLog = ({ out }: RemoteBuild) => join(out, '.ccache.log')

/** Compiles and installs; returns how many Kbuild steps it took. */
async function compileOnHost(build: RemoteBuild, parts: PartsToBuild): Promise<number> {
  const { context, host, out } = build
  const { linux } = archOf(context.request.arch)
  await host.write(statsLog(build), '')
  const steps = await makeOnHost(build, parts.targets)
  if (parts.hasModules)
    await makeOnHost(build, [
      'modules_install',
      `INSTALL_MOD_PATH=${join(host.home, out, INSTALLED_MODULES)}`,
    ])
  if (parts.supportsModules) await host.pack(out, KERNEL_BUILD_DIR, kernelBuildDirPaths(linux))
  return steps
}

async function makeOnHost(build: RemoteBuild, targets: readonly string[]): Promise<number> {
  const { context, host, makeArgs } = build
  return await runMake(
    {
      what: KERNEL_FAILS,
      args: [...makeArgs, ...targets],
      env: {
        CCACHE_BASEDIR: host.home,
        CCACHE_NOHASHDIR: '1',
        CCACHE_COMPILERCHECK: 'content',
        CCACHE_STATSLOG: join(host.home, statsLog(build)),
      },
      diagnostic: line => parseDiagnostic(line, host.home),
      runRemotely: (args, env, call) => host.make(args, env, call),
    },
    {
      buildLog: join(context.result.runDirectory, FILES.build),
      log: context.log,
      cancel: context.cancel,
    },
  )
}

/** Paths in the build directory. */
function pathsToFetch({ arch, buildHost }: Request, parts: PartsToBuild): string[] {
  return [
    ...[archOf(arch).image.path, '.config'],
    ...(parts.supportsModules ? [KERNEL_BUILD_DIR] : []),
    ...(parts.hasModules ? [INSTALLED_MODULES] : []),
    ...(buildHost?.vmlinux ? ['vmlinux'] : []),
  ]
}

async function fetchedKernel(build: RemoteBuild, parts: PartsToBuild, config: Config): Promise<BuiltKernel> {
  const { host, out, fetched } = build
  const { request } = build.context
  const read = async (path: string) => (await host.read(path)) ?? ''
  return {
    arch: request.arch,
    release: (await read(join(out, KERNEL_RELEASE))).trim(),
    configHash: config.hash,
    compiler: host.toolchain.compiler,
    image: join(fetched, archOf(request.arch).image.path),
    vmlinux: join(fetched, 'vmlinux'),
    vmlinuxHash: await host.hash(join(out, 'vmlinux')),
    ...(parts.hasModules ? { modules: join(fetched, INSTALLED_MODULES) } : {}),
    ...(parts.supportsModules ? { kernelBuildDir: { archive: join(fetched, KERNEL_BUILD_DIR) } } : {}),
    reused: false,
    builtOn: host.host,
    ...(request.ccache && host.ccache ? { ccache: countCcache(await read(statsLog(build))) } : {}),
  }
}

/**
 * The path of vmlinux, which is fetched from the build host into `directory` if it is not on this machine. Undefined,
 * after a warning, where the build host has built another kernel since or cannot be reached.
 */
export async function fetchVmlinux(
  request: Request,
  kernel: Kernel,
  directory: string,
  log: Log,
  cancel?: AbortSignal,
): Promise<string | undefined> {
  if (await stat(kernel.vmlinux).catch(() => undefined)) return kernel.vmlinux
  const unavailable = (reason: string): undefined => {
    log.warning(`${reason} Stacks have no lines, and the vmcore cannot be opened.`)
  }
  if (!request.buildHost)
    return unavailable(
      `vmlinux of this kernel is on ${kernel.builtOn ?? 'the build host'}: give build-host to have it fetched.`,
    )
  let host: BuildHost | undefined
  const draft = await mkdtemp(join(directory, '.vmlinux-'))
  try {
    host = await openBuildHost(request.buildHost, request.arch, log.info, cancel)
    const out = outOf(request)
    if ((await host.hash(join(out, 'vmlinux'))) !== kernel.vmlinuxHash)
      return unavailable(`${host.host} has built another kernel since.`)
    log.info(`vmlinux is fetched from ${host.host}.`)
    await host.fetch(out, ['vmlinux'], draft, cancel)
    const path = join(directory, FILES.vmlinux)
    await copyFile(join(draft, 'vmlinux'), path)
    return path
  } catch (error) {
    if (cancel?.aborted) throw error
    return unavailable(`vmlinux could not be fetched: ${messageOf(error)}`)
  } finally {
    await host?.close()
    await rm(draft, { recursive: true, force: true })
  }
}
