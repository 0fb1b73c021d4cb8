import { randomBytes } from 'node:crypto'
import { relative, resolve } from 'node:path'
import * as core from '@actions/core'
import { isBundled } from '../config/fragments.js'
import { InputError } from '../errors.js'
import { reapGuests } from '../host/registry.js'
import { cancelOn } from '../host/signals.js'
import { runPipeline } from '../pipeline.js'
import { sentence } from '../report/findings.js'
import { repeatCommand } from '../report/repeat.js'
import { makeRunDirectory } from '../report/rundir.js'
import { parseRequest } from '../request.js'
import { EXIT_INVALID_INPUT, type Result } from '../result.js'
import { restoreCcache, saveCcache } from './ccache.js'
import { readInputs, unknownInputs } from './inputs.js'
import { jobLog } from './joblog.js'
import { artifactName, checkRetention, defaultOf, setOutputs, uploadRun, writeJobSummary } from './report.js'
import { loadState, type State, saveState } from './state.js'

/** The main step. Returns the exit status of the process. */
export async function main(env: NodeJS.ProcessEnv): Promise<number> {
  // a cancelled job has 7.5 s from SIGINT to SIGTERM and 2.5 s more: the guest ends first, the upload is post's.
  const cancel = cancelOn('SIGINT', 'SIGTERM')
  for (const sentence of unknownInputs(env)) core.warning(sentence)
  const raw = readInputs(env)
  const cwd = env.GITHUB_WORKSPACE ?? process.cwd()
  const log = jobLog()
  let result: Result
  let state: State
  try {
    const retentionDays = checkRetention(raw['retention-days'] as string | undefined)
    const request = parseRequest(
      { ...raw, run: (raw.run as string | undefined) ?? '' },
      { cwd, env },
      isBundled,
    )
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
      artifact: artifactName(base, env, runDirectory.slice(-6)),
      ...(retentionDays ? { retentionDays } : {}),
      reported: false,
    }
    saveState(state)
    core.setOutput('run-directory', runDirectory)
    const ccache = await restoreCcache(request, env)
    if (ccache) {
      state.ccache = ccache
      saveState(state)
    }
    result = await runPipeline(
      request,
      { runDirectory, directory: request.path, env, repeat: sha => repeatCommand(raw, sha), cancel },
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
  await writeJobSummary(result)
  if (result.verdict !== 'cancelled') {
    await uploadRun(state.runDirectory, state.artifact, state.retentionDays)
    saveState({ ...state, reported: true })
  }
  const line = `KernelCraft: ${result.verdict}: ${sentence(result)}`
  if (result.verdict === 'passed') core.info(line)
  else core.setFailed(line)
  return result.verdict === 'passed' ? 0 : 1
}

/** The post step: whatever main could not do any more, because it was cancelled or killed. */
export async function post(state: State): Promise<number> {
  for (const left of await reapGuests()) core.info(`Ended a guest that was left behind (${left}).`)
  if (!state.reported) await uploadRun(state.runDirectory, state.artifact, state.retentionDays)
  if (state.ccache) await saveCcache(state.ccache)
  return 0
}

export { loadState }
