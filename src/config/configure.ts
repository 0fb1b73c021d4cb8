import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ConfigError, InfraError, InputError, messageOf } from '../errors.js'
import { hashFile, sha256 } from '../host/hash.js'
import { cachePath } from '../host/paths.js'
import { describeEnd, type Finished, lastLines, run } from '../host/processes.js'
import { which } from '../host/tools.js'
import { findVirtme } from '../host/virtme.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import type { Source } from '../source/source.js'
import {
  holds,
  lastOfEachName,
  type RequestedOption,
  readConfig,
  requestedOptions,
  toConfig,
} from './fragments.js'
import { allOptions, askKconfig, describeLoss, type Kbuild, nearest, type Reason } from './kconfig.js'

export interface Config {
  /** the resolved .config */
  text: string
  values: ReadonlyMap<string, string>
  /** SHA-256 of the resolved .config */
  hash: string
}

/**
 * Generates the configuration in the build directory and holds it to its contract: every option that the user asked for
 * is in the result, or the run ends as config-failed with each loss, who asked, and the unmet dependency. `question`
 * stands for all that the answer depends on: where the build directory has the answer to it, Kconfig is not asked again.
 */
export async function configure(
  request: Request,
  source: Source,
  kbuild: Kbuild,
  question: string | undefined,
  log: Log,
  cancel?: AbortSignal,
): Promise<Config> {
  const asks = lastOfEachName(requestedOptions(request))
  const out = join(kbuild.source, kbuild.out)
  const stamp = join(out, '.kernelcraft-config')
  await mkdir(out, { recursive: true })
  const before = await readConfigFile(out)
  const known = question !== undefined && before !== undefined
  if (known && (await readFile(stamp, 'utf8').catch(() => '')) === `${question} ${sha256(before)}`)
    return resolved(before)

  await rm(stamp, { force: true })
  await generate(request, asks, kbuild, cancel)
  const text = (await readConfigFile(out)) ?? ''
  const config = resolved(text)
  const lost = asks.filter(ask => !holds(ask, config.values))
  if (lost.length > 0) {
    const why = (names: readonly string[]) => askKconfig(kbuild, names)
    await judgeLosses(lost, asks, config.values, { source, why, log })
  } else if (question !== undefined) await writeFile(stamp, `${question} ${config.hash}`)
  return config
}

/** more options of ours that give way to the user's are told in one line */
const MOST_LEFT_OUT = 4

/** Kconfig on another machine: a directory for the build, whose files can be read and written, and make. */
export interface RemoteKconfig {
  /** absolute path of the build directory there */
  out: string
  read(name: string): Promise<string | undefined>
  write(name: string, text: string): Promise<void>
  make(target: string, env: NodeJS.ProcessEnv): Promise<Finished>
}

/**
 * Generates the configuration on the machine that builds, whose compiler is what Kconfig asks, and holds it to the same
 * contract. What was lost is named without the dependency that is not met: there is nobody to ask for it here.
 */
export async function configureRemotely(
  request: Request,
  source: Source,
  there: RemoteKconfig,
  log: Log,
): Promise<Config> {
  const asks = lastOfEachName(requestedOptions(request))
  const make = async (target: string, env: NodeJS.ProcessEnv = {}) =>
    mustConfigure(target, await there.make(target, env))
  const { configBase } = request
  if (configBase.kind === 'virtme')
    throw new InputError(
      'config-base virtme is made by virtme-ng on this machine: use another one with build-host.',
    )
  if (configBase.kind === 'minimal') {
    await there.write('.kernelcraft.config', toConfig(asks))
    await make('allnoconfig', { KCONFIG_ALLCONFIG: join(there.out, '.kernelcraft.config') })
  } else {
    let base = ''
    if (configBase.kind === 'defconfig') {
      await make('defconfig')
      base = (await there.read('.config')) ?? ''
    } else {
      const file = configBase.kind === 'file' ? configBase.path : join(request.path, '.config')
      base = await readFile(file, 'utf8').catch(error => {
        throw noBase(file, error)
      })
    }
    await there.write('.config', `${base}\n${toConfig(asks)}`)
    await make('olddefconfig')
  }
  const config = resolved((await there.read('.config')) ?? '')
  const lost = asks.filter(ask => !holds(ask, config.values))
  if (lost.length > 0) await judgeLosses(lost, asks, config.values, { source, why: knownOnly(source), log })
  return config
}

/** Tells of options only whether the tree has them. */
function knownOnly(source: Source): (names: readonly string[]) => Promise<Map<string, Reason>> {
  return async names => {
    const all = new Set(await allOptions(source))
    const none = { type: '', value: '', prompt: true, unmet: [], selected: [], choice: false }
    return new Map(names.filter(name => !all.has(name)).map(name => [name, { ...none, known: false }]))
  }
}

/**
 * All that Kconfig will be asked, as one text: Kconfig's answer follows from it, the tree and the toolchain. Undefined
 * where that cannot be said beforehand.
 */
export async function requestedConfigText(request: Request): Promise<string | undefined> {
  // one word on each name is left, so that their order says nothing
  const asks = lastOfEachName(requestedOptions(request))
    .map(({ name, value, requestedBy }) => [name, value, requestedBy].join(' '))
    .sort()
  const base = await baseContents(request)
  return base === undefined ? undefined : JSON.stringify([request.configBase.kind, base, asks])
}

async function baseContents({ configBase, path }: Request): Promise<string | undefined> {
  if (configBase.kind === 'minimal' || configBase.kind === 'defconfig') return ''
  if (configBase.kind === 'virtme') return (await findVirtme()).version
  return await hashFile(configBase.kind === 'file' ? configBase.path : join(path, '.config'))
}

const readConfigFile = (out: string) => readFile(join(out, '.config'), 'utf8').catch(() => undefined)

function resolved(text: string): Config {
  return { text, values: readConfig(text), hash: sha256(text) }
}

async function make(
  kbuild: Kbuild,
  target: string,
  env: NodeJS.ProcessEnv,
  cancel?: AbortSignal,
): Promise<void> {
  const end = await run({
    file: 'make',
    args: ['-C', kbuild.source, ...kbuild.makeArgs, target],
    env,
    cancel,
    deadline: 600,
  })
  mustConfigure(target, end)
}

function mustConfigure(target: string, end: Finished): void {
  if (end.status !== 0) {
    throw new ConfigError(
      `The configuration could not be generated: ${describeEnd(`make ${target}`, end)}.`,
      lastLines(end.stderr + end.stdout, 8),
    )
  }
}

async function generate(
  request: Request,
  asks: readonly RequestedOption[],
  kbuild: Kbuild,
  cancel?: AbortSignal,
): Promise<void> {
  const out = join(kbuild.source, kbuild.out)
  const dotConfig = join(out, '.config')
  const { configBase } = request
  if (configBase.kind === 'minimal') {
    const all = join(out, '.kernelcraft.config')
    await writeFile(all, toConfig(asks))
    return await make(kbuild, 'allnoconfig', { KCONFIG_ALLCONFIG: all }, cancel)
  }
  if (configBase.kind === 'defconfig') await make(kbuild, 'defconfig', {}, cancel)
  if (configBase.kind === 'virtme') await virtmeConfig(kbuild, cancel)
  if (configBase.kind === 'current') await copyConfig(join(request.path, '.config'), dotConfig)
  if (configBase.kind === 'file') await copyConfig(configBase.path, dotConfig)
  // Kconfig takes the last word on an option
  await writeFile(dotConfig, `\n${toConfig(asks)}`, { flag: 'a' })
  await make(kbuild, 'olddefconfig', {}, cancel)
}

async function copyConfig(from: string, to: string): Promise<void> {
  try {
    await copyFile(from, to)
  } catch (error) {
    throw noBase(from, error)
  }
}

const noBase = (path: string, error: unknown) =>
  new ConfigError(`There is no configuration to start from at ${path} (${messageOf(error)}).`)

/** virtme-configkernel writes the .config into O= of the directory that it runs in. */
async function virtmeConfig(kbuild: Kbuild, cancel?: AbortSignal): Promise<void> {
  const own = cachePath('venv', 'bin', 'virtme-configkernel')
  const file =
    (await run({ file: own, args: ['--help'], deadline: 60 })).status === 0
      ? own
      : await which('virtme-configkernel')
  if (!file) throw new InfraError('virtme-configkernel is missing: run `kc doctor --install`.')
  const end = await run({
    file,
    args: ['--defconfig', ...kbuild.makeArgs],
    cwd: kbuild.source,
    cancel,
    deadline: 600,
  })
  if (end.status !== 0)
    throw new ConfigError(`${describeEnd('virtme-configkernel', end)}.`, lastLines(end.stderr, 5))
}

async function judgeLosses(
  lost: readonly RequestedOption[],
  asks: readonly RequestedOption[],
  values: ReadonlyMap<string, string>,
  at: { source: Source; why: (names: readonly string[]) => Promise<Map<string, Reason>>; log: Log },
): Promise<void> {
  const reasons = await at.why(lost.map(ask => ask.name))
  const unknown = lost.some(ask => reasons.get(ask.name)?.known === false)
  const options = unknown ? await allOptions(at.source) : []
  const describe = (ask: RequestedOption) => {
    const reason = reasons.get(ask.name)
    const near = reason?.known === false ? nearest(ask.name, options) : undefined
    return describeLoss(ask, values.get(ask.name) ?? 'n', reason, near)
  }
  // An option of ours gives way to the user's word, and one that this tree does not know (yet, or any longer)
  // is nothing that the user asked for.
  const userSpoke = asks.some(ask => ask.requestedBy === 'user')
  const yields = (ask: RequestedOption) =>
    ask.requestedBy === 'kernelcraft' && (userSpoke || ask.optional || reasons.get(ask.name)?.known === false)
  const left = lost.filter(ask => yields(ask) && !ask.optional)
  if (left.length <= MOST_LEFT_OUT) for (const ask of left) at.log.warning(`Left out: ${describe(ask)}`)
  else {
    const names = left.map(({ name }) => `CONFIG_${name}`).join(', ')
    at.log.warning(`${left.length} options of KernelCraft's own were left out (--verbose says why): ${names}`)
    for (const ask of left) at.log.detail(describe(ask))
  }
  const failed = lost.filter(ask => !yields(ask))
  if (failed.length === 0) return
  const sentences = failed.map(describe)
  const [first] = sentences
  throw new ConfigError(
    failed.length === 1 && first
      ? first
      : `${failed.length} options that were asked for are not in the configuration.`,
    sentences,
  )
}
