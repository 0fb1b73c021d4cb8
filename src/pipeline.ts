import type { Terminal } from './boot/terminal.js'
import { kernelFacts } from './build/build-kernel.js'
import { buildExternalModules } from './build/external-modules.js'
import { getKernel } from './build/get-kernel.js'
import type { RemoteCaches } from './build/remote-caches.js'
import { checkRequirements } from './build/requirements.js'
import { messageOf } from './errors.js'
import { type Cleanup, cleanupStack } from './host/cleanup.js'
import { analyze } from './judge/analysis.js'
import { judgeGuest } from './judge/judge-guest.js'
import { guestOutput, observeGuest } from './judge/observe-guest.js'
import type { Log } from './log.js'
import { type RunRecord, startRecord } from './report/run-record.js'
import * as stages from './report/stages.js'
import type { Request } from './request/request.js'
import type { Result } from './result.js'
import { locateSource } from './source/locate.js'
import { sourceFacts } from './source/source.js'

/** What a run needs to know beside the request. */
export interface RunContext {
  runDirectory: string
  /** where the guest's commands start; paths in messages are relative to it */
  directory: string
  env: NodeJS.ProcessEnv
  /** the command that repeats this run, once the commit is known */
  repeat: (sha?: string) => string
  cancel?: AbortSignal
  terminal?: Terminal
  /** caches beyond this machine */
  remote?: RemoteCaches
}

/**
 * One run, from the request to its result. Whatever happens on the way ends in a result, which holds all that was learned
 * until then; only InputError is thrown.
 */
export async function runPipeline(request: Request, context: RunContext, log: Log): Promise<Result> {
  const { runDirectory, repeat, cancel } = context
  const record = startRecord({ runDirectory, repeat: repeat(), ...(cancel ? { cancel } : {}) }, log)
  const cleanup = cleanupStack()
  try {
    await testKernel(request, context, record, cleanup)
  } catch (error) {
    record.fail(error)
  } finally {
    // a file that cannot be removed does not cost the result
    await cleanup.run().catch(error => record.log.warning(`Cleaning up failed: ${messageOf(error)}`))
  }
  return await record.finish()
}

/** Finds the source, gets the kernel, builds external modules, boots, judges, explains. */
async function testKernel(
  request: Request,
  context: RunContext,
  { result, log, stage }: RunRecord,
  cleanup: Cleanup,
): Promise<void> {
  const { cancel, runDirectory, directory: cwd, remote } = context
  await stage(
    'preflight',
    stages.PREFLIGHT_TITLE,
    () => checkRequirements(request, log),
    stages.describePreflight,
  )

  const locate = () => locateSource(request, log, cancel)
  const source = await stage('source', stages.sourceTitle(request), locate, stages.describeSource)
  result.source = sourceFacts(source)
  // changes are in no commit: they are repeated where they are
  result.repeat = context.repeat(source.dirty ? undefined : source.sha)

  const built = await getKernel({ request, source, result, log, cancel, stage, remote, cleanup })
  result.kernel = kernelFacts(built)
  // with --skip-build perhaps not the source's tree
  const tree = { gitDir: source.gitDir, treeId: result.source.treeId }

  const build = () =>
    buildExternalModules(request, { kernel: built, source: tree, runDirectory, cwd, cleanup }, log, cancel)
  const external =
    request.modules.length > 0
      ? await stage('modules', stages.modulesTitle(request.modules.length), build, stages.describeModules)
      : undefined
  const kernel = external ? { ...built, modules: external.tree } : built

  const observe = () => observeGuest(request, kernel, external, context, log)
  const guest = await stage('boot', stages.bootTitle(kernel.release, request), observe, stages.describeBoot)
  result.boot = guest.facts
  result.exitCode = guest.outcome.status
  if (guest.modules) result.modules = guest.modules

  const output = await guestOutput(guest, external, context)
  const { findings, ...judgement } = await judgeGuest(request, guest, output, runDirectory, log)
  Object.assign(result, judgement)

  const { dump } = guest
  const explain = () =>
    analyze({
      ...{ request, kernel, source: tree, runDirectory, findings, output, cwd, log },
      external: external?.modules ?? [],
      ...(dump ? { dump } : {}),
      ...(cancel ? { cancel } : {}),
    })
  Object.assign(result, await stage('triage', stages.TRIAGE_TITLE, explain, stages.describeAnalysis))
}
