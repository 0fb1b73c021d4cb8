import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { boot, virtmeWords } from './boot/boot.js'
import type { Outcome } from './boot/outcome.js'
import type { Terminal } from './boot/terminal.js'
import type { Kernel } from './build/build-kernel.js'
import { buildExternalModules, type ExternalModule } from './build/external-modules.js'
import { getKernel } from './build/get-kernel.js'
import { fetchVmlinux } from './build/remote-builder.js'
import type { RemoteCaches } from './build/remote-caches.js'
import { nameLeaks } from './dump/kmemleak.js'
import { BuildError, Cancelled, InfraError, InputError, isDiskFull, messageOf, StageError } from './errors.js'
import { requireBridge } from './host/bridge.js'
import { reapGuests } from './host/registry.js'
import { requireTools } from './host/tools.js'
import { findVirtme } from './host/virtme.js'
import { type Analysis, analyze, vmcoreCollector } from './judge/analysis.js'
import { guestOutputParser } from './judge/guest-output.js'
import { judge } from './judge/verdict.js'
import type { Log } from './log.js'
import type { RunStage } from './report/stages.js'
import { testsLine } from './report/tests.js'
import { writeResult } from './report/write-result.js'
import type { Request } from './request/request.js'
import { commitText, type KernelFacts, type ModuleFacts, type Result } from './result.js'
import { FILES } from './run-directory.js'
import { locateSource } from './source/locate.js'
import type { Source } from './source/source.js'
import { applyRules, windowsOf } from './triage/rules.js'
import { plural } from './triage/tests.js'

/** What a run needs to know of its surroundings beside the request. */
export interface RunContext {
  runDirectory: string
  /** where the guest's commands start */
  directory: string
  env: NodeJS.ProcessEnv
  /** the line that repeats this run, once the commit is known */
  repeat: (sha?: string) => string
  cancel?: AbortSignal
  terminal?: Terminal
  /** caches beyond this machine */
  remote?: RemoteCaches
}

/**
 * One run, from the request to its result: find the source, check it out, configure, build, boot, judge. Whatever
 * happens on the way ends in a result, which holds all that was learned until then; only input that makes no sense throws.
 */
export async function runPipeline(request: Request, around: RunContext, log: Log): Promise<Result> {
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
  let letGo = async () => {}

  const stage: RunStage = async (name, title, work, sum) => {
    if (cancel?.aborted) throw new Cancelled(String(cancel.reason))
    log.stage(name, title)
    const start = performance.now()
    let summary = 'failed'
    try {
      const made = await work()
      summary = sum(made)
      return made
    } finally {
      result.timings.push({
        stage: name,
        seconds: round((performance.now() - start) / 1000),
        summary: summary,
      })
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
    const { gitDir: _gitDir, repository: _repository, version: _version, ...found } = source
    result.source = found
    // changes are in no commit: they are repeated where they are
    result.repeat = around.repeat(source.dirty ? undefined : source.sha)

    const obtaining = { request, source, result, log: told, cancel, stage, remote: around.remote }
    const { kernel, release } = await getKernel(obtaining)
    letGo = release
    result.kernel = kernelFacts(kernel)

    const external =
      request.modules.length === 0
        ? undefined
        : await stage(
            'modules',
            `Build ${plural(request.modules.length, 'external module')}`,
            () =>
              buildExternalModules(
                request,
                { kernel, source: builtFrom(source, result), runDirectory, cwd: around.directory },
                told,
                cancel,
              ),
            ({ modules }) => modules.map(({ name }) => name).join(', '),
          )
    let underTest = external ? { ...kernel, modules: external.tree } : kernel
    if (external)
      letGo = async () => {
        await external.release()
        await release()
      }

    const camera = vmcoreCollector(request, runDirectory, told, cancel)
    let ear = guestOutputParser([])
    const booted = await stage(
      'boot',
      `Boot ${kernel.release} and ${request.command.kind === 'shell' ? 'open a shell' : 'run the commands'}`,
      () =>
        boot(request, underTest, { ...around, runDirectory }, told, {
          cancel,
          load: external?.modules.map(({ name }) => name),
          terminal: around.terminal,
          listen() {
            ear = guestOutputParser(windowsOf(request.ignore))
            return { onConsole: ear.console, onStdout: ear.stdout }
          },
          dump: camera.collect,
        }),
      ({ outcome }) => describeBooted(outcome),
    )
    const { outcome } = booted
    result.boot = booted.facts
    result.exitCode = outcome.status
    if (external) {
      result.modules = moduleFacts(external.modules, outcome)
      const leaks = await nameLeaks(outcome.leaks, outcome.modules, external.tree, cancel)
      if (leaks.length > 0) ear.console(await appendLeaks(runDirectory, leaks))
    }
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
      async () => {
        // stacks and dumps are explained with it
        if (findings.length > 0 || camera.dump()) {
          const vmlinux = await fetchVmlinux(request, underTest, runDirectory, told, cancel)
          if (vmlinux !== undefined) underTest = { ...underTest, vmlinux }
        }
        return await analyze({
          ...{ request, kernel: underTest, runDirectory, findings, heard, cancel },
          external: external?.modules ?? [],
          cwd: around.directory,
          source: builtFrom(source, result),
          taken: camera.dump(),
          log: told,
        })
      },
      made => describeExamined(made),
    )
    Object.assign(result, examined)
  } catch (error) {
    blame(result, error)
  } finally {
    await letGo()
  }
  result.seconds = round((performance.now() - began) / 1000)
  await writeResult(result)
  return result
}

function kernelFacts(kernel: Kernel): KernelFacts {
  const {
    image: _image,
    vmlinux: _vmlinux,
    vmlinuxHash: _hash,
    modules: _modules,
    kernelBuildDir: _devel,
    ...facts
  } = kernel
  return facts
}

/** The tree that the kernel was made from: with --skip-build perhaps another one than the source's. */
function builtFrom({ gitDir, treeId }: Source, result: Result): { gitDir: string; treeId: string } {
  return { gitDir, treeId: result.source?.treeId ?? treeId }
}

/** Puts what kmemleak said behind the console's own lines, and returns it as a piece of console. */
async function appendLeaks(runDirectory: string, leaks: readonly string[]): Promise<Buffer> {
  const text = `kernelcraft: /sys/kernel/debug/kmemleak, read when the modules were removed\n${leaks.join('\n')}\n`
  await appendFile(join(runDirectory, FILES.console), text)
  return Buffer.from(text, 'latin1')
}

function moduleFacts(modules: readonly ExternalModule[], { modules: seen }: Outcome): ModuleFacts[] {
  return modules.map(({ name, requested }) => {
    const { loaded = false, trouble } = seen[name] ?? {}
    return { name, source: requested, loaded, ...(trouble === undefined ? {} : { trouble }) }
  })
}

/** What has to be on the machine before work starts; also ends what an earlier run left behind. */
async function preflight(request: Request, log: Log): Promise<void> {
  for (const left of await reapGuests())
    log.warning(`Ended a guest that an earlier run had left behind (${left}).`)
  const compiles = (!request.skipBuild && !request.buildHost) || request.modules.length > 0
  const needs = compiles ? (['source', 'build', 'boot'] as const) : (['source', 'boot'] as const)
  await requireTools(needs, request.arch, 'This run')
  if (request.network.kind === 'bridge') requireBridge(request.network.bridge)
  await findVirtme()
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

function describeBooted({ started, status }: Outcome): string {
  if (!started) return 'the guest did not come up'
  return `the guest came up, its commands ${status === undefined ? 'did not end' : `ended with status ${status}`}`
}

function describeExamined({ findings, tests, vmcore }: Analysis): string {
  const said = [
    findings.length === 0
      ? 'no reports'
      : `${plural(findings.length, 'report')}, the first one ${findings[0]?.title}`,
    ...(tests ? [testsLine(tests)] : []),
    ...(vmcore ? [`a vmcore of ${Math.round(vmcore.bytes / 2 ** 20)} MiB`] : []),
  ]
  return said.join('; ')
}

function describeSource(source: Source): string {
  return `${commitText(source)} ("${source.subject}"), Linux ${source.version}`
}
