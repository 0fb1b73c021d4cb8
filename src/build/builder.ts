import type { Config } from '../config/configure.js'
import type { Log } from '../log.js'
import type { Kernel, Stamp } from './build-kernel.js'

/** Where a kernel is configured and built: a workspace of this machine, or a build host. */
export interface Builder {
  /** stage config; also the warnings that were given */
  configure(): Promise<{ config: Config; warnings: string[] }>
  /** stage build */
  build(config: Config): Promise<BuildResult>
  /** lets go of the place, and of the kernel where it was made */
  release(): Promise<void>
}

export interface BuildResult {
  kernel: Kernel
  /** its build directory, or what was fetched of it */
  out: string
  /** Kbuild steps that were taken: about how much there was to do */
  steps: number
  /** the build directory may be continued by others, with this source */
  offer?: { out: string; gitDir: string; made: Stamp }
}

/** A log that also collects the warnings. */
export function collectWarnings(log: Log): { log: Log; warnings: string[] } {
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

export function describeBuild({ kernel, steps }: BuildResult): string {
  const { hits = 0, misses = 0 } = kernel.ccache ?? {}
  const calls = hits + misses
  return `${kernel.release}, ${steps} steps${calls > 0 ? `, ccache answered ${hits} of ${calls} calls` : ''}`
}
