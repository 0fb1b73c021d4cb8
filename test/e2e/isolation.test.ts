import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { guest as boot, scratch } from '../kc.js'

/** Namespaces and control groups are not in the tiny configuration. */
const guest: typeof boot = (args, options) => boot(args, { kernel: 'minimal', ...options })

let canary = ''
beforeAll(() => {
  canary = scratch('canary')
  mkdirSync(join(canary, 'deep', 'er'), { recursive: true })
  writeFileSync(join(canary, 'file'), 'unharmed\n')
  writeFileSync(join(canary, 'deep', 'er', 'file'), 'unharmed too\n')
})
afterAll(() => rmSync(canary, { recursive: true, force: true }))

const intact = () => {
  expect(readFileSync(join(canary, 'file'), 'utf8')).toBe('unharmed\n')
  expect(readFileSync(join(canary, 'deep', 'er', 'file'), 'utf8')).toBe('unharmed too\n')
  expect(readdirSync(canary).sort()).toEqual(['deep', 'file'])
}

it('the guest destroys a directory of its own, and then its whole root, and the host does not notice', async () => {
  // the canary proves the snapshot first, so that a failing test does no harm
  const proof = await guest([
    '-e',
    `cd '${canary}'; rm -r deep; echo changed > file; echo new > another; cat file; ls`,
  ])
  expect(proof.stdout.toString()).toBe('changed\nanother\nfile\n')
  intact()

  const before = readdirSync('/etc').length
  // an emulated guest needs many minutes for all of a big root: some of it, then what it cannot live without
  const end = await guest([
    '-e',
    `timeout -s KILL 10 rm -rf --no-preserve-root / 2>/dev/null || :; rm -rf /etc /usr/sbin /usr/bin
echo "gone: $(echo /etc/* /usr/bin/*)"; rm / || echo "and no rm"; exit 5`,
  ])
  expect(end.stdout.toString()).toBe('gone: /etc/* /usr/bin/*\nand no rm\n')
  // and the status arrived all the same
  expect(end.result?.exitCode).toBe(5)
  intact()
  expect(readdirSync('/etc').length).toBe(before)
})

/** Takes the overlay off and goes to the root that the host exports, then runs a line of shell there (x86-64: umount2, setns). */
const ESCAPE = `perl -e 'my $root = "/"; open NS, "/proc/self/ns/mnt"; syscall 166, $root, 2; syscall 308, fileno NS, 0; exec "/bin/sh", "-c", shift' --`

it('the export cannot be written, not even from the first root or by mounting it again', async () => {
  const script = `mkdir /mnt/raw
mount -t 9p -o rw,trans=virtio,version=9p2000.L /dev/root /mnt/raw && exit 40
mount -o remount,rw / 2>/dev/null
nsenter --target 1 --mount -- sh -c 'echo harm > "${canary}/from-first-namespace"' 2>/dev/null
${ESCAPE} 'cat "${canary}/file"; mount -o remount,rw / && echo harm > "${canary}/file"; rm -rf "${canary}/deep"; mknod "${canary}/node" c 1 3; exit 0'`
  const end = await guest(['-e', script])
  expect(end.stdout.toString()).toBe('unharmed\n')
  expect(end.result?.exitCode).toBe(0)
  intact()
})

it('user namespaces and control groups work, as containers need them', async () => {
  const end = await guest([
    '-e',
    'unshare --user --map-root-user --mount --pid --fork --net id -u; mkdir /sys/fs/cgroup/mine; cat /sys/fs/cgroup/cgroup.controllers',
  ])
  expect(end.stdout.toString()).toMatch(/^0\n.*cpu.*memory/s)
})

it('a planted key cannot be read in the guest, whatever its root tries', async () => {
  const home = scratch('home')
  mkdirSync(join(home, '.ssh'))
  writeFileSync(join(home, '.ssh', 'id_ed25519'), 'PLANTED-KEY\n')
  writeFileSync(join(home, '.netrc'), 'PLANTED-NETRC\n')
  writeFileSync(join(home, 'open'), 'no secret\n')
  const temp = join(home, 'runner-temp')
  mkdirSync(temp)
  writeFileSync(join(temp, 'token'), 'PLANTED-TOKEN\n')
  const script = `set +e; cat '${home}/open'
cat '${home}/.ssh/id_ed25519' '${home}/.netrc' '${temp}/token' 2>/dev/null
umount '${home}/.ssh' '${home}/.netrc' 2>/dev/null
grep -r PLANTED '${home}'
cut -d: -f2 /etc/shadow | grep '[$]'
${ESCAPE} 'cat "${home}/open"; umount -l /dev; ls -A /proc /sys /dev /run; grep -r PLANTED "${home}"; cut -d: -f2 /etc/shadow | grep "[$]"; exit 0'`
  const end = await guest(['-e', script], {
    env: { HOME: home, RUNNER_TEMP: temp },
  })
  rmSync(home, { recursive: true, force: true })
  expect(end.result?.boot?.snapshot).toBe('namespace')
  expect(end.stdout.toString()).toBe('no secret\nno secret\n/dev:\n\n/proc:\n\n/run:\n\n/sys:\n')
})

it('the working directory is there in the guest, also under /tmp', async () => {
  const end = await guest(['-e', 'pwd; ls file'], { cwd: canary })
  expect(end.stdout.toString()).toBe(`${canary}\nfile\n`)
  const directory = '/tmp/kernelcraft-e2e-cwd'
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'here'), '')
  const temporary = await guest(['-e', 'pwd; ls -A; ls -A /tmp'], { cwd: directory })
  rmSync(directory, { recursive: true, force: true })
  expect(temporary.stdout.toString()).toBe(`${directory}\nhere\nkernelcraft-e2e-cwd\n`)
})
