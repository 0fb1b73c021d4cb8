import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { guest } from '../kc.js'

const BRIDGE = 'kctest0'
const HOST = '10.213.77.1'
const RULES = '/etc/qemu/bridge.conf'
const here = mkdtempSync(join(tmpdir(), 'kernelcraft-bridge-'))
const before = existsSync(RULES) ? readFileSync(RULES, 'utf8') : undefined
const ip = (...words: string[]) => execFileSync('ip', words, { stdio: 'pipe' })
const server = () => join(here, 'udhcpd.conf')
const setRules = (text: string) => {
  mkdirSync('/etc/qemu', { recursive: true })
  writeFileSync(RULES, text)
}
const words = ['-n', `bridge=${BRIDGE}`]

beforeAll(() => {
  ip('link', 'add', BRIDGE, 'type', 'bridge')
  ip('addr', 'add', `${HOST}/24`, 'dev', BRIDGE)
  ip('link', 'set', BRIDGE, 'up')
  writeFileSync(join(here, 'leases'), '')
  writeFileSync(
    server(),
    [
      ...['start 10.213.77.100', 'end 10.213.77.120', `interface ${BRIDGE}`],
      ...[`lease_file ${join(here, 'leases')}`, `pidfile ${join(here, 'pid')}`],
      ...['option subnet 255.255.255.0', `option router ${HOST}`, `option dns ${HOST}`, ''],
    ].join('\n'),
  )
})
afterAll(() => {
  ip('link', 'del', BRIDGE)
  if (before === undefined) rmSync(RULES, { force: true })
  else writeFileSync(RULES, before)
  rmSync(here, { recursive: true, force: true })
})

it('-n bridge says what is missing: the bridge, or the leave to use it', async () => {
  const none = await guest(['-n', 'bridge=kcnone0', '-e', 'true'])
  expect([none.result?.verdict, none.result?.reason]).toEqual([
    'infra-error',
    expect.stringMatching(/^There is no bridge kcnone0 on this machine: name one of .*kctest0.*/),
  ])
  setRules('allow somebody-else\n')
  const refused = await guest([...words, '-e', 'true'])
  expect([refused.result?.verdict, refused.result?.reason]).toEqual([
    'infra-error',
    `QEMU may not use the bridge ${BRIDGE}: write the line \`allow ${BRIDGE}\` into ${RULES}.`,
  ])
})

it('-n bridge puts the guest on a bridge of this machine, with an address, a way out and a resolver', async () => {
  setRules(`allow ${BRIDGE}\n`)
  const dhcp = spawn('busybox', ['udhcpd', '-f', server()], { stdio: 'ignore' })
  try {
    const script = 'cat /etc/resolv.conf; ip -4 -o addr show eth0; ip route; cat /sys/class/net/eth0/address'
    const end = await guest([...words, '-e', `${script}; busybox ping -c 1 -W 5 ${HOST}`])
    const said = end.stdout.toString()
    expect(end.status, end.stderr + said).toBe(0)
    expect(said).toContain(`nameserver ${HOST}\n`)
    expect(said).toMatch(/inet 10\.213\.77\.1[012]\d\/24 /)
    expect(said).toContain(`default via ${HOST} dev eth0`)
    const again = await guest([...words, '-e', 'cat /sys/class/net/eth0/address'])
    const [mac = ''] = /^52:54:00(?::[0-9a-f]{2}){3}$/m.exec(said) ?? []
    expect(again.stdout.toString()).toMatch(/^52:54:00(?::[0-9a-f]{2}){3}\n$/)
    expect(again.stdout.toString()).not.toContain(mac)
  } finally {
    dhcp.kill()
  }
})

it('a bridge where nobody gives addresses is said, and does not fail the run', async () => {
  setRules('allow all\n')
  const end = await guest([...words, '-e', 'ip -4 -o addr show eth0'])
  expect([end.status, end.stdout.toString()], end.stderr).toEqual([0, ''])
  expect(readFileSync(join(end.runDirectory ?? '', 'console.log'), 'latin1')).toContain(
    'kernelcraft: eth0 has no address',
  )
})
