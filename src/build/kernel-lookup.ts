import { existsSync } from 'node:fs'
import { sha256 } from '../host/hash.js'
import { seriesOf } from '../source/workspace.js'
import { type BuildDirSnapshot, isSmallChange, openBuildDirSnapshot } from './build-dir-snapshot.js'
import type { BuiltKernel } from './build-kernel.js'
import { ccacheContents, ccacheKeys } from './ccache.js'
import { type ConfigRecord, findConfigRecord } from './config-records.js'
import { findKernel } from './kernel-cache.js'
import type { KernelContext } from './kernel-context.js'
import type { RemoteCaches } from './remote-caches.js'

/** Looking for a kernel in the caches, on this machine and beyond it, before anything is checked out. */

/** A kernel and its resolved .config. */
export interface KernelWithConfig {
  kernel: BuiltKernel
  config: string
}

/** What was found: the kernel, or perhaps a build-dir snapshot that makes building it shorter. */
export type LookUp = KernelWithConfig | { snapshot?: BuildDirSnapshot }

/** Finds the kernel by its config key; where there is none, restores what makes building it shorter. */
export async function lookUp(context: KernelContext): Promise<LookUp> {
  const { configKey, remote } = context
  const record = configKey === undefined ? undefined : await fetchConfigRecord(configKey, context)
  if (record) {
    const kernel = await fetchKernel(record.key, context)
    if (kernel) {
      for (const warning of record.warnings) context.log.warning(warning)
      return { kernel: { ...kernel, cache: { key: record.key, hit: true } }, config: record.config }
    }
  }
  if (!remote || context.host) return {}
  const snapshot = await fetchSnapshot(context, remote)
  if (!snapshot || !isSmallChange(snapshot)) await fetchCcache(context, remote)
  return snapshot ? { snapshot } : {}
}

/** The kernel of this key, restored from the remote caches if this machine's has none; undefined if neither has one. */
export async function fetchKernel(key: string, context: KernelContext): Promise<BuiltKernel | undefined> {
  const warn = (message: string) => context.log.warning(message)
  let found = await findKernel(key, warn)
  if (!found && (await context.remote?.restore('kernel', key)) !== undefined)
    found = await findKernel(key, warn)
  // one whose vmlinux is still on a build host is incomplete for a run without that host
  if (found && !context.host && !existsSync(found.vmlinux)) return undefined
  return found
}

async function fetchConfigRecord(
  configKey: string,
  context: KernelContext,
): Promise<ConfigRecord | undefined> {
  const found = await findConfigRecord(configKey)
  if (found || !context.remote) return found
  const prefixes = [configPrefix(context), `${context.request.arch}-`]
  await context.remote.restore('config', configCacheKey(context), prefixes)
  return await findConfigRecord(configKey)
}

async function fetchSnapshot(
  context: KernelContext,
  remote: RemoteCaches,
): Promise<BuildDirSnapshot | undefined> {
  const { source, log } = context
  const restored = await remote.restore('build', snapshotCacheKey(context), snapshotPrefixes(context))
  if (restored === undefined) return undefined
  const snapshot = await openBuildDirSnapshot(source.gitDir, source.treeId)
  if (!('useless' in snapshot)) return snapshot
  log.info(`The build directory that was restored is not used: ${snapshot.useless}.`)
  return undefined
}

async function fetchCcache({ request, toolchain }: KernelContext, remote: RemoteCaches): Promise<void> {
  if (!request.ccache) return
  const { key, fallbacks } = ccacheKeys(request, toolchain, remote.unique)
  const began = Date.now()
  await remote.restore('ccache', key, fallbacks)
  remote.offer({ kind: 'ccache', key, before: await ccacheContents(), began })
}

const short = (text: string) => text.slice(0, 12)
const toolchainHash = ({ toolchain }: KernelContext) => short(sha256(JSON.stringify(toolchain.identity)))
const configPrefix = (context: KernelContext) => `${context.request.arch}-${toolchainHash(context)}-`

/** The key of the config records in the remote caches. */
export const configCacheKey = (context: KernelContext) => configPrefix(context) + context.configKey

/** Prefixes of the keys of build-dir snapshots, the nearest one first. */
function snapshotPrefixes(context: KernelContext): string[] {
  const { request, source, requestedConfigHash } = context
  const parts = [request.arch, toolchainHash(context), seriesOf(source), short(requestedConfigHash)]
  return [4, 3].map(count => `${parts.slice(0, count).join('-')}-`)
}

/** The key of a build-dir snapshot in the remote caches. */
export const snapshotCacheKey = (context: KernelContext) =>
  `${snapshotPrefixes(context)[0]}${short(context.source.treeId)}`
