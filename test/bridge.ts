import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What QEMU's helper reads, on every distribution. */
export const RULES = '/etc/qemu/bridge.conf'

export interface Bridge {
  /** this machine's address on it */
  host: string
  /** the first bytes of the addresses that guests get */
  prefix: string
  /** what QEMU's helper may do */
  rules(text: string): void
  /** gives addresses until it is stopped */
  serveAddresses(): { stop(): void }
  /** removes the bridge, and puts the rules back */
  close(): void
}

/**
 * A real bridge of this machine, with a server of addresses. `net`: a number from 0 to 255 that no other test has. One
 * that is there already is another program's (libvirt's, with a server of its own) and used as it is, unless a test left it.
 */
export function makeBridge(name: string, net: number): Bridge {
  const prefix = `10.213.${net}.`
  const host = `${prefix}1`
  const ip = (...words: string[]) => execFileSync('ip', words, { stdio: 'pipe' })
  const before = existsSync(RULES) ? readFileSync(RULES, 'utf8') : undefined
  const here = mkdtempSync(join(tmpdir(), 'kernelcraft-bridge-'))
  const exists = existsSync(`/sys/class/net/${name}`)
  const left = exists && ip('-4', '-o', 'addr', 'show', 'dev', name).toString().includes(`inet ${host}/`)
  if (left) ip('link', 'del', name)
  const ours = !exists || left
  if (ours) {
    ip('link', 'add', name, 'type', 'bridge')
    ip('addr', 'add', `${host}/24`, 'dev', name)
    ip('link', 'set', name, 'up')
  }
  return {
    host,
    prefix,
    rules(text) {
      mkdirSync('/etc/qemu', { recursive: true })
      writeFileSync(RULES, text)
    },
    serveAddresses() {
      if (!ours) return { stop() {} }
      const config = join(here, 'udhcpd.conf')
      writeFileSync(join(here, 'leases'), '')
      const lines = [
        ...[`start ${prefix}100`, `end ${prefix}120`, `interface ${name}`],
        ...[`lease_file ${join(here, 'leases')}`, `pidfile ${join(here, 'pid')}`],
        ...['option subnet 255.255.255.0', `option router ${host}`, `option dns ${host}`],
      ]
      writeFileSync(config, `${lines.join('\n')}\n`)
      const server = spawn('busybox', ['udhcpd', '-f', config], { stdio: 'ignore' })
      return { stop: () => void server.kill() }
    },
    close() {
      if (ours) ip('link', 'del', name)
      if (before === undefined) rmSync(RULES, { force: true })
      else writeFileSync(RULES, before)
      rmSync(here, { recursive: true, force: true })
    },
  }
}
