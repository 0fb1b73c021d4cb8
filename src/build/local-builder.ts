import { existsSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { configure } from '../config/configure.js'
import type { Result } from '../result.js'
import { FILES } from '../run-directory.js'
import { checkOut, takeWorkspace } from '../source/workspace.js'
import { type BuildDirSnapshot, restoreBuildDir } from './build-dir-snapshot.js'
import { buildKernel } from './build-kernel.js'
import { type Builder, collectWarnings, describeBuild, describeConfig } from './builder.js'
import { findCcache } from './ccache.js'
import type { KernelContext } from './kernel-context.js'
import { toolArguments } from './toolchain.js'

/** Keeps the configuration in the run directory, also when it is not what was asked for: that is when somebody reads it. */
export const keepConfig = (from: string, { runDirectory }: Result) =>
  copyFile(from, join(runDirectory, FILES.config)).catch(() => {})

/** A free workspace of this machine; `parcel` is a build directory that travelled here, to be continued. */
export async function localBuilder(at: KernelContext, parcel?: BuildDirSnapshot): Promise<Builder> {
  const { request, source, result, cancel } = at
  const workspace = await takeWorkspace(source)
  const ccache = await findCcache(request, workspace.directory)
  if (request.ccache && !ccache) at.log.warning('ccache is not installed: every build compiles everything.')
  const name = `.out-${request.arch}`
  const out = join(workspace.source, name)
  const kbuild = {
    source: workspace.source,
    out: name,
    makeArgs: [
      `O=${name}`,
      `LOCALVERSION=${request.localversion}`,
      ...toolArguments(request.arch, ccache !== undefined),
    ],
  }
  return {
    release: workspace.release,
    async configure() {
      const { log, warnings } = collectWarnings(at.log)
      const work = async () => {
        // never over a build directory that this machine has itself
        const fresh = !existsSync(out)
        await checkOut(source, workspace, cancel)
        if (parcel && fresh) await restoreBuildDir(parcel, workspace.source, name)
        try {
          return await configure(request, source, kbuild, at.configKey, log, cancel)
        } finally {
          await keepConfig(join(out, '.config'), result)
        }
      }
      const title = `Configure (${request.configBase.kind})`
      return { config: await at.stage('config', title, work, describeConfig), warnings }
    },
    async build(config) {
      const buildLog = join(result.runDirectory, FILES.build)
      const from = {
        source,
        config,
        kbuild,
        toolchain: at.toolchain,
        buildLog,
        ...(ccache ? { ccache } : {}),
      }
      const work = async () => ({ ...(await buildKernel(request, from, at.log, cancel)), out })
      const made = await at.stage('build', `Build ${source.version}`, work, describeBuild)
      const stamp = { treeId: source.treeId, configHash: config.hash }
      return { ...made, offer: { out, gitDir: source.gitDir, made: stamp } }
    },
  }
}
