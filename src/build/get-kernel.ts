import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { requestedConfigText } from '../config/configure.js'
import { sha256 } from '../host/hash.js'
import { commitText } from '../result.js'
import { FILES } from '../run-directory.js'
import type { Source } from '../source/source.js'
import { seriesOf } from '../source/workspace.js'
import { type BuildDirSnapshot, isSmallChange, openBuildDirSnapshot } from './build-dir-snapshot.js'
import { type BuildHost, openBuildHost } from './build-host.js'
import type { Kernel } from './build-kernel.js'
import { ccacheContents, ccacheKeys } from './ccache.js'
import {
  type ConfigRecord,
  differsFromNearest,
  findConfigRecord,
  inputsOf,
  pruneConfigRecords,
  writeConfigRecord,
} from './config-records.js'
import { configKeyOf, type Identity, kernelKey } from './identity.js'
import { findKernel, pruneKernels, storeKernel } from './kernel-cache.js'
import type { BuildContext, KernelContext } from './kernel-context.js'
import { localBuilder } from './local-builder.js'
import { recordPrevious, takePrevious } from './previous-kernel.js'
import { remoteBuilder } from './remote-builder.js'
import type { RemoteCaches } from './remote-caches.js'
import { findToolchain, type Toolchain } from './toolchain.js'

export interface KernelHandle {
  kernel: Kernel
  /** to be called when the kernel is not needed any more */
  release(): Promise<void>
}

/**
 * The kernel under test: the one that was made last if that was asked for; else one out of the kernel cache, found by
 * what is asked; else one that is configured and, if its configuration is not in the cache either, built and stored.
 */
export async function getKernel(at: BuildContext): Promise<KernelHandle> {
  const { request } = at
  if (request.skipBuild) return await previous(at)
  if (!request.buildHost) return await obtainWith(at, await findToolchain(request.arch))
  const host = await openBuildHost(request.buildHost, request.arch, at.log.info, at.cancel)
  try {
    await tellDifference(at, host)
    return await obtainWith(at, host.toolchain, host)
  } finally {
    await host.close()
  }
}

async function obtainWith(at: BuildContext, toolchain: Toolchain, host?: BuildHost): Promise<KernelHandle> {
  const { request, source, result } = at
  const identity: Identity = {
    tree: source.treeId,
    toolchain: toolchain.identity,
    arch: request.arch,
    localversion: request.localversion,
    modules: !request.skipModules,
  }
  const asked = await requestedConfigText(request)
  const configKey = asked === undefined ? undefined : configKeyOf(identity, asked)
  const making: KernelContext = { ...at, toolchain, identity, asked: sha256(asked ?? ''), configKey }
  const open = (parcel?: BuildDirSnapshot) =>
    host ? remoteBuilder(making, host) : localBuilder(making, parcel)

  if (!request.kernelCache) {
    const place = await open()
    try {
      const { config } = await place.configure()
      const built = await place.build(config)
      // what was fetched has no other place to stay in for the next --skip-build
      const kernel = host
        ? await storeKernel(kernelKey(identity, config.hash), {
            ...built,
            identity,
            commit: commitOf(source),
          })
        : built.kernel
      await recordPrevious(source, kernel, config.text)
      return { kernel, release: place.release }
    } catch (error) {
      await place.release()
      throw error
    }
  }

  const keep = async (kernel: Kernel, config: string) => {
    if (kernel.reused) await writeFile(join(result.runDirectory, FILES.config), config)
    await recordPrevious(source, kernel, config)
    return { kernel, release: async () => {} }
  }
  const known = await at.stage(
    'cache',
    'Look for this kernel in the cache',
    () => lookUp(making),
    describeLookUp,
  )
  if ('kernel' in known) return await keep(known.kernel, known.config)

  const place = await open(known.parcel)
  try {
    const { config, warnings } = await place.configure()
    const key = kernelKey(identity, config.hash)
    const made = { identity, commit: commitOf(source), config: config.text }
    const differs = await differsFromNearest(inputsOf(made))
    const note = async () => {
      if (configKey === undefined) return
      await writeConfigRecord({ configKey, key, ...made, warnings })
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
    const built = await place.build(config)
    const kernel = await storeKernel(key, { ...built, identity, commit: commitOf(source) })
    await note()
    at.remote?.offer({ kind: 'kernel', key })
    // a build directory is worth more than the one that it was continued from only if much was done
    if (built.offer && (known.parcel === undefined || built.steps >= MANY_STEPS))
      at.remote?.offer({ kind: 'build', key: buildKey(making), ...built.offer })
    for (const { manifest } of await pruneKernels(request.kernelCacheMaxBytes))
      at.log.detail(`kernel cache: removed ${manifest.kernel.release} (${manifest.key.slice(0, 12)})`)
    await pruneConfigRecords()
    return await keep({ ...kernel, cache: miss }, config.text)
  } finally {
    // the kernel lies in the cache: the next build need not wait for this guest
    await place.release()
  }
}

/** Says it where the build host's compiler is another one than this machine's: what is built here later may not fit. */
async function tellDifference({ request, log }: BuildContext, { host, toolchain }: BuildHost): Promise<void> {
  const { compiler } = await findToolchain(request.arch)
  if (compiler === toolchain.compiler) return
  const here = compiler ? `; here it would be ${compiler}` : ''
  if (request.modules.length === 0) log.info(`${host} compiles with ${toolchain.compiler}${here}.`)
  else
    log.warning(
      `The kernel is compiled with ${toolchain.compiler} on ${host}, its external modules here with ${compiler}.`,
    )
}

const commitOf = ({ sha, subject, dirty }: Source) => ({ sha, subject, ...(dirty ? { dirty } : {}) })
const short = (text: string) => text.slice(0, 12)
const toolchainHash = ({ toolchain }: KernelContext) => short(sha256(JSON.stringify(toolchain.identity)))

const askedPrefix = (at: KernelContext) => `${at.request.arch}-${toolchainHash(at)}-`
const askedKey = (at: KernelContext) => askedPrefix(at) + at.configKey

async function previous({ request, source, result, log }: BuildContext): Promise<KernelHandle> {
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

type LookUp = { kernel: Kernel; config: string } | { parcel?: BuildDirSnapshot }

/** Finds the kernel by what is asked; where it is not there, fetches what makes building it shorter. */
async function lookUp(at: KernelContext): Promise<LookUp> {
  const { configKey, remote } = at
  const answer = configKey === undefined ? undefined : await recordOf(configKey, at)
  if (answer) {
    const kernel = await fetchKernel(answer.key, at)
    if (kernel) {
      for (const warning of answer.warnings) at.log.warning(warning)
      return { kernel: { ...kernel, cache: { key: answer.key, hit: true } }, config: answer.config }
    }
  }
  if (!remote || at.request.buildHost) return {}
  const parcel = await fetchParcel(at, remote)
  if (!parcel || !isSmallChange(parcel)) await fetchCcache(at, remote)
  return parcel ? { parcel } : {}
}

async function recordOf(configKey: string, at: KernelContext): Promise<ConfigRecord | undefined> {
  const here = await findConfigRecord(configKey)
  if (here || !at.remote) return here
  await at.remote.restore('asked', askedKey(at), [askedPrefix(at), `${at.request.arch}-`])
  return await findConfigRecord(configKey)
}

async function fetchKernel(key: string, at: KernelContext): Promise<Kernel | undefined> {
  const warn = (sentence: string) => at.log.warning(sentence)
  let found = await findKernel(key, warn)
  if (!found && (await at.remote?.restore('kernel', key)) !== undefined) found = await findKernel(key, warn)
  // one whose vmlinux is on a build host is half a kernel for somebody who builds here
  if (found && !at.request.buildHost && !existsSync(found.vmlinux)) return undefined
  return found && { ...found, configBase: at.request.configBase.kind }
}

/** Prefixes of the keys of build directories, the nearest one first. */
function buildPrefixes(at: KernelContext): string[] {
  const { request, source, asked } = at
  const parts = [request.arch, toolchainHash(at), seriesOf(source), short(asked)]
  return [4, 3].map(count => `${parts.slice(0, count).join('-')}-`)
}

const buildKey = (at: KernelContext) => `${buildPrefixes(at)[0]}${short(at.source.treeId)}`

async function fetchParcel(at: KernelContext, remote: RemoteCaches): Promise<BuildDirSnapshot | undefined> {
  if ((await remote.restore('build', buildKey(at), buildPrefixes(at))) === undefined) return undefined
  const parcel = await openBuildDirSnapshot(at.source.gitDir, at.source.treeId)
  if (!('useless' in parcel)) return parcel
  at.log.info(`The build directory that was restored is left aside: ${parcel.useless}.`)
  return undefined
}

async function fetchCcache(at: KernelContext, remote: RemoteCaches): Promise<void> {
  if (!at.request.ccache) return
  const { key, fallbacks } = ccacheKeys(at.request, at.toolchain, remote.unique)
  const began = Date.now()
  await remote.restore('ccache', key, fallbacks)
  remote.offer({ kind: 'ccache', key, before: await ccacheContents(), began })
}

/** Kbuild steps that are much */
const MANY_STEPS = 400

function describeLookUp(found: LookUp): string {
  if ('kernel' in found) return `found ${found.kernel.release} (${short(found.kernel.cache?.key ?? '')})`
  if (!found.parcel) return 'not found'
  return `not found; a build directory that differs by ${found.parcel.changed.length} files`
}

function describeMiss(differs: readonly string[] | undefined): string {
  if (!differs) return 'kernel cache: no kernel was made here before'
  return `kernel cache: a kernel that was not made before; ${differs.join('; ') || 'the nearest one was removed'}`
}
