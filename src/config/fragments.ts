import { existsSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { InputError } from '../errors.js'
import { bundledPath, isBundled } from '../request/bundled-fragments.js'
import type { ConfigBase, Request } from '../request/request.js'

/** One option that the request sets, or KernelCraft itself. */
export interface RequestedOption {
  /** without CONFIG_ */
  name: string
  /** as in .config: `y`, `m`, `n`, `"text"`, a number */
  value: string
  /** `FILE:LINE`, or the input it came from */
  origin: string
  /** The user's option has to hold; KernelCraft's own gives way to it. */
  requestedBy: 'kernelcraft' | 'user'
  /** a bundled one that not every tree has: where there is no such option, nothing is lost */
  optional?: boolean
  /** a bundled one that is requested only where the option of this name would be lost without it */
  fallbackFor?: string
}

const SET = /^CONFIG_([A-Za-z0-9_]+)=(.*)$/
const UNSET = /^# CONFIG_([A-Za-z0-9_]+) is not set$/
const VALUE = /^(?:[ymn]|-?\d+|0[xX][0-9a-fA-F]+|"(?:[^"\\]|\\.)*")$/

/** Parses one line of a .config or fragment; undefined for a comment or an empty line. Throws InputError. */
export function parseConfigLine(
  text: string,
  origin: string,
  requestedBy: RequestedOption['requestedBy'],
): RequestedOption | undefined {
  const line = text.trim()
  const unset = UNSET.exec(line)
  if (unset?.[1]) return { name: unset[1], value: 'n', origin, requestedBy }
  if (line === '' || line.startsWith('#')) return undefined
  const set = SET.exec(line)
  if (!set?.[1] || !VALUE.test(set[2] ?? '')) {
    throw new InputError(
      `${origin}: ${JSON.stringify(line)} is not a config line; write CONFIG_NAME=y, =m, =n, =number or ="text".`,
    )
  }
  return { name: set[1], value: set[2] ?? '', origin, requestedBy }
}

/** Parses a fragment; `shown` is its name in messages. */
function parseFile(path: string, shown: string, by: RequestedOption['requestedBy']): RequestedOption[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .flatMap((line, index) => parseConfigLine(line, `${shown}:${index + 1}`, by) ?? [])
}

/** A comment of a bundled fragment: of the option below it not every tree, or not every machine, has one. */
const OPTIONAL = /^# where there is one\b/
/** The same: the option below it is requested only where the named one would be lost without it. */
const FALLBACK = /^# where CONFIG_(\w+) depends on \w+\b/

function bundled(
  name: string,
  requestedBy: RequestedOption['requestedBy'] = 'kernelcraft',
): RequestedOption[] {
  const path = bundledPath(name)
  const lines = readFileSync(path, 'utf8').split('\n')
  return parseFile(path, `kernelcraft/${basename(path)}`, requestedBy).map(option => {
    const comment = lines[Number(option.origin.split(':').pop()) - 2] ?? ''
    const fallbackFor = FALLBACK.exec(comment)?.[1]
    return {
      ...option,
      ...(OPTIONAL.test(comment) ? { optional: true } : {}),
      ...(fallbackFor === undefined ? {} : { fallbackFor }),
    }
  })
}

/**
 * The bundled fragments of each configuration base, `*` is the architecture; a configuration that the user brings is
 * taken as it is.
 */
const BASES: Readonly<Partial<Record<ConfigBase['kind'], readonly string[]>>> = {
  tiny: ['base/tiny'],
  minimal: ['base/tiny', 'base/userspace', 'base/userspace-*'],
  defconfig: ['base/tiny', 'base/userspace', 'base/userspace-*'],
}

/** Everything that the request passes to Kconfig, in order; the last entry of a name counts. */
export function requestedOptions(request: Request): RequestedOption[] {
  const fragments = BASES[request.configBase.kind]
  const base = fragments
    ? [
        // not every architecture has one of its own
        ...fragments
          .map(name => name.replace('*', request.arch))
          .filter(name => existsSync(bundledPath(name))),
        'crash-dump',
        // after the base: it unsets what its machine lacks
        request.arch,
        ...(request.debugInfo === 'full' ? ['debug-info'] : []),
      ].flatMap(name => bundled(name))
    : []
  const own = request.fragments.flatMap(fragment =>
    isBundled(fragment) ? bundled(fragment, 'user') : parseFile(fragment, basename(fragment), 'user'),
  )
  const items = request.configItems.flatMap((item, index) => {
    const option = parseConfigLine(item, `config-items:${index + 1}`, 'user')
    return option ?? []
  })
  return [...base, ...own, ...items]
}

/** The last option of each name, which is the one that counts. */
export function lastOfEachName(options: readonly RequestedOption[]): RequestedOption[] {
  return [...new Map(options.map(option => [option.name, option])).values()]
}

/** Options as the lines of a .config. */
export function toConfig(options: readonly RequestedOption[]): string {
  return options
    .map(({ name, value }) => (value === 'n' ? `# CONFIG_${name} is not set\n` : `CONFIG_${name}=${value}\n`))
    .join('')
}

/** Parses a resolved .config: name to value; an option that is not set is absent. */
export function readConfig(text: string): Map<string, string> {
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const set = SET.exec(line)
    if (set?.[1]) values.set(set[1], set[2] ?? '')
  }
  return values
}

/** True if the resolved value is the requested one; 0x10 equals 16. */
export function holds(option: RequestedOption, resolved: ReadonlyMap<string, string>): boolean {
  const value = resolved.get(option.name) ?? 'n'
  if (value === option.value) return true
  // an unset string or number cannot be told from an empty one
  if (value === 'n' && (option.value === '""' || option.value === 'n')) return true
  const isNumber = /^-?(?:\d+|0[xX][0-9a-fA-F]+)$/
  return isNumber.test(value) && isNumber.test(option.value) && Number(value) === Number(option.value)
}
