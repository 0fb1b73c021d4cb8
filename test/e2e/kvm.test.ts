import { spawnSync } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { CACHE, guest, KC, KERNEL, kc } from '../kc.js'

const words = (args: readonly string[]) => args.map(arg => `'${arg}'`).join(' ')

it('accel: kvm works where /dev/kvm does: KernelCraft inside KernelCraft', async () => {
  // The outer guest is emulated with SVM, so the inner one has a KVM that is real. One CPU: with more, QEMU's emulation
  // now and then loses a wake-up of the inner guest.
  const inner = words([
    ...[process.execPath, KC, ...KERNEL, '-s', '--accel', 'kvm', '-m', '512M', '--cpus', '1'],
    // the emulated CPU's XSAVE area has a size that the kernel warns of (fpu__init_system_xstate)
    ...['--fail-on', 'KASAN-*'],
  ])
  const proof = `echo "inner $(uname -r)"; dmesg | grep -c 'Hypervisor detected: KVM'`
  const end = await guest([
    ...['-m', '2G', '--cpus', '1', '--run-timeout', '10m', '--env', `KERNELCRAFT_CACHE=${CACHE}`],
    ...['-e', `test -c /dev/kvm; ${inner} -e '${proof.replaceAll("'", `'\\''`)}' && echo outer`],
  ])
  expect(end.stdout.toString()).toMatch(/^inner 6\.12\.\d+-rc\n1\nouter\n$/)
  expect(end.result?.verdict).toBe('passed')
  expect(end.stderr).toContain('passed: The kernel booted')
})

/** What this machine's KVM is, found without KernelCraft: QEMU with KVM and the same kernel, does it print its banner? */
async function kvmHere(): Promise<'absent' | 'works' | 'broken'> {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK)
  } catch {
    return 'absent'
  }
  const dry = await guest(['-e', 'true'])
  const image = join(CACHE, 'work')
  const found =
    spawnSync('find', [image, '-name', 'bzImage', '-path', '*/x86/boot/*'], {
      encoding: 'utf8',
    }).stdout.split('\n')[0] ?? ''
  expect(dry.status).toBe(0)
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

it('accel: auto uses KVM only where it runs a kernel, and says so where it does not', async () => {
  const here = await kvmHere()
  const cache = join(CACHE, 'kvm')
  spawnSync('rm', ['-rf', cache])
  const first = await kc([...KERNEL, '-s', '-e', 'true'])
  expect(first.result?.verdict).toBe('passed')
  expect(first.result?.boot?.accel).toBe(here === 'works' ? 'kvm' : 'tcg')
  const warned = first.result?.warnings.some(warning => warning.includes('emulated')) ?? false
  expect(warned).toBe(here !== 'works')
  // what was seen is remembered: no second trial, but the warning stays
  const second = await kc([...KERNEL, '-s', '-e', 'true'])
  expect(second.result?.boot?.accel).toBe(first.result?.boot?.accel)
  if (here === 'broken') expect(second.stderr).toContain('tried before')
})
