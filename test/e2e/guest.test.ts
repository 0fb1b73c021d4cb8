import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { guest, scratch } from '../kc.js'

let place = ''
beforeAll(() => {
  place = scratch('guest')
})
afterAll(() => rmSync(place, { recursive: true, force: true }))

it('CPUs, memory, kernel arguments, a disk, the network and options for virtme-run are as asked', async () => {
  const disk = join(place, 'my disk.img')
  writeFileSync(disk, Buffer.alloc(1 << 20))
  const script = `nproc
awk '/MemTotal/ { print ($2 > 600000 && $2 < 720000) }' /proc/meminfo
tr ' ' '\\n' < /proc/cmdline | grep -c '^kc[.]'
echo 'written by the guest' > /dev/vda; sync
cat /sys/class/misc/hw_random/rng_available
cat /sys/class/net/eth0/operstate; cat /etc/resolv.conf
uname -n`
  const end = await guest([
    ...['--cpus', '3', '-m', '700M', '-a', 'kc.one=1 kc.two', '-a', 'kc.three', '-D', disk, '-n', 'user'],
    ...['-o', '--qemu-opt=-device --qemu-opt=virtio-rng-pci', '-e', script],
  ])
  expect(end.stdout.toString()).toBe('3\n1\n3\nvirtio_rng.0 none\nup\nnameserver 10.0.2.3\nkernelcraft\n')
  expect(readFileSync(disk, 'latin1').startsWith('written by the guest\n')).toBe(true)
})

it('modules are there for modprobe', async () => {
  const end = await guest([
    '-e',
    'modprobe dummy numdummies=2; ls /sys/class/net; lsmod | grep -c "^dummy "; uname -r; ls /lib/modules/$(uname -r)',
  ])
  expect(end.stdout.toString()).toMatch(/dummy0\ndummy1\n[\s\S]*\n1\n6\.12\.\d+-rc\n[\s\S]*modules\.dep\n/)
})

it('a root of its own: another directory tree than the host has', async () => {
  // busybox alone makes a root; nothing of the host's is there (lib is where the modules are mounted)
  const root = join(place, 'root')
  for (const dir of ['bin', 'dev', 'etc', 'proc', 'run', 'sys', 'tmp'])
    mkdirSync(join(root, dir), { recursive: true })
  copyFileSync('/bin/busybox', join(root, 'bin', 'busybox'))
  for (const name of ['sh', 'ls', 'mount', 'cat', 'uname']) symlinkSync('busybox', join(root, 'bin', name))
  const end = await guest(['--root', root, '-e', 'ls /; echo gone > /etc/file; cat /etc/file'])
  expect(end.stdout.toString()).toBe('bin\ndev\netc\nlib\nproc\nrun\nsys\ntmp\ngone\n')
})
