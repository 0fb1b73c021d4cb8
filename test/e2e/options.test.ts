import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, describe, expect, it } from 'vitest'
import { guest, KERNEL, kasanGuest, kc, startKc } from '../kc.js'

const here = mkdtempSync(join(tmpdir(), 'kernelcraft options-'))
afterAll(() => rmSync(here, { recursive: true, force: true }))

describe('directories of the host in the guest', () => {
  it('one that may be written, at its own place and at another', async () => {
    const shared = join(here, 'shared')
    mkdirSync(shared)
    writeFileSync(join(shared, 'in'), 'from the host\n')
    const script = `cat '${shared}/in' /mnt/again/in; echo from the guest > /mnt/again/out; touch '${here}/unseen'`
    const end = await guest(['--rwdir', shared, '--rwdir', `${shared}=/mnt/again`, '-e', script])
    expect([end.status, end.stdout.toString()], end.stderr).toEqual([0, 'from the host\nfrom the host\n'])
    expect(readFileSync(join(shared, 'out'), 'utf8')).toBe('from the guest\n')
    // beside it the snapshot holds
    expect(() => readFileSync(join(here, 'unseen'))).toThrow()
  })

  it('one that may only be read: not even a remount writes', async () => {
    const shared = join(here, 'read')
    mkdirSync(shared)
    writeFileSync(join(shared, 'in'), 'text\n')
    const script = 'cat /mnt/r/in; mount -o remount,rw /mnt/r; echo no > /mnt/r/out || echo refused'
    const end = await guest(['--rodir', `${shared}=/mnt/r`, '-e', `set +e\n${script}`])
    expect(end.stdout.toString()).toBe('text\nrefused\n')
    expect(() => readFileSync(join(shared, 'out'))).toThrow()
  })

  it.each([
    ['that is not there', ['--rwdir', '/nowhere'], /^kc: rwdir: "\/nowhere" does not exist\.$/m],
    ['at a relative place', ['--rwdir', '/tmp=x'], /^kc: rwdir: .* needs an absolute path in the guest/m],
    ['with a comma', ['--rodir', '/tmp=/a,b'], /^kc: rodir: .* neither comma nor line break/m],
  ])('one %s is refused', async (_what, words, sentence) => {
    const end = await guest([...words, '-e', 'true'])
    expect([end.status, end.stderr]).toEqual([2, expect.stringMatching(sentence)])
  })

  it('one outside of the workspace is refused in a workflow', async () => {
    const env = { GITHUB_ACTIONS: 'true', GITHUB_WORKSPACE: here, RUNNER_TEMP: here }
    const end = await guest(['--rwdir', '/usr', '-e', 'true'], { env })
    expect([end.status, end.stderr]).toEqual([
      2,
      expect.stringContaining('rwdir: "/usr" lies neither in the workspace nor in RUNNER_TEMP.'),
    ])
  })
})

describe('where and as whom the commands run', () => {
  it('--cwd', async () => {
    const end = await guest(['--cwd', '/usr/share', '-e', 'pwd'])
    expect(end.stdout.toString()).toBe('/usr/share\n')
  })

  it('--user: its ids, its home, and none of the rights of root', async () => {
    const script = 'id -un; id -u; echo "$HOME $USER"; : > /etc/passwd || echo refused'
    const end = await guest(['--user', 'daemon', '-e', `set +e\n${script}`])
    expect(end.stdout.toString(), end.stderr).toBe('daemon\n1\n/usr/sbin daemon\nrefused\n')
  })

  it('a user of nobody is refused', async () => {
    const end = await guest(['--user', 'no-such-user', '-e', 'true'])
    expect([end.status, end.stderr]).toEqual([
      2,
      `kc: user is "no-such-user": the guest's root has no such user in /etc/passwd.\n`,
    ])
  })
})

describe('the machine', () => {
  it('several disks, in their order', async () => {
    const disks = ['a', 'b'].map(name => join(here, `${name}.img`))
    for (const [index, disk] of disks.entries()) execFileSync('truncate', ['-s', `${index + 1}M`, disk])
    const end = await guest([
      ...disks.flatMap(disk => ['-D', disk]),
      ...['-e', 'cat /sys/block/vd[ab]/size; echo written > /dev/vdb'],
    ])
    expect(end.stdout.toString(), end.stderr).toBe('2048\n4096\n')
    expect(readFileSync(disks[1] ?? '', 'latin1').slice(0, 8)).toBe('written\n')
  })

  it('memory, CPUs and kernel arguments', async () => {
    const script =
      'nproc; grep -o kc.mark=1 /proc/cmdline; awk "/MemTotal/ { print (\\$2 < 400000) }" /proc/meminfo'
    const end = await guest(['-m', '384M', '--cpus', '2', '-a', 'kc.mark=1', '-e', script])
    expect(end.stdout.toString(), end.stderr).toBe('2\nkc.mark=1\n1\n')
  })

  it('--qemu-opts and -o reach QEMU and virtme-run', async () => {
    const words = ['--qemu-opts', '-device virtio-rng-pci,id=kcrng', '-o', '--balloon']
    // 5 is a balloon (include/uapi/linux/virtio_ids.h)
    const script =
      'cat /sys/bus/virtio/devices/*/device | grep 0x0005; cat /sys/devices/virtual/misc/hw_random/rng_current'
    const end = await guest([...words, '-e', script])
    expect(end.stdout.toString(), end.stderr).toMatch(/^0x0005\n[\s\S]*virtio_rng/)
  })

  it('-n user has a network and a resolver, -n loop another one', async () => {
    const user = await guest(['-n', 'user', '-e', 'cat /etc/resolv.conf; cat /sys/class/net/eth0/operstate'])
    expect(user.stdout.toString(), user.stderr).toMatch(/^nameserver 10\.0\.2\.3\n(?:up|unknown)\n$/)
    const loop = await guest(['-n', 'loop', '-e', 'ls /sys/class/net | grep -c eth'])
    expect(loop.stdout.toString(), loop.stderr).toBe('2\n')
  })

  it('--numa reaches QEMU, and a kernel that knows no nodes is told of', async () => {
    const nodes = ['--numa', '512M,cpus=0', '--numa', '512M,cpus=1']
    const started = startKc([
      ...[...KERNEL, '-s', '--accel', 'tcg', '-m', '1G', '--cpus', '2', ...nodes],
      ...['-e', 'echo up >&2; sleep 5'],
    ])
    await started.saw('up\n')
    const qemu = execFileSync('pgrep', ['-af', 'qemu-system.*kernelcraft'], { encoding: 'utf8' })
    expect(qemu.match(/-numa node/g)?.length).toBe(2)
    const end = await started.ended
    expect([end.status, end.result?.warnings], end.stderr).toEqual([
      0,
      [expect.stringMatching(/^This kernel has no CONFIG_NUMA/)],
    ])
  })

  it('--numa makes nodes that a kernel with the fragment numa knows', async () => {
    const nodes = ['--numa', '1G,cpus=0', '--numa', '512M,cpus=1']
    const script = 'cd /sys/devices/system/node; for n in node[0-9]; do echo $n $(cat $n/cpulist); done'
    const end = await kasanGuest(['-m', '1536M', '--cpus', '2', ...nodes, '-e', script])
    expect(end.stdout.toString(), end.stderr).toBe('node0 0\nnode1 1\n')
    expect(end.result?.warnings).toEqual([])
  })
})

describe('guests that run', () => {
  it('kc ps lists them, and kc -d takes their names', async () => {
    const words = [...KERNEL, '-s', '--accel', 'tcg']
    const started = [1, 2].map(number =>
      startKc([...words, '-e', `echo guest ${number} is up >&2; sleep 40`]),
    )
    for (const [index, one] of started.entries()) await one.saw(`guest ${index + 1} is up`)
    const { guests } = JSON.parse((await kc(['ps', '--json'])).stdout.toString()) as {
      guests: { name: string; pid: number; command: string; release: string }[]
    }
    const mine = started.map(({ pid }) => guests.find(guest => guest.pid === pid))
    expect(mine.map(guest => guest?.command)).toEqual([1, 2].map(n => `echo guest ${n} is up >&2; sleep 40`))
    expect(mine[0]?.release).toMatch(/^6\.12\.\d+-rc$/)
    const table = (await kc(['ps'])).stdout.toString()
    for (const guest of mine) expect(table).toMatch(new RegExp(`^${guest?.name} +${guest?.pid} `, 'm'))
    const file = join(here, 'by-name')
    const dumped = await kc(['-d', mine[1]?.name ?? '', '--dump-file', file])
    expect([dumped.status, dumped.stderr]).toEqual([0, expect.stringContaining('the guest runs on')])
    for (const { pid } of started) process.kill(pid, 'SIGTERM')
    await Promise.all(started.map(({ ended }) => ended))
    await pause(100)
    expect((await kc(['ps', '--json'])).stdout.toString()).not.toContain(mine[0]?.name)
  })
})
