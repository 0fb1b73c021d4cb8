import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { guest, scratch } from '../kc.js'

const here = mkdtempSync(join(tmpdir(), 'kernelcraft options-'))
afterAll(() => rmSync(here, { recursive: true, force: true }))

it('directories of the host, the working directory and the user of the commands', async () => {
  const [shared, read] = ['shared', 'read'].map(name => join(here, name)) as [string, string]
  for (const directory of [shared, read]) {
    mkdirSync(directory)
    writeFileSync(join(directory, 'in'), `from ${directory}\n`)
  }
  const script = `set +e
pwd; cat '${shared}/in' /mnt/again/in; echo from the guest > /mnt/again/out; touch '${here}/unseen'
cat /mnt/r/in; mount -o remount,rw /mnt/r; echo no > /mnt/r/out || echo refused`
  const end = await guest([
    ...['--rwdir', shared, '--rwdir', `${shared}=/mnt/again`, '--rodir', `${read}=/mnt/r`],
    ...['--cwd', '/usr/share', '-e', script],
  ])
  expect(end.stdout.toString(), end.stderr).toBe(
    `/usr/share\nfrom ${shared}\nfrom ${shared}\nfrom ${read}\nrefused\n`,
  )
  expect(readFileSync(join(shared, 'out'), 'utf8')).toBe('from the guest\n')
  // beside it the snapshot holds, and what may only be read was not written, not even after a remount
  for (const path of [join(here, 'unseen'), join(read, 'out')]) expect(existsSync(path)).toBe(false)
})

it('--user: its ids, its home, and none of the rights of root', async () => {
  const script = 'id -un; id -u; echo "$HOME $USER"; : > /etc/passwd || echo refused'
  const end = await guest(['--user', 'daemon', '-e', `set +e\n${script}`])
  expect(end.stdout.toString(), end.stderr).toBe('daemon\n1\n/usr/sbin daemon\nrefused\n')
})

it('CPUs, memory, NUMA nodes, kernel arguments, disks, network, and options for QEMU and virtme-run', async () => {
  const disks = ['a disk', 'b'].map(name => join(here, `${name}.img`))
  for (const [index, disk] of disks.entries()) execFileSync('truncate', ['-s', `${index + 1}M`, disk])
  // 5 is a balloon (include/uapi/linux/virtio_ids.h)
  const script = `nproc
awk '/MemTotal/ { print ($2 > 600000 && $2 < 720000) }' /proc/meminfo
tr ' ' '\\n' < /proc/cmdline | grep -c '^kc[.]'
cat /sys/block/vd[ab]/size; echo 'written by the guest' > /dev/vdb; sync
cat /sys/bus/virtio/devices/*/device | grep -c 0x0005
cat /sys/class/misc/hw_random/rng_available
cat /sys/class/net/eth0/operstate; cat /etc/resolv.conf
uname -n`
  const end = await guest(
    [
      ...['--cpus', '3', '-m', '700M', '-a', 'kc.one=1 kc.two', '-a', 'kc.three', '-n', 'user'],
      ...disks.flatMap(disk => ['-D', disk]),
      ...['--numa', '350M,cpus=0', '--numa', '350M,cpus=1-2'],
      ...['--qemu-opts', '-device virtio-rng-pci,id=kcrng', '-o', '--balloon', '-e', script],
    ],
    { kernel: 'minimal' },
  )
  expect(end.stdout.toString(), end.stderr).toBe(
    '3\n1\n3\n2048\n4096\n1\nvirtio_rng.0 none\nup\nnameserver 10.0.2.3\nkernelcraft\n',
  )
  expect(readFileSync(disks[1] ?? '', 'latin1').startsWith('written by the guest\n')).toBe(true)
  // a kernel that knows no nodes
  expect(end.result?.warnings).toEqual([expect.stringContaining('CONFIG_NUMA')])
})

it('--numa makes nodes that a kernel with the fragment numa knows, and -n loop two devices', async () => {
  const nodes = ['--numa', '1G,cpus=0', '--numa', '512M,cpus=1']
  const script = 'cd /sys/devices/system/node; for n in node[0-9]; do echo $n $(cat $n/cpulist); done'
  const end = await guest(['-m', '1536M', '--cpus', '2', ...nodes, '-e', script], { kernel: 'kasan' })
  expect(end.stdout.toString(), end.stderr).toBe('node0 0\nnode1 1\n')
  expect(end.result?.warnings).toEqual([])
  const loop = await guest(['-n', 'loop', '-e', 'ls /sys/class/net | grep -c eth'], { kernel: 'minimal' })
  expect(loop.stdout.toString(), loop.stderr).toBe('2\n')
})

it('modules are there for modprobe, over another root than the host has', async () => {
  // busybox alone makes a root; nothing of the host's is there (lib is where the modules are mounted)
  const root = join(scratch('root'), 'root')
  for (const dir of ['bin', 'dev', 'etc', 'proc', 'run', 'sys', 'tmp'])
    mkdirSync(join(root, dir), { recursive: true })
  copyFileSync('/bin/busybox', join(root, 'bin', 'busybox'))
  for (const name of ['sh', 'ls', 'mount', 'cat', 'uname', 'modprobe', 'grep'])
    symlinkSync('busybox', join(root, 'bin', name))
  const script = `ls /; echo gone > /etc/file; cat /etc/file
modprobe dummy numdummies=2; ls /sys/class/net; ls /lib/modules/$(uname -r) | grep modules.dep$; uname -r`
  const end = await guest(['--root', root, '-e', script], { kernel: 'minimal' })
  expect(end.stdout.toString(), end.stderr).toMatch(
    /^bin\ndev\netc\nlib\nproc\nrun\nsys\ntmp\ngone\ndummy0\ndummy1\n[\s\S]*modules\.dep\n6\.12\.\d+-rc\n$/,
  )
})
