import type { Config } from '../config/configure.js'
import type { Log } from '../log.js'
import { describeConfig } from '../report/stages.js'
import type { BuildStamp, BuiltKernel } from './build-kernel.js'

/** What configures and builds a kernel: a workspace of this machine (local builder), or a build host (remote builder). */
export interface Builder {
  /** Stage config; returns the configuration and the warnings that were logged meanwhile. */
  configure(): Promise<{ config: Config; warnings: string[] }>
  /** Stage build. */
  build(config: Config): Promise<BuildResult>
  /** Releases the workspace, and with it the kernel that was built in it. May be called twice. */
  release(): Promise<void>
}

export interface BuildResult {
  kernel: BuiltKernel
  /** its build directory, or a directory with what was fetched of it */
  out: string
  /** Kbuild steps that make took: about how much work there was */
  steps: number
  /** set if another machine may continue the build directory: what identifies its contents */
  snapshot?: { out: string; gitDir: string; stamp: BuildStamp }
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

/** The summary of stage config. */
export const summarizeConfig = ({ values }: Config): string =>
  describeConfig([...values.values()].filter(value => value === 'y' || value === 'm').length)
