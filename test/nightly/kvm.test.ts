import { spawnSync } from 'node:child_process'
import { accessSync, constants, readdirSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { bootWords, guest, KC } from '../kc.js'
import { kernelFor } from '../kernels.js'

const words = (args: readonly string[]) => args.map(arg => `'${arg}'`).join(' ')

it('accel: kvm works where /dev/kvm does: KernelCraft inside KernelCraft', async () => {
  // The outer guest is emulated with SVM, so the inner one has a KVM that is real. One CPU: with more, QEMU's emulation
  // now and then loses a wake-up of the inner guest.
  const inner = words([
    ...[process.execPath, KC, ...bootWords('kvm'), '--accel', 'kvm', '-m', '512M', '--cpus', '1'],
    // the emulated CPU's XSAVE area has a size that the kernel warns of (fpu__init_system_xstate)
    ...['--fail-on', 'KASAN-*'],
  ])
  const proof = `echo "inner $(uname -r)"; dmesg | grep -c 'Hypervisor detected: KVM'`
  const end = await guest(
    [
      ...['-m', '2G', '--cpus', '1', '--run-timeout', '10m'],
      ...['--env', `KERNELCRAFT_CACHE=${await kernelFor('kvm')}`],
      ...['-e', `test -c /dev/kvm; ${inner} -e '${proof.replaceAll("'", `'\\''`)}' && echo outer`],
    ],
    { kernel: 'kvm' },
  )
  expect(end.stdout.toString()).toMatch(/^inner 6\.12\.\d+-rc\n1\nouter\n$/)
  expect(end.result?.verdict).toBe('passed')
})

/** What this machine's KVM is, found without KernelCraft: QEMU with KVM and the same kernel, does it print its banner? */
async function kvmHere(): Promise<'absent' | 'works' | 'broken'> {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK)
  } catch {
    return 'absent'
  }
  const kernels = join(await kernelFor('kvm'), 'kernels')
  const key = readdirSync(kernels).find(name => /^[0-9a-f]{64}$/.test(name)) ?? 'none'
  const found = join(kernels, key, 'image')
  const qemu = spawnSync(
    'qemu-system-x86_64',
    [
      '-accel',
      'kvm',
      '-cpu',
      'host',
      '-m',
      '256M',
      '-nographic',
      '-no-reboot',
      '-kernel',
      found,
      '-append',
      'console=ttyS0 earlyprintk=serial panic=-1',
    ],
    { encoding: 'utf8', timeout: 15_000, input: '' },
  )
  return qemu.stdout.includes('Linux version') ? 'works' : 'broken'
}

it('accel: auto uses KVM only where it runs a kernel, and warns where it does not', async () => {
  const here = await kvmHere()
  // what is known of KVM is this file's own: the probe is repeated
  const cache = await kernelFor('kvm')
  unlinkSync(join(cache, 'kvm'))
  const boot = async () => await guest(['--accel', 'auto', '-e', 'true'], { kernel: 'kvm' })
  const first = await boot()
  expect(first.result?.verdict).toBe('passed')
  expect(first.result?.boot?.accel).toBe(here === 'works' ? 'kvm' : 'tcg')
  const warned = first.result?.warnings.some(warning => warning.includes('emulated')) ?? false
  expect(warned).toBe(here !== 'works')
  // what was seen is remembered: no second trial, but the warning stays
  const second = await boot()
  expect(second.result?.boot?.accel).toBe(first.result?.boot?.accel)
  if (here === 'broken') expect(second.stderr).toContain('tried before')
})
