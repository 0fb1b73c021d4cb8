import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeStep, NODES } from '../harness/runner.js'
import {
  CACHE,
  type Ended,
  kc,
  ROOT,
  SCRATCH,
  SMALL_CONFIG,
  SMALL_KERNEL,
  shareRooms,
  startKc,
} from '../kc.js'
import { type BuildServer, startBuildServer } from '../sshd.js'

/** A cache of its own: what -s boots elsewhere is not to be a kernel that was brought from there. */
const HERE = join(CACHE, 'host')
/** What is compiled on the other side: small, for nothing of it is in the caches of this one. */
const KERNEL = [...SMALL_KERNEL, '--configitem', 'CONFIG_DUMMY=m'] as const

let server: BuildServer
let agent: Record<string, string> = {}
const scratch = mkdtempSync(join(tmpdir(), 'kernelcraft-host-'))

beforeAll(async () => {
  shareRooms(HERE, 'test')
  server = await startBuildServer()
  // the user's own agent, as at a desk
  const said = execFileSync('ssh-agent', ['-s'], { encoding: 'utf8' })
  agent = {
    KERNELCRAFT_CACHE: HERE,
    ...Object.fromEntries([...said.matchAll(/^(SSH_\w+)=([^;]+);/gm)].map(match => [match[1], match[2]])),
  }
  execFileSync('ssh-add', ['-q', server.keyFile], { env: { ...process.env, ...agent } })
}, 60_000)

afterAll(() => {
  server?.close()
  spawnSync('ssh-agent', ['-k'], { env: { ...process.env, ...agent } })
  rmSync(scratch, { recursive: true, force: true })
})

/** Builds there; the suffix makes it another kernel than the one that is built here. */
const elsewhere = (...words: string[]) => [
  ...['--build-host', server.destination, '--build-host-known-hosts', server.knownHost],
  ...['--accel', 'tcg', '--localversion', '-host', ...words],
]
const build = async (...words: string[]): Promise<Ended> =>
  await kc([...KERNEL, ...elsewhere(...words)], { env: agent })

/** Processes that were started in the build host's directory. */
const busyThere = () =>
  spawnSync('pgrep', ['-f', `make.* O=\\.out-x86_64`], { encoding: 'utf8' })
    .stdout.split('\n')
    .filter(pid => {
      if (!pid) return false
      try {
        return execFileSync('readlink', [`/proc/${pid}/cwd`], { encoding: 'utf8' }).includes(
          '-home/.kernelcraft',
        )
      } catch {
        return false
      }
    })

describe('--build-host', () => {
  it('builds there, and fetches what the test needs', async () => {
    const end = await build(
      ...['--kernel-cache', 'false', '-e', 'uname -r; modprobe dummy && ls -d /sys/module/dummy'],
    )
    expect([end.status, end.stdout.toString()], end.stderr).toEqual([
      0,
      expect.stringMatching(/^6\.12\.\d+-host\n\/sys\/module\/dummy\n$/),
    ])
    expect(end.result?.kernel?.builtOn).toBe(server.destination)
    // the other machine's ccache; little is left to do where an earlier run has built
    expect(end.result?.kernel?.ccache?.hits).toBeGreaterThanOrEqual(0)
    expect(end.result?.timings.map(({ stage }) => stage)).toEqual(
      expect.arrayContaining(['config', 'build', 'boot']),
    )
    expect(existsSync(join(server.home, '.kernelcraft', '.out-x86_64', 'vmlinux'))).toBe(true)
    // nothing explained, nothing fetched for it
    expect(existsSync(join(end.runDirectory ?? '', 'vmlinux'))).toBe(false)
    expect(busyThere()).toEqual([])
  })

  it('fetches vmlinux when there is something to explain', async () => {
    const words = ['-e', 'echo WARNING > /sys/kernel/debug/provoke-crash/DIRECT']
    const end = await build('--kernel-cache', 'false', ...words)
    expect([end.result?.verdict, end.result?.title], end.stderr).toEqual([
      'splat',
      'WARNING in lkdtm_WARNING',
    ])
    expect(end.result?.findings[0]?.stack[0]?.source[0]?.file).toBe('drivers/misc/lkdtm/bugs.c')
    expect(end.stderr).toContain(`vmlinux is fetched from ${server.destination}.`)
  })

  it('builds modules against such a kernel', async () => {
    const end = await build(
      ...['--kernel-cache', 'false', '--modules', join(ROOT, 'test/fixtures/modules/hello')],
      ...['-e', 'cut -d" " -f1 /proc/modules'],
    )
    expect([end.status, end.stdout.toString()], end.stderr).toEqual([0, 'kc_hello\n'])
  })

  it('runs behind a prefix that sets PATH', async () => {
    const bin = join(scratch, 'bin with a space')
    mkdirSync(bin, { recursive: true })
    const made = join(scratch, 'made')
    writeFileSync(join(bin, 'make'), `#!/bin/sh\necho "$@" >> '${made}'\nexec /usr/bin/make "$@"\n`)
    chmodSync(join(bin, 'make'), 0o755)
    const prefix = `'PATH=${bin}:$PATH'`
    const end = await build('--kernel-cache', 'false', '--build-host-exec-prefix', prefix, '-e', 'true')
    expect(end.status, end.stderr).toBe(0)
    expect(readFileSync(made, 'utf8')).toMatch(/O=\.out-x86_64.*bzImage/)
  })

  it('runs behind a prefix that is a chroot', async () => {
    // Debian of its own, with a compiler; the home directory is mounted there, as schroot does
    const root = join(SCRATCH, 'build-root')
    if (!existsSync(join(root, 'usr', 'bin', 'gcc'))) {
      rmSync(root, { recursive: true, force: true })
      const tools =
        'gcc,make,flex,bison,bc,libelf-dev,libssl-dev,libc6-dev,perl-base,perl,kmod,ccache,rsync,python3-minimal'
      const made = await kc(['root', 'create', '--include', tools, root])
      expect(made.status, made.stderr).toBe(0)
    }
    const mounts = [server.home, join(CACHE, 'ccache'), '/proc', '/dev']
    for (const path of mounts) {
      mkdirSync(join(root, path), { recursive: true })
      execFileSync('mount', ['--bind', path, join(root, path)])
    }
    try {
      const inside = `chroot '${root}' env -C '${join(server.home, '.kernelcraft')}' HOME='${server.home}'`
      const end = await build('--kernel-cache', 'false', '--build-host-exec-prefix', inside, '-e', 'uname -r')
      expect([end.status, end.result?.kernel?.builtOn], end.stderr).toEqual([0, server.destination])
    } finally {
      for (const path of mounts.reverse()) spawnSync('umount', ['--lazy', join(root, path)])
    }
  })
})

describe('a build that is under way', () => {
  it.each([
    ['lost', () => server.cut(), 'infra-error', /^The connection to \S+ was lost\.$/],
    ['ended from here', (pid: number) => process.kill(pid, 'SIGTERM'), 'cancelled', /stopped by/],
  ])('a connection that is %s ends the build there, too', async (_how, end, verdict, sentence) => {
    // another suffix is another kernel: there is something to do
    const words = ['--kernel-cache', 'false', '--localversion', `-cut${verdict.length}`, '-e', 'true']
    const started = startKc([...KERNEL, ...elsewhere(...words)], { env: agent })
    while (busyThere().length === 0) await pause(100)
    end(started.pid)
    const ended = await started.ended
    expect([ended.result?.verdict, ended.result?.title], ended.stderr).toEqual([
      verdict,
      expect.stringMatching(sentence),
    ])
    for (let tries = 0; tries < 100 && busyThere().length > 0; tries++) await pause(100)
    expect(busyThere()).toEqual([])
  })
})

describe('in the action', () => {
  it.each(Object.keys(NODES) as (keyof typeof NODES)[])(
    'the key is in no file and no log, and gone afterwards (%s)',
    async node => {
      const inputs = {
        ...{ release: 'distro', ref: '6.12', config: `test\n${SMALL_CONFIG}`, accel: 'tcg', run: 'uname -r' },
        'config-items': 'CONFIG_DUMMY=m',
        'build-host': server.destination,
        'build-host-known-hosts': server.knownHost,
        'build-host-key': server.key,
        'kernel-cache': 'false',
      }
      const step = makeStep(node, inputs, { env: { KERNELCRAFT_CACHE: HERE } })
      try {
        const end = await step.main()
        expect([end.status, end.outputs.verdict], end.log).toEqual([0, 'passed'])
        const [, secret = ''] = server.key.split('\n')
        expect(secret.length).toBeGreaterThan(40)
        // in the log only where the runner is told to hide it
        const hidden = end.commands
          .filter(({ command }) => command === 'add-mask')
          .map(({ message }) => message)
        expect(hidden).toEqual(expect.arrayContaining(server.key.trim().split('\n')))
        const shown = end.log.split('\n').filter(line => !line.startsWith('::add-mask::'))
        expect(shown.join('\n')).not.toContain(secret)
        const found = spawnSync('grep', ['-rlF', secret, step.runnerTemp, end.outputs['run-directory'] ?? ''])
        expect(found.stdout.toString()).toBe('')
        expect(spawnSync('pgrep', ['-f', 'ssh-agent -D -a .*kcssh-']).stdout.toString()).toBe('')
      } finally {
        await step.post()
        step.remove()
      }
    },
  )
})

// these have a user of their own: another tree in the one checkout there would be a long way back
describe('what can go wrong on the way', () => {
  let builder: BuildServer
  beforeAll(async () => {
    builder = server
    server = await startBuildServer('elsewhere')
    execFileSync('ssh-add', ['-q', server.keyFile], { env: { ...process.env, ...agent } })
  })
  afterAll(() => {
    server.close()
    server = builder
  })
  it.each([
    [
      'a host whose key is unknown',
      () => ['--build-host', server.destination, '--build-host-known-hosts', 'elsewhere ssh-ed25519 AAAA'],
      /^The host key of ssh:\S+ is not known here/,
    ],
    [
      'a host that does not answer',
      () => ['--build-host', 'ssh://nobody@127.0.0.1:1'],
      /^ssh:\/\/nobody@127\.0\.0\.1:1 does not answer on its ssh port\.$/,
    ],
    [
      'a user who is let in nowhere',
      () => [
        ...['--build-host', server.destination.replace('kernelcraft-elsewhere', 'daemon')],
        ...['--build-host-known-hosts', server.knownHost],
      ],
      /lets nobody in with the keys that are here/,
    ],
    [
      'a prefix that fails',
      () => elsewhere('--build-host-exec-prefix', 'schroot-of-nobody -c sid --'),
      /^build-host-exec-prefix does not work on \S+: .*schroot-of-nobody.*not found\.$/,
    ],
  ])('%s is an infra-error', async (_what, words, sentence) => {
    const end = await kc([...KERNEL, ...words(), '-e', 'true'], { env: agent })
    expect([end.status, end.result?.verdict, end.result?.title], end.stderr).toEqual([
      10,
      'infra-error',
      expect.stringMatching(sentence),
    ])
  })

  it.each([
    ['an option', '-oProxyCommand=id'],
    ['a command', 'host;id'],
    ['two words', 'a b'],
  ])('%s is no host', async (_what, host) => {
    const end = await kc([...KERNEL, `--build-host=${host}`, '-e', 'true'])
    expect([end.status, end.stderr]).toEqual([
      2,
      expect.stringMatching(/^kc: build-host is ".*": write user@host/),
    ])
  })

  it('a disk that is full there is an infra-error', async () => {
    const there = join(server.home, '.kernelcraft')
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', there])
    try {
      const end = await build('--kernel-cache', 'false', '-e', 'true')
      expect([end.result?.verdict, end.result?.title], end.stderr).toEqual([
        'infra-error',
        `The disk of ${server.destination} is full: make room for ~/.kernelcraft there.`,
      ])
    } finally {
      execFileSync('umount', [there])
    }
  })

  it('a kernel that does not compile there is build-failed, with its file', async () => {
    const tree = join(scratch, 'tree')
    execFileSync('git', ['init', '-q', tree])
    mkdirSync(join(tree, 'src'))
    writeFileSync(
      join(tree, 'Makefile'),
      'VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 0\nEXTRAVERSION =\nKERNELVERSION = 6.12.0\nallnoconfig olddefconfig:\n\tmkdir -p $(O) && cp $(O)/.kernelcraft.config $(O)/.config\n' +
        'bzImage modules:\n\tgcc -c src/broken.c -o $(O)/broken.o\n',
    )
    writeFileSync(join(tree, 'src', 'broken.c'), 'int main(void) { return nothing_of_that_name; }\n')
    execFileSync('git', ['-C', tree, 'add', '-A'])
    execFileSync('git', ['-C', tree, '-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '-qm', 'broken'])
    const end = await kc(['-C', tree, ...elsewhere('-e', 'true')], { env: agent })
    expect([end.result?.verdict, end.result?.error?.diagnostics[0]], end.stderr).toEqual([
      'build-failed',
      { file: 'src/broken.c', line: 1, column: 25, message: expect.stringContaining('nothing_of_that_name') },
    ])
  })

  it('uncommitted changes are built there, and kc -x cleans up', async () => {
    const tree = join(scratch, 'edited')
    execFileSync('git', ['clone', '-q', join(scratch, 'tree'), tree])
    writeFileSync(join(tree, 'src', 'broken.c'), 'int main(void) { return never_committed; }\n')
    const end = await kc(['-C', tree, ...elsewhere('-e', 'true')], { env: agent })
    expect([end.result?.verdict, end.result?.source?.dirty], end.stderr).toEqual(['build-failed', true])
    expect(end.result?.title).toContain('never_committed')
    const there = join(server.home, '.kernelcraft')
    writeFileSync(join(there, 'left behind'), '')
    mkdirSync(join(there, '.out-none'))
    const words = ['--build-host', server.destination, '--build-host-known-hosts', server.knownHost]
    const cleaned = await kc(['-x', ...words], { env: agent })
    expect(cleaned.status, cleaned.stderr).toBe(0)
    expect(cleaned.stderr).toContain(`removed left behind on ${server.destination}`)
    expect([existsSync(join(there, 'left behind')), existsSync(join(there, '.git'))]).toEqual([false, true])
  })
})
