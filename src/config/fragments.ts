import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { InputError } from '../errors.js'
import { bundledPath, isBundled } from '../request/bundled-fragments.js'
import type { Request } from '../request/request.js'

/** One option that somebody asked for. */
export interface RequestedOption {
  /** without CONFIG_ */
  name: string
  /** as in .config: `y`, `m`, `n`, `"text"`, a number */
  value: string
  /** `FILE:LINE`, or the input it came from */
  origin: string
  /** ours, or the user's: the user's word is final and has to hold */
  requestedBy: 'kernelcraft' | 'user'
  /** one of ours that not every tree has: where there is no such option, nothing is lost */
  optional?: boolean
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
      `${origin}: ${JSON.stringify(line)} is no config line; write CONFIG_NAME=y, =m, =n, =number or ="text".`,
    )
  }
  return { name: set[1], value: set[2] ?? '', origin, requestedBy }
}

function parseFile(path: string, shown: string, by: RequestedOption['requestedBy']): RequestedOption[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .flatMap((line, index) => parseConfigLine(line, `${shown}:${index + 1}`, by) ?? [])
}

/** A comment of our fragments that says of the option below it that not every tree, or not for every machine, has it. */
const SOMEWHERE = /^# where there is one\b/

function bundled(name: string, by: RequestedOption['requestedBy'] = 'kernelcraft'): RequestedOption[] {
  const path = bundledPath(name)
  const lines = readFileSync(path, 'utf8').split('\n')
  return parseFile(path, `kernelcraft/${name}.config`, by).map(ask => {
    const before = lines[Number(ask.origin.split(':').pop()) - 2] ?? ''
    return SOMEWHERE.test(before) ? { ...ask, optional: true } : ask
  })
}

/** Everything that the request asks of Kconfig, in the order in which it is said; the last word on a name wins. */
export function requestedOptions(request: Request): RequestedOption[] {
  // a configuration that somebody else chose is taken as it is
  const ours = request.configBase.kind === 'minimal' || request.configBase.kind === 'defconfig'
  const base = ours
    ? [
        ...bundled('common'),
        ...bundled('crash-dump'),
        // has the last word on what its machine lacks
        ...bundled(request.arch),
        ...(request.debugInfo === 'full' ? bundled('debug-info') : []),
      ]
    : []
  const fragments = request.fragments.flatMap(fragment =>
    isBundled(fragment) ? bundled(fragment, 'user') : parseFile(fragment, basename(fragment), 'user'),
  )
  const items = request.configItems.flatMap((item, index) => {
    const ask = parseConfigLine(item, `config-items:${index + 1}`, 'user')
    return ask ?? []
  })
  return [...base, ...fragments, ...items]
}

/** The last word on each name. */
export function lastOfEachName(asks: readonly RequestedOption[]): RequestedOption[] {
  return [...new Map(asks.map(ask => [ask.name, ask])).values()]
}

/** Asks as the lines of a .config. */
export function toConfig(asks: readonly RequestedOption[]): string {
  return asks
    .map(({ name, value }) => (value === 'n' ? `# CONFIG_${name} is not set\n` : `CONFIG_${name}=${value}\n`))
    .join('')
}

/** Values of a resolved .config by name; what is not set is absent. */
export function readConfig(text: string): Map<string, string> {
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const set = SET.exec(line)
    if (set?.[1]) values.set(set[1], set[2] ?? '')
  }
  return values
}

/** True if the resolved value is what was asked for; 0x10 is 16. */
export function holds(ask: RequestedOption, resolved: ReadonlyMap<string, string>): boolean {
  const value = resolved.get(ask.name) ?? 'n'
  if (value === ask.value) return true
  // an unset string or number cannot be told from an empty one
  if (value === 'n' && (ask.value === '""' || ask.value === 'n')) return true
  const isNumber = /^-?(?:\d+|0[xX][0-9a-fA-F]+)$/
  return isNumber.test(value) && isNumber.test(ask.value) && Number(value) === Number(ask.value)
}
