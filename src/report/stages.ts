import type { Request } from '../request/request.js'
import {
  commitText,
  type FindingFacts,
  type KernelFacts,
  type SourceFacts,
  type Stage,
  type TestFacts,
  type VmcoreFacts,
} from '../result.js'
import { plural } from '../triage/tests.js'
import { testsLine } from './tests.js'

/** Runs one stage of a run: announced, timed, summed up in a line. */
export type RunStage = <T>(
  name: Stage,
  title: string,
  work: () => Promise<T>,
  summarize: (value: T) => string,
) => Promise<T>

export const PREFLIGHT_TITLE = 'Check this machine'
export const describePreflight = (): string => 'everything is here'

export const sourceTitle = ({ ref, release, path }: Pick<Request, 'ref' | 'release' | 'path'>): string =>
  `Find ${ref ?? (release ? 'the newest commit' : 'HEAD')} of ${release ?? path}`

/** `version` is the kernel's by its Makefile. */
export const describeSource = (source: SourceFacts & { version: string }): string =>
  `${commitText(source)} ("${source.subject}"), Linux ${source.version}`

/** The title of stage cache. */
export const LOOK_UP_TITLE = 'Look for this kernel in the cache'

/**
 * The summary of stage cache: `found` is the kernel that was found; else `changedFiles` is how many source files differ
 * from those of a build directory that was restored, undefined if none was.
 */
export function describeLookUp(
  found: Pick<KernelFacts, 'release' | 'cache'> | undefined,
  changedFiles: number | undefined,
): string {
  if (found) return `found ${found.release} (${(found.cache?.key ?? '').slice(0, 12)})`
  if (changedFiles === undefined) return 'not found'
  return `not found; a build directory that differs by ${changedFiles} files`
}

/** Why a kernel was not in the cache: what differs from the most similar kernel there, undefined if there is none. */
export function describeMiss(differs: readonly string[] | undefined): string {
  if (!differs) return 'kernel cache: no kernel was built here before'
  return `kernel cache: a kernel that was not built before; ${differs.join('; ') || 'the same kernel was removed from the cache'}`
}

/** The title of stage config; `host` is the build host, if there is one. */
export const configTitle = (base: string, host?: string): string =>
  `Configure${host === undefined ? '' : ` on ${host}`} (${base})`

/** The summary of stage config. `enabled` counts the options that are y or m. */
export const describeConfig = (enabled: number): string => `${enabled} options on`

/** The title of stage build; `version` is the kernel's by its Makefile, `host` the build host, if there is one. */
export const buildTitle = (version: string, host?: string): string =>
  `Build ${version}${host === undefined ? '' : ` on ${host}`}`

/** The summary of stage build. `steps` counts Kbuild's steps. */
export function describeBuild(
  { release, ccache }: Pick<KernelFacts, 'release' | 'ccache'>,
  steps: number,
): string {
  const { hits = 0, misses = 0 } = ccache ?? {}
  const calls = hits + misses
  return `${release}, ${steps} steps${calls > 0 ? `, ccache answered ${hits} of ${calls} calls` : ''}`
}

export const modulesTitle = (count: number): string => `Build ${plural(count, 'external module')}`

export const describeModules = ({ modules }: { modules: readonly { name: string }[] }): string =>
  modules.map(({ name }) => name).join(', ')

export const bootTitle = (release: string, { command }: Pick<Request, 'command'>): string =>
  `Boot ${release} and ${command.kind === 'shell' ? 'open a shell' : 'run the commands'}`

/** `status` is the exit status of the commands, if it arrived. */
export function describeBoot({ outcome }: { outcome: { started: boolean; status?: number } }): string {
  const { started, status } = outcome
  if (!started) return 'the guest did not come up'
  return `the guest came up, its commands ${status === undefined ? 'did not end' : `exited with status ${status}`}`
}

export const TRIAGE_TITLE = "Analyze the kernel's output"

export function describeAnalysis({
  findings,
  tests,
  vmcore,
}: {
  findings: readonly FindingFacts[]
  tests?: TestFacts
  vmcore?: VmcoreFacts
}): string {
  return [
    findings.length === 0
      ? 'no reports'
      : `${plural(findings.length, 'report')}, the first one ${findings[0]?.title}`,
    ...(tests ? [testsLine(tests)] : []),
    ...(vmcore ? [`a vmcore of ${Math.round(vmcore.bytes / 2 ** 20)} MiB`] : []),
  ].join('; ')
}
