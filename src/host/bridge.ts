import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { InfraError } from '../errors.js'
import { sha256 } from './hash.js'

/** Paths of QEMU's helper that creates a tap device on a bridge (Debian, Fedora, Arch). */
const HELPERS = ['/usr/lib/qemu/qemu-bridge-helper', '/usr/libexec/qemu-bridge-helper']
const CONFIG = '/etc/qemu/bridge.conf'

/**
 * True if QEMU's helper may use the bridge by the lines of its bridge.conf: one allows it, and none denies it
 * (qemu-bridge-helper.c). `include` returns the text of an included file.
 */
export function bridgeAllowed(text: string, bridge: string, include: (path: string) => string): boolean {
  const rules = (of: string, depth: number): string[][] =>
    of.split('\n').flatMap(line => {
      const [action = '', name = ''] = line.trim().split(/\s+/)
      if (action === 'include' && depth < 8) return rules(include(name), depth + 1)
      return [[action, name]]
    })
  const matching = rules(text, 0).filter(([, name]) => name === bridge || name === 'all')
  return matching.some(([action]) => action === 'allow') && !matching.some(([action]) => action === 'deny')
}

const textOf = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** Throws InfraError with what is missing for guests on this bridge, and how to add it. */
export function requireBridge(bridge: string): void {
  if (!existsSync(`/sys/class/net/${bridge}/bridge`)) {
    const others = readdirSync('/sys/class/net').filter(name => existsSync(`/sys/class/net/${name}/bridge`))
    throw new InfraError(
      `There is no bridge ${bridge} on this machine: ${others.length > 0 ? `name one of ${others.join(', ')} with network: bridge=NAME, or ` : ''}create it (\`ip link add ${bridge} type bridge\`).`,
    )
  }
  const helper = HELPERS.find(path => existsSync(path))
  if (!helper)
    throw new InfraError(
      'qemu-bridge-helper, with which QEMU connects guests to a bridge, is missing: install its package (qemu-system-common).',
    )
  if (!bridgeAllowed(textOf(CONFIG), bridge, textOf))
    throw new InfraError(
      `QEMU is not permitted to use the bridge ${bridge}: add the line \`allow ${bridge}\` to ${CONFIG}.`,
    )
  if (process.getuid?.() !== 0 && (statSync(helper).mode & 0o4000) === 0)
    throw new InfraError(
      `${helper} creates network devices, which needs root rights: \`chmod u+s ${helper}\`, or run as root.`,
    )
}

/** A MAC address for each guest (52:54:00 is QEMU's prefix), since those on one bridge must differ. */
export function macOf(runDirectory: string): string {
  return `52:54:00${sha256(runDirectory).slice(0, 6).replaceAll(/../g, ':$&')}`
}
