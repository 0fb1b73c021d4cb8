import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hashFile, sha256 } from '../host/hash.js'
import { findVirtme } from '../host/virtme.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import type { Source } from '../source/source.js'
import { holds, lastOfEachName, type RequestedOption, readConfig, requestedOptions } from './fragments.js'
import { baseFile, generate, type KconfigDirectory, localDirectory } from './generate.js'
import { explainOptions, type Kbuild } from './kconfig.js'
import { checkOptions, explainUnknown } from './lost-options.js'

export interface Config {
  /** the resolved .config */
  text: string
  /** its options: name without CONFIG_ to value; an option that is not set is absent */
  values: ReadonlyMap<string, string>
  /** SHA-256 of the resolved .config */
  hash: string
}

/**
 * Generates the configuration in the build directory and guarantees that every option that the user requested is in the
 * result: else it throws ConfigError with each loss, its origin, and the unmet dependency. `configKey` stands for all that
 * the result depends on: where the build directory was configured with the same key, Kconfig does not run again.
 */
export async function configure(
  request: Request,
  source: Source,
  kbuild: Kbuild,
  configKey: string | undefined,
  log: Log,
  cancel?: AbortSignal,
): Promise<Config> {
  const directory = localDirectory(kbuild, cancel)
  await mkdir(directory.out, { recursive: true })
  const stamp = configStamp(directory.out)
  const before = await directory.read('.config')
  if (configKey !== undefined && before !== undefined) {
    const config = parseConfig(before)
    if ((await stamp.read()) === stampText(configKey, config)) return config
  }
  await stamp.remove()
  const { config, options } = await resolve(request, directory)
  const explain = (names: readonly string[]) => explainOptions(kbuild, names)
  const complete = await checkOptions(options, config.values, source, explain, log)
  if (complete && configKey !== undefined) await stamp.write(stampText(configKey, config))
  return config
}

/** Records in a build directory which config key its .config was generated for. */
function configStamp(out: string) {
  const path = join(out, '.kernelcraft-config')
  return {
    read: () => readFile(path, 'utf8').catch(() => ''),
    write: (text: string) => writeFile(path, text),
    remove: () => rm(path, { force: true }),
  }
}

const stampText = (configKey: string, { hash }: Config) => `${configKey} ${hash}`

/**
 * The same on a build host, whose compiler Kconfig looks at. A lost option is reported without the dependency that is not
 * met: the objects of Kconfig that could print it are on the host.
 */
export async function configureRemotely(
  request: Request,
  source: Source,
  directory: KconfigDirectory,
  log: Log,
): Promise<Config> {
  const { config, options } = await resolve(request, directory)
  await checkOptions(options, config.values, source, explainUnknown(source), log)
  return config
}

/** Generates the configuration, with fallback options only where the options that they are for are lost without them. */
async function resolve(
  request: Request,
  directory: KconfigDirectory,
): Promise<{ config: Config; options: RequestedOption[] }> {
  const all = lastOfEachName(requestedOptions(request))
  const options = all.filter(({ fallbackFor }) => fallbackFor === undefined)
  const config = parseConfig(await generate(request, options, directory))
  const lost = new Set(options.filter(option => !holds(option, config.values)).map(({ name }) => name))
  const fallbacks = all.filter(({ fallbackFor }) => fallbackFor !== undefined && lost.has(fallbackFor))
  if (fallbacks.length === 0) return { config, options }
  const extended = [...options, ...fallbacks]
  return { config: parseConfig(await generate(request, extended, directory)), options: extended }
}

/**
 * All that the request passes to Kconfig, as one text: with the tree and the toolchain it determines the resolved
 * configuration. Undefined where it is not known beforehand.
 */
export async function requestedConfigText(request: Request): Promise<string | undefined> {
  // each name is there only once, so that the order has no meaning
  const options = lastOfEachName(requestedOptions(request))
    .map(({ name, value, requestedBy, fallbackFor = '' }) =>
      [name, value, requestedBy, fallbackFor].join(' '),
    )
    .sort()
  const base = await baseContents(request)
  return base === undefined ? undefined : JSON.stringify([request.configBase.kind, base, options])
}

/** Identifies what the options are added to: a hash of a file, or the version of what generates it. */
async function baseContents(request: Request): Promise<string | undefined> {
  const file = baseFile(request)
  if (file !== undefined) return await hashFile(file)
  return request.configBase.kind === 'virtme' ? (await findVirtme()).version : ''
}

function parseConfig(text: string): Config {
  return { text, values: readConfig(text), hash: sha256(text) }
}
