import { totalmem } from 'node:os'
import { ARCH_NAMES, type ArchName, findArch, hostArch } from '../arch.js'
import { InputError } from '../errors.js'
import type { Network } from './request.js'

/** Parsers of single values that look at nothing but the text: text in, a typed value out, or InputError. */

export const quote = (text: string) => JSON.stringify(text)

/** The error of an option's value, with what the option takes instead: `memory is "12x": write a size ...`. */
export const invalid = (option: string, value: string, hint: string): InputError =>
  new InputError(`${option} is ${quote(value)}: ${hint}.`, option)

/** One of the listed values. Throws InputError. */
export function parseChoice<T extends string>(name: string, value: string, choices: readonly T[]): T {
  if ((choices as readonly string[]).includes(value)) return value as T
  throw invalid(name, value, `it takes ${choices.join(', ')}`)
}

const BOOLEANS: Readonly<Record<string, boolean>> = {
  ...{ true: true, yes: true, on: true, '1': true },
  ...{ false: false, no: false, off: false, '0': false },
}

/** A boolean in any of its usual spellings, in upper or lower case. Throws InputError. */
export function parseBoolean(name: string, value: string): boolean {
  const parsed = BOOLEANS[value.toLowerCase()]
  if (parsed === undefined) throw invalid(name, value, 'it takes true or false')
  return parsed
}

/** Bytes of `512M`, `2G`; a number alone is MiB. NaN for anything else. */
function parseSize(value: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$/i.exec(value.trim())
  const unit = { k: 10, '': 20, m: 20, g: 30, t: 40 }[match?.[2]?.toLowerCase() ?? '']
  return match && unit ? Math.floor(Number(match[1]) * 2 ** unit) : Number.NaN
}

const SIZE_HINT = 'write a size such as 512M or 2G'

/** MiB of `512M`, `2G`, `1024`: at least 64, at most what the host has. Throws InputError. */
export function parseMemory(name: string, value: string): number {
  const size = Math.floor(parseSize(value) / 2 ** 20)
  if (Number.isNaN(size)) throw invalid(name, value, SIZE_HINT)
  if (size < 64) throw invalid(name, value, 'a guest needs at least 64M')
  const host = Math.floor(totalmem() / (1 << 20))
  if (size > host) throw invalid(name, value, `this machine has ${host}M in all`)
  return size
}

/** Bytes of a size limit, above zero. Throws InputError. */
export function parseMaxSize(name: string, value: string): number {
  const bytes = parseSize(value)
  if (bytes > 0) return bytes
  throw invalid(name, value, SIZE_HINT)
}

/** A size as ccache's max_size takes it, unchanged. Throws InputError. */
export function parseCcacheSize(value: string): string {
  if (/^\d+(\.\d+)?\s*([KMGT]i?B?)?$/i.test(value)) return value
  throw invalid('ccache-max-size', value, 'write a size such as 500M or 2G')
}

/** Seconds of `90`, `90s`, `5m`, `1h`; Infinity of `off`. Throws InputError. */
export function parseDuration(name: string, value: string): number {
  if (value.trim().toLowerCase() === 'off') return Number.POSITIVE_INFINITY
  const match = /^(\d+(?:\.\d+)?)\s*(s|sec|m|min|h)?$/i.exec(value.trim())
  const unit = match?.[2]?.toLowerCase() ?? 's'
  const seconds = match ? Number(match[1]) * (unit[0] === 'h' ? 3600 : unit[0] === 'm' ? 60 : 1) : Number.NaN
  if (!(seconds > 0))
    throw invalid(name, value, 'write a time above zero such as 90s, 5m or 1h, or off for none')
  // timers of Node overflow at 2^31 ms, which is 24.8 days
  if (seconds > 7 * 86400) throw invalid(name, value, 'at most a week; off disables the limit')
  return seconds
}

/** A number from 1 to `most`. Throws InputError. */
export function parseCount(name: string, value: string, most: number): number {
  const count = /^\d+$/.test(value.trim()) ? Number(value) : 0
  if (count < 1 || count > most) throw invalid(name, value, `it takes a number from 1 to ${most}`)
  return count
}

/** A commit as gitrevisions(7) writes it, not a range, a path or an option. Throws InputError. */
export function parseRef(value: string): string {
  const ref = value.trim()
  if (ref.startsWith('-')) throw invalid('ref', value, 'a ref cannot begin with a dash')
  const control = [...ref].some(char => char <= ' ' || char === '\x7f')
  if (control || /[:?*[\\]|\.\.|^[+^]/.test(ref))
    throw invalid('ref', value, 'write one commit, such as v6.12, a branch, a SHA or HEAD~2')
  return ref
}

/** The bridge that virtme-run uses by default: libvirt's. */
const DEFAULT_BRIDGE = 'virbr0'

/** `none`, `user`, `loop`, `bridge` or `bridge=NAME`. Throws InputError. */
export function parseNetwork(value: string): Network {
  const [, kind, bridge = DEFAULT_BRIDGE] =
    /^(none|user|loop|bridge)(?:(?<=bridge)=([\w.-]+))?$/.exec(value) ?? []
  if (kind === 'bridge') return { kind, bridge }
  if (kind === 'none' || kind === 'user' || kind === 'loop') return { kind }
  throw invalid('network', value, 'it takes none, user, bridge, bridge=NAME or loop')
}

/** A suffix of the kernel release, which may be empty. Throws InputError. */
export function parseLocalversion(value: string): string {
  if (/^[\w.+~-]{0,40}$/.test(value)) return value
  throw invalid('localversion', value, 'at most 40 letters, digits, and . _ + ~ - are allowed in a release')
}

/** A destination of ssh(1) that cannot be read as an option or a command. Throws InputError. */
export function parseDestination(value: string): string {
  if (
    /^(?:ssh:\/\/)?(?:[\w.+~-]+@)?[\w][\w.-]*(?::\d+)?$/.test(value) &&
    (!value.includes(':') || value.startsWith('ssh://'))
  )
    return value
  throw invalid('build-host', value, 'write user@host, or ssh://user@host:port')
}

/** An architecture by any of its names. Throws InputError. */
export function parseArch(value: string): ArchName {
  const arch = findArch(value.toLowerCase())
  if (arch) return arch
  throw invalid('arch', value, `it takes ${ARCH_NAMES.join(', ')}`)
}

/** The architecture of this machine. Throws InputError where KernelCraft does not support it. */
export function ownArch(): ArchName {
  const arch = hostArch()
  if (arch) return arch
  throw new InputError(
    `This machine is ${process.arch}: name one of ${ARCH_NAMES.join(', ')} with arch.`,
    'arch',
  )
}

/** A NUMA node as virtme-run's --numa takes it. Throws InputError. */
export function parseNuma(value: string): string {
  if (/^\d+[KMGT]?(?:,cpus=[\d,-]+)?$/i.test(value)) return value
  throw invalid('numa', value, 'write a size and CPUs, such as 512M,cpus=0-1')
}

/**
 * A storage as ccache names it: a URL, then attributes, each after a `|` (ccache(1), REMOTE STORAGE BACKENDS). Throws
 * InputError.
 */
export function parseRemote(value: string): string {
  const [url = ''] = value.trim().split('|')
  const known = /^(?:http|redis(?:\+unix)?|file):$/
  if (URL.canParse(url) && known.test(new URL(url).protocol) && !/\s/.test(value.trim())) return value.trim()
  // the value may hold a password: it is not repeated
  throw new InputError(
    'ccache-remote is not a storage of ccache: write one URL such as http://cache.example/kernel or redis://cache.example.',
    'ccache-remote',
  )
}
