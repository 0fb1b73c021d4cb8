import { existsSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Config, configure } from '../config/configure.js'
import type { Kbuild } from '../config/kconfig.js'
import type { Log } from '../log.js'
import { buildTitle, configTitle, describeBuild } from '../report/stages.js'
import { FILES } from '../run-directory.js'
import { acquireWorkspace, checkOut, type Workspace } from '../source/workspace.js'
import { type BuildDirSnapshot, restoreBuildDir } from './build-dir-snapshot.js'
import { buildKernel } from './build-kernel.js'
import { type Builder, type BuildResult, collectWarnings, summarizeConfig } from './builder.js'
import { type Ccache, findCcache } from './ccache.js'
import type { KernelContext } from './kernel-context.js'
import { toolArguments } from './toolchain.js'

/** A workspace of this machine that builds one kernel. */
interface LocalBuild {
  context: KernelContext
  workspace: Workspace
  kbuild: Kbuild
  /** absolute path of the build directory */
  out: string
  ccache: Ccache | undefined
}

/** Takes a free workspace of this machine. Its build directory is continued from `snapshot` if it has none yet. */
export async function localBuilder(context: KernelContext, snapshot?: BuildDirSnapshot): Promise<Builder> {
  const { request, source } = context
  const workspace = await acquireWorkspace(source)
  try {
    const ccache = await findCcache(request, workspace.directory)
    if (request.ccache && !ccache)
      context.log.warning('ccache is not installed: every build compiles everything.')
    const build = localBuild(context, workspace, ccache)
    return {
      release: workspace.release,
      async configure() {
        const { log, warnings } = collectWarnings(context.log)
        const title = configTitle(request.configBase.kind)
        const work = () => configureLocally(build, snapshot, log)
        return { config: await context.stage('config', title, work, summarizeConfig), warnings }
      },
      build: config =>
        context.stage(
          'build',
          buildTitle(source.version),
          () => compileLocally(build, config),
          ({ kernel, steps }) => describeBuild(kernel, steps),
        ),
    }
  } catch (error) {
    await workspace.release()
    throw error
  }
}

function localBuild(context: KernelContext, workspace: Workspace, ccache: Ccache | undefined): LocalBuild {
  const { arch, localversion } = context.request
  const out = `.out-${arch}`
  const makeArgs = [`O=${out}`, `LOCALVERSION=${localversion}`, ...toolArguments(arch, ccache !== undefined)]
  return {
    context,
    workspace,
    kbuild: { source: workspace.source, out, makeArgs },
    out: join(workspace.source, out),
    ccache,
  }
}

async function configureLocally(
  { context, workspace, kbuild, out }: LocalBuild,
  snapshot: BuildDirSnapshot | undefined,
  log: Log,
): Promise<Config> {
  const { request, source, result, configKey, cancel } = context
  // a snapshot never replaces a build directory of this machine
  const restores = snapshot !== undefined && !existsSync(out)
  await checkOut(source, workspace, cancel)
  if (restores) await restoreBuildDir(snapshot, workspace.source, kbuild.out)
  try {
    return await configure(request, source, kbuild, configKey, log, cancel)
  } finally {
    // also when options were lost: that is when the user wants to read it
    await copyFile(join(out, '.config'), join(result.runDirectory, FILES.config)).catch(() => {})
  }
}

async function compileLocally(
  { context, kbuild, out, ccache }: LocalBuild,
  config: Config,
): Promise<BuildResult> {
  const { request, source, result, toolchain, log, cancel } = context
  const buildLog = join(result.runDirectory, FILES.build)
  const inputs = { source, config, kbuild, toolchain, buildLog, ...(ccache ? { ccache } : {}) }
  const compiled = await buildKernel(request, inputs, log, cancel)
  const stamp = { treeId: source.treeId, configHash: config.hash }
  return { ...compiled, out, snapshot: { out, gitDir: source.gitDir, stamp } }
}
