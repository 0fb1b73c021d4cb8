import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { InfraError } from '../errors.js'
import { sha256 } from './hash.js'

/** Where distributions put QEMU's helper that makes a tap device on a bridge (Debian, Fedora, Arch). */
const HELPERS = ['/usr/lib/qemu/qemu-bridge-helper', '/usr/libexec/qemu-bridge-helper']
const RULES = '/etc/qemu/bridge.conf'

/**
 * True if QEMU's helper may use the bridge, by the lines of its bridge.conf: one that allows, and none that denies
 * (qemu-bridge-helper.c). `include` gives the text of a further file.
 */
export function allows(text: string, bridge: string, include: (path: string) => string): boolean {
  const words = (of: string, depth: number): string[][] =>
    of.split('\n').flatMap(line => {
      const [word = '', name = ''] = line.trim().split(/\s+/)
      if (word === 'include' && depth < 8) return words(include(name), depth + 1)
      return [[word, name]]
    })
  const said = words(text, 0).filter(([, name]) => name === bridge || name === 'all')
  return said.some(([word]) => word === 'allow') && !said.some(([word]) => word === 'deny')
}

const textOf = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** Throws InfraError that says what is missing for guests on this bridge, and how to have it. */
export function requireBridge(bridge: string): void {
  if (!existsSync(`/sys/class/net/${bridge}/bridge`)) {
    const others = readdirSync('/sys/class/net').filter(name => existsSync(`/sys/class/net/${name}/bridge`))
    throw new InfraError(
      `There is no bridge ${bridge} on this machine: ${others.length > 0 ? `name one of ${others.join(', ')} with network: bridge=NAME, or ` : ''}make it (\`ip link add ${bridge} type bridge\`).`,
    )
  }
  const helper = HELPERS.find(path => existsSync(path))
  if (!helper)
    throw new InfraError(
      'QEMU has no qemu-bridge-helper here, which puts guests on a bridge: install the package that has it (qemu-system-common).',
    )
  if (!allows(textOf(RULES), bridge, textOf))
    throw new InfraError(
      `QEMU may not use the bridge ${bridge}: write the line \`allow ${bridge}\` into ${RULES}.`,
    )
  if (process.getuid?.() !== 0 && (statSync(helper).mode & 0o4000) === 0)
    throw new InfraError(
      `${helper} makes network devices, and needs root's rights for it: \`chmod u+s ${helper}\`, or run as root.`,
    )
}

/** An address of its own for each guest (52:54:00 is QEMU's): on a bridge two must not be the same. */
export function macOf(runDirectory: string): string {
  return `52:54:00${sha256(runDirectory).slice(0, 6).replaceAll(/../g, ':$&')}`
}
