import { existsSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { boot, virtmeWords } from './boot/boot.js'
import type { Terminal } from './boot/terminal.js'
import { build, type Kernel, previousKernel, stampPath } from './build/build.js'
import { findToolchain, requireTools } from './build/toolchain.js'
import { configure } from './config/config.js'
import { BuildError, Cancelled, InfraError, InputError, isDiskFull, messageOf, StageError } from './errors.js'
import { guestEar } from './evidence.js'
import { type Examined, examine, vmcoreCamera } from './examine.js'
import { reapGuests } from './host/registry.js'
import { findVirtme } from './host/virtme.js'
import type { Log } from './log.js'
import { writeResult } from './report/files.js'
import { testsLine } from './report/tests.js'
import type { Request } from './request.js'
import type { Result, Stage } from './result.js'
import { locateSource, type Source } from './source/source.js'
import { checkOut, sharedWorkspace, takeWorkspace, type Workspace } from './source/workspace.js'
import { applyRules, windowsOf } from './triage/rules.js'
import { judge } from './verdict.js'

/** What a run needs to know of its surroundings beside the request. */
export interface Surroundings {
  runDirectory: string
  /** where the guest's commands start */
  directory: string
  env: NodeJS.ProcessEnv
  /** the line that repeats this run, once the commit is known */
  repeat: (sha?: string) => string
  cancel?: AbortSignal
  terminal?: Terminal
}

/**
 * One run, from the request to its result: find the source, check it out, configure, build, boot, judge. Whatever
 * happens on the way ends in a result, which holds all that was learned until then; only input that makes no sense throws.
 */
export async function runPipeline(request: Request, around: Surroundings, log: Log): Promise<Result> {
  const { cancel, runDirectory } = around
  const began = performance.now()
  const result: Result = {
    schema: 1,
    verdict: 'infra-error',
    title: 'The run did not finish.',
    reason: 'The run did not finish.',
    findings: [],
    started: new Date().toISOString(),
    seconds: 0,
    runDirectory,
    repeat: around.repeat(),
    timings: [],
    warnings: [],
    files: {},
  }
  const told: Log = {
    ...log,
    warning(message) {
      result.warnings.push(message)
      log.warning(message)
    },
  }
  let workspace: Workspace | undefined

  const stage = async <T>(
    name: Stage,
    title: string,
    work: () => Promise<T>,
    sum: (made: T) => string,
  ): Promise<T> => {
    if (cancel?.aborted) throw new Cancelled(String(cancel.reason))
    log.stage(name, title)
    const start = performance.now()
    let summary = 'failed'
    try {
      const made = await work()
      summary = sum(made)
      return made
    } finally {
      result.timings.push({ stage: name, seconds: round((performance.now() - start) / 1000) })
      log.stageEnd(name, summary)
    }
  }

  try {
    await stage(
      'preflight',
      'Check this machine',
      () => preflight(request, told),
      () => 'everything is here',
    )

    const source = await stage(
      'source',
      describeWanted(request),
      () => locateSource(request, told, cancel),
      describeSource,
    )
    const { tree, ref, sha, treeId, subject } = source
    result.source = { tree, ref, sha, treeId, subject }
    result.repeat = around.repeat(sha)
    workspace = request.skipBuild
      ? sharedWorkspace(source, directory =>
          existsSync(stampPath({ source: directory, out: outDirectory(request) })),
        )
      : await takeWorkspace(source)

    const kernel = request.skipBuild
      ? await takePrevious(request, source, workspace, result)
      : await makeKernel({ request, source, workspace, result, log: told, cancel, stage })
    const { image: _image, vmlinux: _vmlinux, modules: _modules, ...facts } = kernel
    result.kernel = facts

    const camera = vmcoreCamera(request, runDirectory, told, cancel)
    let ear = guestEar([])
    const booted = await stage(
      'boot',
      `Boot ${kernel.release}`,
      () =>
        boot(request, kernel, { ...around, runDirectory }, told, {
          cancel,
          terminal: around.terminal,
          listen() {
            ear = guestEar(windowsOf(request.ignore))
            return { onConsole: ear.console, onStdout: ear.stdout }
          },
          dump: camera.take,
        }),
      ({ outcome }) => (outcome.started ? 'the guest came up' : 'the guest did not come up'),
    )
    const { outcome } = booted
    result.boot = booted.facts
    result.exitCode = outcome.status
    const heard = ear.end()
    const { findings, warnings } = applyRules(heard.findings, request.failOn, request.ignore, new Date())
    for (const warning of warnings) told.warning(warning)
    for (const index of heard.unclosed)
      told.warning(`${request.ignore[index]?.origin}: its end was never printed, so it ignores nothing.`)
    const failing = findings.filter(finding => finding.ignored === undefined)
    Object.assign(result, judge(outcome, request, { ...heard, findings: failing }))
    if (result.verdict === 'infra-error') {
      result.error = { message: result.reason, details: await virtmeWords(runDirectory), diagnostics: [] }
    }
    const examined = await stage(
      'triage',
      'Look at what the kernel said',
      () =>
        examine({
          ...{ request, kernel, runDirectory, findings, heard, cancel },
          source: workspace?.source ?? '',
          taken: camera.taken(),
          log: told,
        }),
      made => describeExamined(made),
    )
    Object.assign(result, examined)
  } catch (error) {
    blame(result, error)
  } finally {
    await workspace?.release()
  }
  result.seconds = round((performance.now() - began) / 1000)
  await writeResult(result)
  return result
}

/** What has to be on the machine before work starts; also ends what an earlier run left behind. */
async function preflight(request: Request, log: Log): Promise<void> {
  for (const left of await reapGuests())
    log.warning(`Ended a guest that an earlier run had left behind (${left}).`)
  await requireTools(request.skipBuild ? ['source', 'boot'] : ['source', 'build', 'boot'], 'This run')
  await findVirtme()
}

interface Making {
  request: Request
  source: Source
  workspace: Workspace
  result: Result
  log: Log
  cancel?: AbortSignal
  stage: <T>(name: Stage, title: string, work: () => Promise<T>, sum: (made: T) => string) => Promise<T>
}

const outDirectory = (request: Request) => `.out-${request.arch}`

async function makeKernel({
  request,
  source,
  workspace,
  result,
  log,
  cancel,
  stage,
}: Making): Promise<Kernel> {
  const toolchain = await findToolchain(request, workspace.directory)
  if (request.ccache && !toolchain.statsLog)
    log.warning('ccache is not installed: every build compiles everything.')
  const out = outDirectory(request)
  const kbuild = { source: workspace.source, out, makeArgs: [`O=${out}`, ...toolchain.makeArgs] }
  const config = await stage(
    'config',
    `Configure (${request.configBase.kind})`,
    async () => {
      await checkOut(source, workspace, cancel)
      try {
        return await configure(
          request,
          source,
          kbuild,
          `${toolchain.compiler} ${toolchain.linker}`,
          log,
          cancel,
        )
      } finally {
        // also when it is not what was asked for: that is when somebody wants to read it
        await copyFile(join(workspace.source, out, '.config'), join(result.runDirectory, 'config')).catch(
          () => {},
        )
      }
    },
    made => `${[...made.values.values()].filter(value => value === 'y' || value === 'm').length} options on`,
  )
  return await stage(
    'build',
    `Build ${source.version}`,
    () =>
      build(
        request,
        { source, config, kbuild, toolchain, buildLog: join(result.runDirectory, 'build.log') },
        log,
        cancel,
      ),
    kernel =>
      kernel.reused
        ? `${kernel.release}, nothing to do`
        : `${kernel.release}${kernel.ccache ? `, ccache ${kernel.ccache.hits} of ${kernel.ccache.hits + kernel.ccache.misses}` : ''}`,
  )
}

async function takePrevious(
  request: Request,
  source: Source,
  workspace: Workspace,
  result: Result,
): Promise<Kernel> {
  const out = outDirectory(request)
  const previous = await previousKernel({ source: workspace.source, out, makeArgs: [] })
  if (previous.sha !== source.sha && result.source) {
    result.source = { ...result.source, sha: previous.sha, subject: previous.subject }
    result.warnings.push(
      `The kernel under test was built from ${previous.sha.slice(0, 12)}, not from ${source.sha.slice(0, 12)}.`,
    )
  }
  await copyFile(join(workspace.source, out, '.config'), join(result.runDirectory, 'config'))
  // a copy of its own: the next build may come before this guest has ended
  const image = join(result.runDirectory, 'image')
  await copyFile(previous.kernel.image, image)
  return { ...previous.kernel, image }
}

/** The verdict of an error, by the stage that it comes from. */
function blame(result: Result, error: unknown): void {
  if (error instanceof InputError) throw error
  const typed =
    error instanceof StageError
      ? error
      : isDiskFull(error)
        ? new InfraError('The disk is full: make room and run again.')
        : undefined
  result.verdict = typed?.verdict ?? 'infra-error'
  result.reason = result.title = typed?.message ?? `KernelCraft itself failed: ${messageOf(error)}`
  result.error = {
    message: result.title,
    details:
      typed?.details ?? (error instanceof Error && error.stack ? error.stack.split('\n').slice(1, 6) : []),
    diagnostics: typed instanceof BuildError ? typed.diagnostics : [],
  }
}

const round = (seconds: number) => Math.round(seconds * 1000) / 1000

function describeWanted(request: Request): string {
  return `Find ${request.ref ?? (request.release ? 'the newest commit' : 'HEAD')} of ${request.release ?? request.path}`
}

function describeExamined({ findings, tests, vmcore }: Examined): string {
  const said = [
    findings.length === 0 ? 'no reports' : `${findings.length} reports, the first one ${findings[0]?.title}`,
    ...(tests ? [testsLine(tests)] : []),
    ...(vmcore ? [`a vmcore of ${Math.round(vmcore.bytes / 2 ** 20)} MiB`] : []),
  ]
  return said.join('; ')
}

function describeSource(source: Source): string {
  return `${source.sha.slice(0, 12)} ("${source.subject}"), Linux ${source.version}`
}
