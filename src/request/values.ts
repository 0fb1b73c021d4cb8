import { accessSync, constants, statSync } from 'node:fs'
import { totalmem } from 'node:os'
import { resolve } from 'node:path'
import { ARCH_NAMES, type ArchName, findArch, hostArch } from '../arch.js'
import { InputError } from '../errors.js'
import type { Network } from './request.js'

/** Single values of options, each by its form alone: text in, a typed value out, or InputError with one sentence. */

export const quote = (text: string) => JSON.stringify(text)

/** One of the words that are allowed. Throws InputError. */
export function parseChoice<T extends string>(name: string, value: string, choices: readonly T[]): T {
  if ((choices as readonly string[]).includes(value)) return value as T
  throw new InputError(`${name} is ${quote(value)}: it takes ${choices.join(', ')}.`)
}

export function parseBoolean(name: string, value: string): boolean {
  const known: Record<string, boolean> = {
    true: true,
    yes: true,
    on: true,
    '1': true,
    false: false,
    no: false,
    off: false,
    '0': false,
  }
  const parsed = known[value.toLowerCase()]
  if (parsed === undefined) throw new InputError(`${name} is ${quote(value)}: it takes true or false.`)
  return parsed
}

/** Bytes of `512M`, `2G`; a number alone is MiB. NaN for anything else. */
function parseSize(value: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$/i.exec(value.trim())
  const unit = { k: 10, '': 20, m: 20, g: 30, t: 40 }[match?.[2]?.toLowerCase() ?? '']
  return match && unit ? Math.floor(Number(match[1]) * 2 ** unit) : Number.NaN
}

/** MiB of `512M`, `2G`, `1024`. */
export function parseMemory(name: string, value: string): number {
  const size = Math.floor(parseSize(value) / 2 ** 20)
  if (Number.isNaN(size)) throw new InputError(`${name} is ${quote(value)}: write a size such as 512M or 2G.`)
  if (size < 64) throw new InputError(`${name} is ${quote(value)}: a guest needs at least 64M.`)
  const host = Math.floor(totalmem() / (1 << 20))
  if (size > host) throw new InputError(`${name} is ${quote(value)}: this machine has ${host}M in all.`)
  return size
}

/** Bytes of a size that is a limit. Throws InputError. */
export function parseMaxSize(name: string, value: string): number {
  const bytes = parseSize(value)
  if (bytes > 0) return bytes
  throw new InputError(`${name} is ${quote(value)}: write a size such as 512M or 2G.`)
}

/** Seconds of `90`, `90s`, `5m`, `1h`; Infinity of `off`. */
export function parseDuration(name: string, value: string): number {
  if (value.trim().toLowerCase() === 'off') return Number.POSITIVE_INFINITY
  const match = /^(\d+(?:\.\d+)?)\s*(s|sec|m|min|h)?$/i.exec(value.trim())
  const unit = match?.[2]?.toLowerCase() ?? 's'
  const seconds = match ? Number(match[1]) * (unit[0] === 'h' ? 3600 : unit[0] === 'm' ? 60 : 1) : Number.NaN
  if (!(seconds > 0)) {
    throw new InputError(
      `${name} is ${quote(value)}: write a time above zero such as 90s, 5m or 1h, or off for none.`,
    )
  }
  // beyond a week timers overflow and nobody waits
  if (seconds > 7 * 86400)
    throw new InputError(`${name} is ${quote(value)}: at most a week; off is no limit.`)
  return seconds
}

export function parseCount(name: string, value: string, most: number): number {
  const count = /^\d+$/.test(value.trim()) ? Number(value) : 0
  if (count < 1 || count > most)
    throw new InputError(`${name} is ${quote(value)}: it takes a number from 1 to ${most}.`)
  return count
}

/** A ref as gitrevisions(7) writes commits, without the forms that name something else (ranges, paths, options). */
export function parseRef(value: string): string {
  const ref = value.trim()
  if (ref.startsWith('-')) throw new InputError(`ref is ${quote(value)}: a ref cannot begin with a dash.`)
  const control = [...ref].some(char => char <= ' ' || char === '\x7f')
  if (control || /[:?*[\\]|\.\.|^[+^]/.test(ref)) {
    throw new InputError(
      `ref is ${quote(value)}: write one commit, such as v6.12, a branch, a SHA or HEAD~2.`,
    )
  }
  return ref
}

export function existing(name: string, value: string, cwd: string, kind: 'file' | 'directory'): string {
  const path = resolve(cwd, value)
  let found: boolean
  try {
    const info = statSync(path)
    found = kind === 'directory' ? info.isDirectory() : !info.isDirectory()
    if (found) accessSync(path, constants.R_OK)
  } catch (error) {
    const denied = (error as NodeJS.ErrnoException).code === 'EACCES'
    throw new InputError(`${name}: ${quote(value)} ${denied ? 'may not be read' : 'does not exist'}.`)
  }
  if (!found)
    throw new InputError(
      `${name}: ${quote(value)} is ${kind === 'file' ? 'a directory, not a file' : 'not a directory'}.`,
    )
  return path
}

/** virtme-run's own choice of a bridge: libvirt's. */
const DEFAULT_BRIDGE = 'virbr0'

export function parseNetwork(value: string): Network {
  const [, kind, bridge = DEFAULT_BRIDGE] =
    /^(none|user|loop|bridge)(?:(?<=bridge)=([\w.-]+))?$/.exec(value) ?? []
  if (kind === 'bridge') return { kind, bridge }
  if (kind === 'none' || kind === 'user' || kind === 'loop') return { kind }
  throw new InputError(`network is ${quote(value)}: it takes none, user, bridge, bridge=NAME or loop.`)
}

export function parseLocalversion(value: string): string {
  if (/^[\w.+~-]{0,40}$/.test(value)) return value
  throw new InputError(
    `localversion is ${quote(value)}: at most 40 letters, digits, and . _ + ~ - are allowed in a release.`,
  )
}

/** A destination of ssh(1) that can be nothing else: no option, no command. */
export function parseDestination(value: string): string {
  if (
    /^(?:ssh:\/\/)?(?:[\w.+~-]+@)?[\w][\w.-]*(?::\d+)?$/.test(value) &&
    (!value.includes(':') || value.startsWith('ssh://'))
  )
    return value
  throw new InputError(`build-host is ${quote(value)}: write user@host, or ssh://user@host:port.`)
}

/** An architecture by any of its names. Throws InputError. */
export function parseArch(value: string): ArchName {
  const arch = findArch(value.toLowerCase())
  if (arch) return arch
  throw new InputError(`arch is ${quote(value)}: it takes ${ARCH_NAMES.join(', ')}.`)
}

export function ownArch(): ArchName {
  const arch = hostArch()
  if (arch) return arch
  throw new InputError(`This machine is ${process.arch}: name one of ${ARCH_NAMES.join(', ')} with arch.`)
}

export function parseNuma(value: string): string {
  if (/^\d+[KMGT]?(?:,cpus=[\d,-]+)?$/i.test(value)) return value
  throw new InputError(`numa is ${quote(value)}: write a size and CPUs, such as 512M,cpus=0-1.`)
}

/** A storage as ccache names it: a URL, then perhaps attributes after bars (ccache(1), REMOTE STORAGE BACKENDS). */
export function parseRemote(value: string): string {
  const [url = ''] = value.trim().split('|')
  const known = /^(?:http|redis(?:\+unix)?|file):$/
  if (URL.canParse(url) && known.test(new URL(url).protocol) && !/\s/.test(value.trim())) return value.trim()
  // the value may hold a password: it is not repeated
  throw new InputError(
    'ccache-remote is no storage of ccache: write one URL such as http://cache.example/kernel or redis://cache.example.',
  )
}
