import { randomBytes } from 'node:crypto'
import { relative, resolve } from 'node:path'
import * as core from '@actions/core'
import { InputError } from '../errors.js'
import { makeRunDirectory } from '../host/new-run-directory.js'
import { reapGuests } from '../host/registry.js'
import { cancelOn } from '../host/signals.js'
import { runPipeline } from '../pipeline.js'
import { sentence } from '../report/findings.js'
import { repeatCommand } from '../report/repeat-command.js'
import type { SummaryContext } from '../report/summary.js'
import { isBundled } from '../request/bundled-fragments.js'
import { parseRequest } from '../request/request.js'
import { parseChoice } from '../request/values.js'
import { EXIT_INVALID_INPUT, type Result } from '../result.js'
import { githubCaches, saveOffers } from './caches.js'
import { readInputs, unknownInputs } from './inputs.js'
import { jobLog } from './job-log.js'
import {
  artifactName,
  checkRetention,
  defaultOf,
  repositoryUrl,
  setOutputs,
  uploadRun,
  writeJobSummary,
} from './outputs.js'
import { beginMain, isPost, loadState, type State, saveState } from './state.js'

const STYLES = ['auto', 'full', 'compact'] as const

/** The main step. Returns the exit status of the process. */
export async function main(env: NodeJS.ProcessEnv): Promise<number> {
  // a cancelled job has 7.5 s from SIGINT to SIGTERM and 2.5 s more: the guest ends first, the upload is post's.
  const cancel = cancelOn('SIGINT', 'SIGTERM')
  beginMain()
  for (const sentence of unknownInputs(env)) core.warning(sentence)
  const raw = readInputs(env)
  const cwd = env.GITHUB_WORKSPACE ?? process.cwd()
  const log = jobLog()
  let result: Result
  let state: State
  let style: SummaryContext['style']
  try {
    const days = (name: string) => checkRetention(name, raw[name] as string | undefined)
    const [retentionDays, vmcoreRetentionDays] = [days('retention-days'), days('vmcore-retention-days')]
    style = parseChoice('summary', (raw.summary as string | undefined) ?? 'auto', STYLES)
    const request = parseRequest(
      { ...raw, run: (raw.run as string | undefined) ?? '' },
      { cwd, env },
      isBundled,
    )
    // the runner hides lines
    for (const line of request.buildHost?.key?.split('\n') ?? []) if (line.trim()) core.setSecret(line.trim())
    const secret = request.ccacheRemote && new URL(request.ccacheRemote.split('|')[0] ?? '').password
    if (secret) core.setSecret(decodeURIComponent(secret))
    // another tree than the checkout has no place in this repository
    const place = relative(cwd, request.path)
    if (request.release === undefined && !place.startsWith('..')) log.placeTree(place)
    const runDirectory = await makeRunDirectory(
      request.runDirectory ??
        resolve(env.RUNNER_TEMP ?? '/tmp', `kernelcraft-${randomBytes(6).toString('hex')}`),
    )
    const base = (raw['artifact-name'] as string | undefined) ?? defaultOf('artifact-name')
    state = {
      runDirectory,
      naming: {
        artifact: artifactName(base, env, runDirectory.slice(-6)),
        ...(retentionDays ? { retentionDays } : {}),
        ...(vmcoreRetentionDays ? { vmcoreRetentionDays } : {}),
      },
      reported: false,
      offers: [],
    }
    saveState(state)
    core.setOutput('run-directory', runDirectory)
    const remote = githubCaches(env, JSON.stringify(raw), offers => {
      state = { ...state, offers }
      saveState(state)
    })
    result = await runPipeline(
      request,
      {
        ...{ runDirectory, directory: request.path, env, cancel },
        repeat: sha => repeatCommand(raw, sha),
        ...(remote ? { remote } : {}),
      },
      log,
    )
  } catch (error) {
    log.close()
    if (!(error instanceof InputError)) throw error
    core.setFailed(error.message)
    return EXIT_INVALID_INPUT
  }
  log.close()
  setOutputs(result)
  const repository = repositoryUrl(env)
  const place: SummaryContext = { ...(repository ? { repository } : {}), ...(style ? { style } : {}) }
  await writeJobSummary(result, place)
  if (result.verdict !== 'cancelled') {
    const artifacts = await uploadRun(state.runDirectory, state.naming)
    const dumpUploaded = artifacts.some(({ isDump }) => isDump)
    if (artifacts.length > 0) await writeJobSummary(result, { ...place, artifacts, dumpUploaded })
    saveState({ ...state, reported: true })
  }
  const line = `KernelCraft: ${result.verdict}: ${sentence(result)}`
  if (result.verdict === 'passed') core.info(line)
  else core.setFailed(line)
  return result.verdict === 'passed' ? 0 : 1
}

/** The post step: whatever main could not do any more, because it was cancelled or killed. */
export async function post(state: State | undefined): Promise<number> {
  for (const left of await reapGuests()) core.info(`Ended a guest that was left behind (${left}).`)
  // main ended before it had begun to work, as with bad input
  if (!state) return 0
  if (!state.reported) await uploadRun(state.runDirectory, state.naming)
  await saveOffers(state.offers)
  return 0
}

export { isPost, loadState }
