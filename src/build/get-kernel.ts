import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Config, requestedConfigText } from '../config/configure.js'
import { sha256 } from '../host/hash.js'
import { describeLookUp, describeMiss, LOOK_UP_TITLE } from '../report/stages.js'
import { commitText } from '../result.js'
import { FILES } from '../run-directory.js'
import type { BuildDirSnapshot } from './build-dir-snapshot.js'
import { type BuildHost, openBuildHost } from './build-host.js'
import type { BuiltKernel, Kernel } from './build-kernel.js'
import type { Builder } from './builder.js'
import {
  type ConfigRecord,
  commitFacts,
  differsFromNearest,
  inputsOf,
  pruneConfigRecords,
  writeConfigRecord,
} from './config-records.js'
import { configKeyOf, type Identity, kernelKey } from './identity.js'
import { pruneKernels, storeKernel } from './kernel-cache.js'
import type { BuildContext, KernelContext } from './kernel-context.js'
import {
  configCacheKey,
  fetchKernel,
  type KernelWithConfig,
  lookUp,
  snapshotCacheKey,
} from './kernel-lookup.js'
import { localBuilder } from './local-builder.js'
import { recordPrevious, takePrevious } from './previous-kernel.js'
import { remoteBuilder } from './remote-builder.js'
import { findToolchain, type Toolchain } from './toolchain.js'

/**
 * The kernel under test: with `--skip-build` the previous one; else one from the kernel cache, found by its config key;
 * else one that is configured and, if the cache has none with this configuration, built and stored. What the kernel needs
 * until the run ends is registered with `context.cleanup`.
 */
export async function getKernel(context: BuildContext): Promise<Kernel> {
  const { request, log, cancel } = context
  if (request.skipBuild) return await previousKernel(context)
  if (!request.buildHost)
    return await getFromCacheOrBuild(await kernelContext(context, await findToolchain(request.arch)))
  const host = await openBuildHost(request.buildHost, request.arch, log.info, cancel)
  try {
    await reportOtherCompiler(context, host)
    return await getFromCacheOrBuild(await kernelContext(context, host.toolchain, host))
  } finally {
    await host.close()
  }
}

async function previousKernel({ request, source, result, log }: BuildContext): Promise<Kernel> {
  const previous = await takePrevious(source, request.arch, join(result.runDirectory, 'image'))
  if (previous.treeId !== source.treeId && result.source) {
    const { sha, treeId, subject, dirty } = previous
    result.source = { ...result.source, sha, treeId, subject, dirty }
    log.warning(
      `The kernel under test was built from ${commitText(previous)}, not from ${commitText(source)} as it is now.`,
    )
  }
  await writeFile(join(result.runDirectory, FILES.config), previous.config)
  return previous.kernel
}

/** Reports a build host whose compiler is not this machine's: it may not fit what is built on this machine later. */
async function reportOtherCompiler(
  { request, log }: BuildContext,
  { host, toolchain }: BuildHost,
): Promise<void> {
  const { compiler } = await findToolchain(request.arch)
  if (compiler === toolchain.compiler) return
  const local = compiler ? `; the compiler of this machine is ${compiler}` : ''
  if (request.modules.length === 0) log.info(`${host} compiles with ${toolchain.compiler}${local}.`)
  else
    log.warning(
      `The kernel is compiled with ${toolchain.compiler} on ${host}, its external modules on this machine with ${compiler}.`,
    )
}

async function kernelContext(
  context: BuildContext,
  toolchain: Toolchain,
  host?: BuildHost,
): Promise<KernelContext> {
  const { request, source } = context
  const identity: Identity = {
    tree: source.treeId,
    toolchain: toolchain.identity,
    arch: request.arch,
    localversion: request.localversion,
    modules: !request.skipModules,
  }
  const requested = await requestedConfigText(request)
  return {
    ...context,
    toolchain,
    ...(host ? { host } : {}),
    identity,
    requestedConfigHash: sha256(requested ?? ''),
    configKey: requested === undefined ? undefined : configKeyOf(identity, requested),
  }
}

async function getFromCacheOrBuild(context: KernelContext): Promise<Kernel> {
  const { request, source } = context
  const found = request.kernelCache ? await getWithCache(context) : await buildWithoutCache(context)
  const kernel: Kernel = { ...found.kernel, configBase: request.configBase.kind }
  await recordPrevious(source, kernel, found.config)
  return kernel
}

const openBuilder = (context: KernelContext, snapshot?: BuildDirSnapshot): Promise<Builder> =>
  context.host ? remoteBuilder(context, context.host) : localBuilder(context, snapshot)

async function buildWithoutCache(context: KernelContext): Promise<KernelWithConfig> {
  const { identity, source } = context
  const builder = await openBuilder(context)
  // the kernel under test stays in the workspace
  context.cleanup.defer(() => builder.release())
  const { config } = await builder.configure()
  const built = await builder.build(config)
  if (!context.host) return { kernel: built.kernel, config: config.text }
  // what was fetched from a build host has no workspace to stay in for the next --skip-build
  const stored = { ...built, identity, commit: commitFacts(source) }
  return { kernel: await storeKernel(kernelKey(identity, config.hash), stored), config: config.text }
}

async function getWithCache(context: KernelContext): Promise<KernelWithConfig> {
  const found = await context.stage(
    'cache',
    LOOK_UP_TITLE,
    () => lookUp(context),
    result =>
      'kernel' in result
        ? describeLookUp(result.kernel, undefined)
        : describeLookUp(undefined, result.snapshot?.changed.length),
  )
  const got = 'kernel' in found ? found : await configureAndGet(context, found.snapshot)
  // stage config was skipped, or resolved what an earlier run has built
  if (got.kernel.reused) await writeFile(join(context.result.runDirectory, FILES.config), got.config)
  return got
}

/** Configures the kernel, then takes the one with this configuration from the cache, or builds it. */
async function configureAndGet(
  context: KernelContext,
  snapshot: BuildDirSnapshot | undefined,
): Promise<KernelWithConfig> {
  const builder = await openBuilder(context, snapshot)
  try {
    const { config, warnings } = await builder.configure()
    const { identity, source } = context
    const key = kernelKey(identity, config.hash)
    const record = { key, identity, commit: commitFacts(source), config: config.text, warnings }
    // another request may have resolved to the same configuration
    const found = await fetchKernel(key, context)
    if (!found)
      return { kernel: await buildAndStore(context, builder, config, record, snapshot), config: config.text }
    await recordConfig(context, record)
    return { kernel: { ...found, cache: { key, hit: true } }, config: config.text }
  } finally {
    // the kernel is in the cache: the next build need not wait until this guest has ended
    await builder.release()
  }
}

/** Kbuild steps from which on a build directory that was continued from a snapshot is saved as a new one. */
const MANY_STEPS = 400

async function buildAndStore(
  context: KernelContext,
  builder: Builder,
  config: Config,
  record: Omit<ConfigRecord, 'configKey'>,
  snapshot: BuildDirSnapshot | undefined,
): Promise<BuiltKernel> {
  const { remote, log } = context
  const { key, identity, commit } = record
  const differs = await differsFromNearest(inputsOf(record))
  log.info(describeMiss(differs))
  const built = await builder.build(config)
  const kernel = await storeKernel(key, { ...built, identity, commit })
  await recordConfig(context, record)
  remote?.offer({ kind: 'kernel', key })
  if (built.snapshot && (snapshot === undefined || built.steps >= MANY_STEPS))
    remote?.offer({ kind: 'build', key: snapshotCacheKey(context), ...built.snapshot })
  await pruneCaches(context)
  return { ...kernel, cache: { key, hit: false, ...(differs ? { differs } : {}) } }
}

/** Records which configuration the config key resolves to, here and in the remote caches. */
async function recordConfig(context: KernelContext, record: Omit<ConfigRecord, 'configKey'>): Promise<void> {
  const { configKey, remote } = context
  if (configKey === undefined) return
  await writeConfigRecord({ configKey, ...record })
  remote?.offer({ kind: 'config', key: configCacheKey(context) })
}

async function pruneCaches({ request, log }: KernelContext): Promise<void> {
  for (const { manifest } of await pruneKernels(request.kernelCacheMaxBytes))
    log.detail(`kernel cache: removed ${manifest.kernel.release} (${manifest.key.slice(0, 12)})`)
  await pruneConfigRecords()
}
