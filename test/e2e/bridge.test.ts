import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Bridge, makeBridge, RULES } from '../bridge.js'
import { guest as boot } from '../kc.js'

/** The tiny configuration has no network. */
const guest: typeof boot = (args, options) => boot(args, { kernel: 'minimal', ...options })

const NAME = 'kctest0'
const words = ['-n', `bridge=${NAME}`]
let bridge: Bridge
beforeAll(() => {
  bridge = makeBridge(NAME, 77)
})
afterAll(() => bridge.close())

it('-n bridge reports what is missing: the bridge, or the permission to use it', async () => {
  const none = await guest(['-n', 'bridge=kcnone0', '-e', 'true'])
  expect([none.result?.verdict, none.result?.reason]).toEqual([
    'infra-error',
    expect.stringMatching(/^There is no bridge kcnone0 on this machine: name one of .*kctest0.*/),
  ])
  bridge.rules('allow another-bridge\n')
  const refused = await guest([...words, '-e', 'true'])
  expect([refused.result?.verdict, refused.result?.reason]).toEqual([
    'infra-error',
    expect.stringContaining(`\`allow ${NAME}\` to ${RULES}`),
  ])
})

it.each([
  ['-n bridge', words],
  ["-o '--net bridge'", ['-o', `--net bridge=${NAME}`]],
])(
  '%s puts the guest on a bridge of this machine, with an address, a way out and a resolver',
  async (_what, requested) => {
    bridge.rules(`allow ${NAME}\n`)
    const server = bridge.serveAddresses()
    try {
      const script =
        'cat /etc/resolv.conf; ip -4 -o addr show eth0; ip route; cat /sys/class/net/eth0/address'
      const end = await guest([...requested, '-e', `${script}; busybox ping -c 1 -W 5 ${bridge.host}`])
      const said = end.stdout.toString()
      expect(end.status, end.stderr + said).toBe(0)
      expect(said).toContain(`nameserver ${bridge.host}\n`)
      expect(said).toContain(`inet ${bridge.prefix}1`)
      expect(said).toContain(`default via ${bridge.host} dev eth0`)
      // not the one that QEMU gives to each of its guests
      expect(said).toMatch(/^52:54:00(?::[0-9a-f]{2}){3}$/m)
      expect(said).not.toContain('52:54:00:12:34:56')
    } finally {
      server.stop()
    }
  },
)

it('a bridge without a DHCP server is reported, and does not fail the run', async () => {
  bridge.rules('allow all\n')
  const end = await guest([...words, '-e', 'ip -4 -o addr show eth0'])
  expect([end.status, end.stdout.toString()], end.stderr).toEqual([0, ''])
  expect(readFileSync(join(end.runDirectory ?? '', 'console.log'), 'latin1')).toContain(
    'kernelcraft: eth0 has no address',
  )
})
