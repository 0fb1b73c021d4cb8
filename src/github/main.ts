import { randomBytes } from 'node:crypto'
import { relative, resolve } from 'node:path'
import * as core from '@actions/core'
import { InputError } from '../errors.js'
import { createRunDirectory } from '../host/new-run-directory.js'
import { reapGuests } from '../host/registry.js'
import { cancelOn } from '../host/signals.js'
import { runPipeline } from '../pipeline.js'
import { sentence } from '../report/findings.js'
import { repeatCommand } from '../report/repeat-command.js'
import type { SummaryContext } from '../report/summary.js'
import type { RawOptions } from '../request/options.js'
import { parseRequest } from '../request/parse.js'
import type { Request } from '../request/request.js'
import { parseChoice } from '../request/values.js'
import { EXIT_INVALID_INPUT, type Result } from '../result.js'
import { type ArtifactNaming, artifactName, uploadRun } from './artifacts.js'
import { githubCaches, saveOffers } from './caches.js'
import { checkRetention, defaultOf, readInputs, unknownInputs } from './inputs.js'
import { type JobLog, jobLog } from './job-log.js'
import { setOutputs, writeJobSummary } from './outputs.js'
import { repositoryUrl } from './repository-url.js'
import { beginMain, isPost, loadState, type State, saveState } from './state.js'

const SUMMARY_STYLES = ['auto', 'full', 'compact'] as const

/** The inputs of one run, parsed. */
interface Inputs {
  raw: RawOptions
  request: Request
  /** GITHUB_WORKSPACE, which paths are relative to */
  workspace: string
  retention: Omit<ArtifactNaming, 'artifact'>
  summaryStyle: SummaryContext['style']
}

/** The main step. Returns the exit status of the process. */
export async function main(env: NodeJS.ProcessEnv): Promise<number> {
  // a cancelled job has 7.5 s from SIGINT to SIGTERM and 2.5 s more: the guest is ended first, post does the upload
  const cancel = cancelOn('SIGINT', 'SIGTERM')
  beginMain()
  for (const message of unknownInputs(env)) core.warning(message)
  const log = jobLog()
  try {
    const inputs = parseInputs(env)
    maskSecrets(inputs.request)
    setTreeDirectory(log, inputs)
    const state = await startRun(inputs, env)
    const result = await runJob(inputs, state, { env, cancel, log })
    log.close()
    await report(result, state, { style: inputs.summaryStyle, repository: repositoryUrl(env) })
    return result.verdict === 'passed' ? 0 : 1
  } catch (error) {
    log.close()
    if (!(error instanceof InputError)) throw error
    core.setFailed(error.message)
    return EXIT_INVALID_INPUT
  }
}

/** Throws InputError. */
function parseInputs(env: NodeJS.ProcessEnv): Inputs {
  const raw = readInputs(env)
  const workspace = env.GITHUB_WORKSPACE ?? process.cwd()
  const days = (name: string) => checkRetention(name, textInput(raw, name))
  const [retentionDays, vmcoreRetentionDays] = [days('retention-days'), days('vmcore-retention-days')]
  return {
    raw,
    workspace,
    retention: {
      ...(retentionDays ? { retentionDays } : {}),
      ...(vmcoreRetentionDays ? { vmcoreRetentionDays } : {}),
    },
    summaryStyle: parseChoice('summary', textInput(raw, 'summary') ?? 'auto', SUMMARY_STYLES),
    request: parseRequest({ ...raw, run: textInput(raw, 'run') ?? '' }, { cwd: workspace, env }),
  }
}

const textInput = (raw: RawOptions, name: string) => raw[name] as string | undefined

/** Has the runner hide the secrets of a request in all logs. */
function maskSecrets({ buildHost, ccacheRemote }: Request): void {
  // the runner masks single lines
  for (const line of buildHost?.key?.split('\n') ?? []) if (line.trim()) core.setSecret(line.trim())
  const password = ccacheRemote && new URL(ccacheRemote.split('|')[0] ?? '').password
  if (password) core.setSecret(decodeURIComponent(password))
}

/** Annotations name files of the tree under test only if it is in the repository of the job. */
function setTreeDirectory(log: JobLog, { request, workspace }: Inputs): void {
  const directory = relative(workspace, request.path)
  if (request.release === undefined && !directory.startsWith('..')) log.setTreeDirectory(directory)
}

/** Creates the run directory, and saves for post what to upload even if main does not finish. Throws InputError. */
async function startRun({ raw, request, retention }: Inputs, env: NodeJS.ProcessEnv): Promise<State> {
  const runDirectory = await createRunDirectory(
    request.runDirectory ??
      resolve(env.RUNNER_TEMP ?? '/tmp', `kernelcraft-${randomBytes(6).toString('hex')}`),
  )
  const name = textInput(raw, 'artifact-name') ?? defaultOf('artifact-name')
  const artifact = artifactName(name, env, runDirectory.slice(-6))
  const state: State = { runDirectory, naming: { artifact, ...retention }, reported: false, offers: [] }
  saveState(state)
  core.setOutput('run-directory', runDirectory)
  return state
}

/** Runs the pipeline with GitHub's cache; offers to the cache are added to the state. Throws InputError. */
async function runJob(
  { raw, request }: Inputs,
  state: State,
  { env, cancel, log }: { env: NodeJS.ProcessEnv; cancel: AbortSignal; log: JobLog },
): Promise<Result> {
  const remote = githubCaches(env, JSON.stringify(raw), offers => {
    state.offers = offers
    saveState(state)
  })
  const context = {
    runDirectory: state.runDirectory,
    directory: request.path,
    env,
    cancel,
    repeat: (sha?: string) => repeatCommand(raw, sha),
    ...(remote ? { remote } : {}),
  }
  return await runPipeline(request, context, log)
}

/** Sets the outputs, writes the summary and uploads the artifacts; the upload of a cancelled run is left to post. */
async function report(result: Result, state: State, { style, repository }: SummaryContext): Promise<void> {
  setOutputs(result)
  const context: SummaryContext = { ...(repository ? { repository } : {}), ...(style ? { style } : {}) }
  await writeJobSummary(result, context)
  if (result.verdict !== 'cancelled') {
    const artifacts = await uploadRun(state.runDirectory, state.naming)
    const dumpUploaded = artifacts.some(({ isDump }) => isDump)
    if (artifacts.length > 0) await writeJobSummary(result, { ...context, artifacts, dumpUploaded })
    saveState({ ...state, reported: true })
  }
  const line = `KernelCraft: ${result.verdict}: ${sentence(result)}`
  if (result.verdict === 'passed') core.info(line)
  else core.setFailed(line)
}

/** The post step: what main could not do because it was cancelled or killed, and the caches. */
export async function post(state: State | undefined): Promise<number> {
  for (const directory of await reapGuests()) core.info(`Ended a guest that was left behind (${directory}).`)
  // main ended before it started to work, for example because of an invalid input
  if (!state) return 0
  if (!state.reported) await uploadRun(state.runDirectory, state.naming)
  await saveOffers(state.offers)
  return 0
}

export { isPost, loadState }
