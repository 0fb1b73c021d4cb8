import { copyFile, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { archOf } from '../arch.js'
import { type Config, configureRemotely } from '../config/configure.js'
import { messageOf } from '../errors.js'
import { cachePath } from '../host/paths.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import { FILES } from '../run-directory.js'
import { git } from '../source/git.js'
import type { Source } from '../source/source.js'
import { type BuildHost, openBuildHost } from './build-host.js'
import type { Kernel } from './build-kernel.js'
import { type Builder, type BuildResult, collectWarnings, describeBuild, describeConfig } from './builder.js'
import { countCcache } from './ccache.js'
import { parseDiagnostic } from './diagnostics.js'
import { kernelBuildDirPaths } from './kernel-cache.js'
import type { KernelContext } from './kernel-context.js'
import { runMake } from './make.js'
import { toolArguments } from './toolchain.js'

/** Name of the build directory in ~/.kernelcraft. */
const outOf = ({ arch }: Request) => `.out-${arch}`

/** The build host, as a place to configure and build. */
export async function remoteBuilder(at: KernelContext, host: BuildHost): Promise<Builder> {
  const { request, source, result, cancel } = at
  const out = outOf(request)
  const makeArguments = [
    `O=${out}`,
    `LOCALVERSION=${request.localversion}`,
    ...toolArguments(request.arch, request.ccache && host.ccache, host.cross),
  ]
  await mkdir(cachePath('kernels'), { recursive: true })
  const draft = await mkdtemp(cachePath('kernels', 'draft-'))
  return {
    release: () => rm(draft, { recursive: true, force: true }),
    async configure() {
      const { log, warnings } = collectWarnings(at.log)
      const work = async () => {
        await host.checkOut(source.gitDir, await commitOf(source), cancel)
        const there = {
          out: join(host.home, out),
          read: (name: string) => host.read(join(out, name)),
          write: (name: string, text: string) => host.write(join(out, name), text),
          make: (target: string, env: NodeJS.ProcessEnv) =>
            host.make([...makeArguments, target], env, { deadline: 600, ...(cancel ? { cancel } : {}) }),
        }
        try {
          return await configureRemotely(request, source, there, log)
        } finally {
          const text = await host.read(join(out, '.config')).catch(() => undefined)
          if (text !== undefined) await writeFile(join(result.runDirectory, FILES.config), text)
        }
      }
      const title = `Configure on ${host.host} (${request.configBase.kind})`
      return { config: await at.stage('config', title, work, describeConfig), warnings }
    },
    build: config =>
      at.stage(
        'build',
        `Build ${source.version} on ${host.host}`,
        () => buildThere(at, host, config, { out, draft, makeArguments }),
        describeBuild,
      ),
  }
}

/** The commit to push: of uncommitted changes one that is made for it, of nobody's name, in a repository of our own. */
async function commitOf({ dirty, sha, treeId, gitDir }: Source): Promise<string> {
  if (!dirty) return sha
  const nobody = (role: string) => ({
    [`GIT_${role}_NAME`]: 'kernelcraft',
    [`GIT_${role}_EMAIL`]: 'kernelcraft',
    [`GIT_${role}_DATE`]: '1970-01-01T00:00:00Z',
  })
  const env = { ...nobody('AUTHOR'), ...nobody('COMMITTER') }
  return await git(['commit-tree', '-p', sha, '-m', 'uncommitted changes', treeId], { gitDir, env })
}

/** Builds what was configured there, and fetches what a test needs, checked by hash. */
async function buildThere(
  { request, result, log, cancel }: KernelContext,
  host: BuildHost,
  config: Config,
  { out, draft, makeArguments }: { out: string; draft: string; makeArguments: readonly string[] },
): Promise<BuildResult> {
  const { image, linux } = archOf(request.arch)
  const takesModules = !request.skipModules && config.values.get('MODULES') === 'y'
  const hasModules = takesModules && /^CONFIG_\w+=m$/m.test(config.text)
  const stats = join(out, '.ccache.log')
  const make = (targets: readonly string[]) =>
    runMake(
      {
        what: 'The kernel does not build',
        args: [...makeArguments, ...targets],
        env: {
          // the language of whoever reads the messages; ccache's hashes have it in them, and this machine's may be shared
          ...(process.env.LANG ? { LANG: process.env.LANG } : {}),
          CCACHE_BASEDIR: host.home,
          CCACHE_NOHASHDIR: '1',
          CCACHE_COMPILERCHECK: 'content',
          CCACHE_STATSLOG: join(host.home, stats),
        },
        diagnostic: line => parseDiagnostic(line, host.home),
        runRemotely: host.make,
      },
      { buildLog: join(result.runDirectory, FILES.build), log, cancel },
    )
  await host.write(stats, '')
  const steps = await make([image.target, ...(takesModules ? ['modules'] : [])])
  if (hasModules) await make(['modules_install', `INSTALL_MOD_PATH=${join(host.home, out, '.modules')}`])
  const devel = 'devel.tar'
  if (takesModules) await host.pack(out, devel, kernelBuildDirPaths(linux))
  const wanted = [
    ...[image.path, '.config'],
    ...(takesModules ? [devel] : []),
    ...(hasModules ? ['.modules'] : []),
    ...(request.buildHost?.vmlinux ? ['vmlinux'] : []),
  ]
  await host.fetch(out, wanted, draft, cancel)
  const read = async (name: string) => (await host.read(name)) ?? ''
  const kernel: Kernel = {
    arch: request.arch,
    release: (await read(join(out, 'include/config/kernel.release'))).trim(),
    configHash: config.hash,
    configBase: request.configBase.kind,
    compiler: host.toolchain.compiler,
    image: join(draft, image.path),
    vmlinux: join(draft, 'vmlinux'),
    vmlinuxHash: await host.hash(join(out, 'vmlinux')),
    ...(hasModules ? { modules: join(draft, '.modules') } : {}),
    ...(takesModules ? { kernelBuildDir: { archive: join(draft, devel) } } : {}),
    reused: false,
    builtOn: host.host,
    ...(request.ccache && host.ccache ? { ccache: countCcache(await read(stats)) } : {}),
  }
  return { kernel, out: draft, steps }
}

/**
 * The path of vmlinux: fetched from the build host into `directory` if it is not here. Undefined, after a warning, where
 * the build host has another one by now, or is out of reach: then stacks are shown without lines.
 */
export async function fetchVmlinux(
  request: Request,
  kernel: Kernel,
  directory: string,
  log: Log,
  cancel?: AbortSignal,
): Promise<string | undefined> {
  const here = await stat(kernel.vmlinux).then(
    () => true,
    () => false,
  )
  if (here) return kernel.vmlinux
  const why = (sentence: string) =>
    log.warning(`${sentence} Stacks have no lines, and the vmcore cannot be opened.`)
  if (!request.buildHost) {
    why(
      `vmlinux of this kernel is on ${kernel.builtOn ?? 'the build host'}: give build-host to have it fetched.`,
    )
    return undefined
  }
  let host: BuildHost | undefined
  const draft = await mkdtemp(join(directory, '.vmlinux-'))
  try {
    host = await openBuildHost(request.buildHost, request.arch, line => log.info(line), cancel)
    const out = outOf(request)
    if ((await host.hash(join(out, 'vmlinux'))) !== kernel.vmlinuxHash) {
      why(`${host.host} has built another kernel since.`)
      return undefined
    }
    log.info(`vmlinux is fetched from ${host.host}.`)
    await host.fetch(out, ['vmlinux'], draft, cancel)
    const path = join(directory, FILES.vmlinux)
    await copyFile(join(draft, 'vmlinux'), path)
    return path
  } catch (error) {
    if (cancel?.aborted) throw error
    why(`vmlinux could not be fetched: ${messageOf(error)}`)
    return undefined
  } finally {
    await host?.close()
    await rm(draft, { recursive: true, force: true })
  }
}
