import { existsSync } from 'node:fs'
import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { archOf, crossPrefix } from './arch.js'
import {
  type Answer,
  differsFromNearest,
  findAnswer,
  madeOf,
  noteAnswer,
  pruneAnswers,
} from './build/asked.js'
import { type Built, build, type Kernel } from './build/build.js'
import { type Ccache, ccacheContents, ccacheKeys, findCcache } from './build/ccache.js'
import { type Identity, kernelKey, questionKey } from './build/identity.js'
import { notePrevious, takePrevious } from './build/previous.js'
import type { RemoteCaches } from './build/remote.js'
import { isSmallChange, openParcel, type Parcel, placeParcel } from './build/reuse.js'
import { findKernel, pruneKernels, storeKernel } from './build/store.js'
import { findToolchain, type Toolchain } from './build/toolchain.js'
import { type Config, configure, whatIsAsked } from './config/config.js'
import type { Kbuild } from './config/explain.js'
import { sha256 } from './host/hash.js'
import type { Log } from './log.js'
import { FILES } from './report/files.js'
import type { Request } from './request.js'
import { commitText, type Result, type Stage } from './result.js'
import type { Source } from './source/source.js'
import { checkOut, seriesOf, takeWorkspace, type Workspace } from './source/workspace.js'

/** Runs one stage of a run: announced, timed, summed up in a line. */
export type RunStage = <T>(
  name: Stage,
  title: string,
  work: () => Promise<T>,
  sum: (made: T) => string,
) => Promise<T>

export interface Obtaining {
  request: Request
  source: Source
  /** gets what is learned on the way */
  result: Result
  log: Log
  cancel?: AbortSignal
  stage: RunStage
  remote?: RemoteCaches
}

export interface Obtained {
  kernel: Kernel
  /** to be called when the kernel is not needed any more */
  release(): Promise<void>
}

/**
 * The kernel under test: the one that was made last if that was asked for; else one out of the kernel cache, found by
 * what is asked; else one that is configured and, if its configuration is not in the cache either, built and stored.
 */
export async function obtainKernel(at: Obtaining): Promise<Obtained> {
  const { request, source, result } = at
  const keep = async (kernel: Kernel, config: string) => {
    if (kernel.reused) await writeFile(join(result.runDirectory, FILES.config), config)
    await notePrevious(source, kernel, config)
    return { kernel, release: async () => {} }
  }
  if (request.skipBuild) return await previous(at)
  const toolchain = await findToolchain(request.arch)
  const identity: Identity = {
    tree: source.treeId,
    toolchain: toolchain.identity,
    arch: request.arch,
    localversion: request.localversion,
    modules: !request.skipModules,
  }
  const asked = await whatIsAsked(request)
  const question = asked === undefined ? undefined : questionKey(identity, asked)
  const making: Making = { ...at, toolchain, identity, asked: sha256(asked ?? ''), question }

  if (!request.kernelCache) {
    const workspace = await takeWorkspace(source)
    try {
      const workshop = await openWorkshop(workspace, making)
      const { config } = await configureIn(workshop, making)
      const { kernel } = await buildIn(workshop, config, making)
      await notePrevious(source, kernel, config.text)
      return { kernel, release: workspace.release }
    } catch (error) {
      await workspace.release()
      throw error
    }
  }

  const known = await at.stage(
    'cache',
    'Look for this kernel in the cache',
    () => lookUp(making),
    describeLookUp,
  )
  if ('kernel' in known) return await keep(known.kernel, known.config)

  const workspace = await takeWorkspace(source)
  try {
    const workshop = await openWorkshop(workspace, making)
    const { config, warnings } = await configureIn(workshop, making, known.parcel)
    const key = kernelKey(identity, config.hash)
    const made = { identity, commit: commitOf(source), config: config.text }
    const differs = await differsFromNearest(madeOf(made))
    const note = async () => {
      if (question === undefined) return
      await noteAnswer({ question, key, ...made, warnings })
      at.remote?.offer({ kind: 'asked', key: askedKey(making) })
    }
    // the same configuration may have been asked for in other words
    const found = await fetchKernel(key, making)
    if (found) {
      await note()
      return await keep({ ...found, cache: { key, hit: true } }, config.text)
    }
    const miss = { key, hit: false, ...(differs ? { differs } : {}) }
    at.log.info(describeMiss(differs))
    const built = await buildIn(workshop, config, making)
    const out = join(workspace.source, outOf(request))
    const kernel = await storeKernel(key, { kernel: built.kernel, out, identity, commit: commitOf(source) })
    await note()
    at.remote?.offer({ kind: 'kernel', key })
    offerBuild(making, workspace, built, config, known.parcel !== undefined)
    for (const { manifest } of await pruneKernels(request.kernelCacheMaxBytes))
      at.log.detail(`kernel cache: removed ${manifest.kernel.release} (${manifest.key.slice(0, 12)})`)
    await pruneAnswers()
    return await keep({ ...kernel, cache: miss }, config.text)
  } finally {
    // the kernel lies in the cache: the next build need not wait for this guest
    await workspace.release()
  }
}

interface Making extends Obtaining {
  toolchain: Toolchain
  identity: Identity
  /** hash of what is asked of Kconfig */
  asked: string
  question: string | undefined
}

const outOf = (request: Request) => `.out-${request.arch}`
const commitOf = ({ sha, subject, dirty }: Source) => ({ sha, subject, ...(dirty ? { dirty } : {}) })
const short = (text: string) => text.slice(0, 12)
const toolchainHash = ({ toolchain }: Making) => short(sha256(JSON.stringify(toolchain.identity)))

const askedPrefix = (at: Making) => `${at.request.arch}-${toolchainHash(at)}-`
const askedKey = (at: Making) => askedPrefix(at) + at.question

async function previous({ request, source, result, log }: Obtaining): Promise<Obtained> {
  const found = await takePrevious(source, request.arch, join(result.runDirectory, 'image'))
  if (found.treeId !== source.treeId && result.source) {
    const { sha, treeId, subject, dirty } = found
    result.source = { ...result.source, sha, treeId, subject, dirty }
    log.warning(
      `The kernel under test was built from ${commitText(found)}, not from ${commitText(source)} as it is now.`,
    )
  }
  await writeFile(join(result.runDirectory, FILES.config), found.config)
  return { kernel: found.kernel, release: async () => {} }
}

type LookUp = { kernel: Kernel; config: string } | { parcel?: Parcel }

/** Finds the kernel by what is asked; where it is not there, fetches what makes building it shorter. */
async function lookUp(at: Making): Promise<LookUp> {
  const { question, remote } = at
  const answer = question === undefined ? undefined : await answerTo(question, at)
  if (answer) {
    const kernel = await fetchKernel(answer.key, at)
    if (kernel) {
      for (const warning of answer.warnings) at.log.warning(warning)
      return { kernel: { ...kernel, cache: { key: answer.key, hit: true } }, config: answer.config }
    }
  }
  if (!remote) return {}
  const parcel = await fetchParcel(at, remote)
  if (!parcel || !isSmallChange(parcel)) await fetchCcache(at, remote)
  return parcel ? { parcel } : {}
}

async function answerTo(question: string, at: Making): Promise<Answer | undefined> {
  const here = await findAnswer(question)
  if (here || !at.remote) return here
  await at.remote.restore('asked', askedKey(at), [askedPrefix(at), `${at.request.arch}-`])
  return await findAnswer(question)
}

async function fetchKernel(key: string, at: Making): Promise<Kernel | undefined> {
  const warn = (sentence: string) => at.log.warning(sentence)
  let found = await findKernel(key, warn)
  if (!found && (await at.remote?.restore('kernel', key)) !== undefined) found = await findKernel(key, warn)
  return found && { ...found, configBase: at.request.configBase.kind }
}

/** Prefixes of the keys of build directories, the nearest one first. */
function buildPrefixes(at: Making): string[] {
  const { request, source, asked } = at
  const parts = [request.arch, toolchainHash(at), seriesOf(source), short(asked)]
  return [4, 3].map(count => `${parts.slice(0, count).join('-')}-`)
}

const buildKey = (at: Making) => `${buildPrefixes(at)[0]}${short(at.source.treeId)}`

async function fetchParcel(at: Making, remote: RemoteCaches): Promise<Parcel | undefined> {
  if ((await remote.restore('build', buildKey(at), buildPrefixes(at))) === undefined) return undefined
  const parcel = await openParcel(at.source.gitDir, at.source.treeId)
  if (!('useless' in parcel)) return parcel
  at.log.info(`The build directory that was restored is left aside: ${parcel.useless}.`)
  return undefined
}

async function fetchCcache(at: Making, remote: RemoteCaches): Promise<void> {
  if (!at.request.ccache) return
  const { key, fallbacks } = ccacheKeys(at.request, at.toolchain, remote.unique)
  const began = Date.now()
  await remote.restore('ccache', key, fallbacks)
  remote.offer({ kind: 'ccache', key, before: await ccacheContents(), began })
}

/** Kbuild steps from which on a build directory is worth more than the one that it was continued from. */
const MANY_STEPS = 400

function offerBuild(
  at: Making,
  workspace: Workspace,
  built: Built,
  config: Config,
  continued: boolean,
): void {
  if (continued && built.steps < MANY_STEPS) return
  const out = join(workspace.source, outOf(at.request))
  const made = { treeId: at.source.treeId, configHash: config.hash }
  at.remote?.offer({ kind: 'build', key: buildKey(at), out, gitDir: at.source.gitDir, made })
}

/** A workspace, and how make is called in it. */
interface Workshop {
  workspace: Workspace
  kbuild: Kbuild
  ccache?: Ccache
}

async function openWorkshop(workspace: Workspace, { request, log }: Making): Promise<Workshop> {
  const ccache = await findCcache(request, workspace.directory)
  if (request.ccache && !ccache) log.warning('ccache is not installed: every build compiles everything.')
  const out = outOf(request)
  const prefix = crossPrefix(request.arch)
  const compilers = ccache ? [`CC=ccache ${prefix}gcc`, 'HOSTCC=ccache gcc'] : []
  return {
    workspace,
    kbuild: {
      source: workspace.source,
      out,
      makeArgs: [
        ...(prefix ? [`ARCH=${archOf(request.arch).linux}`, `CROSS_COMPILE=${prefix}`] : []),
        `O=${out}`,
        `LOCALVERSION=${request.localversion}`,
        ...compilers,
      ],
    },
    ...(ccache ? { ccache } : {}),
  }
}

async function configureIn(
  { workspace, kbuild }: Workshop,
  at: Making,
  parcel?: Parcel,
): Promise<{ config: Config; warnings: string[] }> {
  const { request, source, result, cancel, question } = at
  const warnings: string[] = []
  const log: Log = {
    ...at.log,
    warning(message) {
      warnings.push(message)
      at.log.warning(message)
    },
  }
  const config = await at.stage(
    'config',
    `Configure (${request.configBase.kind})`,
    async () => {
      // never over a build directory that this machine has itself
      const place = parcel !== undefined && !existsSync(join(workspace.source, kbuild.out))
      await checkOut(source, workspace, cancel)
      if (parcel && place) await placeParcel(parcel, workspace.source, kbuild.out)
      try {
        return await configure(request, source, kbuild, question, log, cancel)
      } finally {
        // also when it is not what was asked for: that is when somebody wants to read it
        await copyFile(
          join(workspace.source, kbuild.out, '.config'),
          join(result.runDirectory, FILES.config),
        ).catch(() => {})
      }
    },
    made => `${[...made.values.values()].filter(value => value === 'y' || value === 'm').length} options on`,
  )
  return { config, warnings }
}

async function buildIn({ kbuild, ccache }: Workshop, config: Config, at: Making): Promise<Built> {
  const { request, source, toolchain, result } = at
  const buildLog = join(result.runDirectory, FILES.build)
  return await at.stage(
    'build',
    `Build ${source.version}`,
    () =>
      build(
        request,
        { source, config, kbuild, toolchain, buildLog, ...(ccache ? { ccache } : {}) },
        at.log,
        at.cancel,
      ),
    ({ kernel, steps }) => {
      const calls = kernel.ccache ? kernel.ccache.hits + kernel.ccache.misses : 0
      return `${kernel.release}, ${steps} steps${calls > 0 ? `, ccache answered ${kernel.ccache?.hits} of ${calls} calls` : ''}`
    },
  )
}

function describeLookUp(found: LookUp): string {
  if ('kernel' in found) return `found ${found.kernel.release} (${short(found.kernel.cache?.key ?? '')})`
  if (!found.parcel) return 'not found'
  return `not found; a build directory that differs by ${found.parcel.changed.length} files`
}

function describeMiss(differs: readonly string[] | undefined): string {
  if (!differs) return 'kernel cache: no kernel was made here before'
  return `kernel cache: a kernel that was not made before; ${differs.join('; ') || 'the nearest one was removed'}`
}
