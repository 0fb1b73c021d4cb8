import { existsSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Stamp } from './build/build.js'
import { build, type Kernel } from './build/build.js'
import { findCcache } from './build/ccache.js'
import { type Parcel, placeParcel } from './build/reuse.js'
import { toolArguments } from './build/toolchain.js'
import { type Config, configure } from './config/config.js'
import type { Log } from './log.js'
import type { Making } from './obtain.js'
import { FILES } from './report/files.js'
import type { Result } from './result.js'
import { checkOut, takeWorkspace } from './source/workspace.js'

/** Where a kernel is configured and built: a workspace of this machine, or a build host. */
export interface Place {
  /** stage config; also the warnings that were given */
  configure(): Promise<{ config: Config; warnings: string[] }>
  /** stage build */
  build(config: Config): Promise<Made>
  /** lets go of the place, and of the kernel where it was made */
  release(): Promise<void>
}

export interface Made {
  kernel: Kernel
  /** its build directory, or what was fetched of it */
  out: string
  /** Kbuild steps that were taken: about how much there was to do */
  steps: number
  /** the build directory may be continued by others, with this source */
  offer?: { out: string; gitDir: string; made: Stamp }
}

/** A log that also collects the warnings. */
export function collecting(log: Log): { log: Log; warnings: string[] } {
  const warnings: string[] = []
  return {
    warnings,
    log: {
      ...log,
      warning(message) {
        warnings.push(message)
        log.warning(message)
      },
    },
  }
}

export const describeConfig = ({ values }: Config): string =>
  `${[...values.values()].filter(value => value === 'y' || value === 'm').length} options on`

export function describeMade({ kernel, steps }: Made): string {
  const { hits = 0, misses = 0 } = kernel.ccache ?? {}
  const calls = hits + misses
  return `${kernel.release}, ${steps} steps${calls > 0 ? `, ccache answered ${hits} of ${calls} calls` : ''}`
}

/** Keeps the configuration in the run directory, also when it is not what was asked for: that is when somebody reads it. */
export const keepConfig = (from: string, { runDirectory }: Result) =>
  copyFile(from, join(runDirectory, FILES.config)).catch(() => {})

/** A free workspace of this machine; `parcel` is a build directory that travelled here, to be continued. */
export async function workspacePlace(at: Making, parcel?: Parcel): Promise<Place> {
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
      const { log, warnings } = collecting(at.log)
      const work = async () => {
        // never over a build directory that this machine has itself
        const fresh = !existsSync(out)
        await checkOut(source, workspace, cancel)
        if (parcel && fresh) await placeParcel(parcel, workspace.source, name)
        try {
          return await configure(request, source, kbuild, at.question, log, cancel)
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
      const work = async () => ({ ...(await build(request, from, at.log, cancel)), out })
      const made = await at.stage('build', `Build ${source.version}`, work, describeMade)
      const stamp = { treeId: source.treeId, configHash: config.hash }
      return { ...made, offer: { out, gitDir: source.gitDir, made: stamp } }
    },
  }
}
