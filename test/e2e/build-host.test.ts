import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeStep } from '../harness/runner.js'
import { type Ended, ROOT, kc as run, startKc as start } from '../kc.js'
import { kernelFor, kernelInputs, kernelWords } from '../kernels.js'
import { type BuildServer, startAgent, startBuildServer } from '../sshd.js'

/** What is compiled on the other side; ccache has it from the kernel that the tests boot. */
const KERNEL = kernelWords('tiny')

let server: BuildServer
let agent: ReturnType<typeof startAgent>
const scratch = mkdtempSync(join(tmpdir(), 'kernelcraft-host-'))

beforeAll(async () => {
  // fills ccache, which both sides share
  await kernelFor('tiny')
  server = await startBuildServer()
  agent = startAgent(server.keyFile)
})

afterAll(() => {
  server?.close()
  agent?.close()
  rmSync(scratch, { recursive: true, force: true })
})

/** With the user's agent. */
const kc: typeof run = (args, options) => run(args, { ...options, env: { ...agent.env, ...options?.env } })
/** Builds on the server; the suffix makes it another kernel than the one that is built here. */
const remotely = (...words: string[]) => [
  ...['--build-host', server.destination, '--build-host-known-hosts', server.knownHost],
  ...['--accel', 'tcg', '--localversion', '-host', ...words],
]
const build = async (...words: string[]): Promise<Ended> => await kc([...KERNEL, ...remotely(...words)])

/** PIDs of make in the build host's directory. */
const buildsOnServer = () =>
  spawnSync('pgrep', ['-f', `make.* O=\\.out-x86_64`], { encoding: 'utf8' })
    .stdout.split('\n')
    .filter(pid => {
      if (!pid) return false
      try {
        return readlinkSync(`/proc/${pid}/cwd`).startsWith(server.home)
      } catch {
        return false
      }
    })

describe('--build-host', () => {
  it('builds there, and fetches what the test needs', async () => {
    const end = await build(
      ...[
        '--kernel-cache',
        'false',
        '-e',
        'uname -r; modprobe kunit-example-test && ls -d /sys/module/kunit_example_test',
      ],
    )
    expect([end.status, end.stdout.toString()], end.stderr).toEqual([
      0,
      expect.stringMatching(/^6\.12\.\d+-host\n\/sys\/module\/kunit_example_test\n$/),
    ])
    expect(end.result?.kernel?.builtOn).toBe(server.destination)
    // by the other machine's ccache
    const { hits = 0, misses = 0 } = end.result?.kernel?.ccache ?? {}
    // where an earlier run of the tests has built, little is left to do
    expect(misses, end.stderr).toBeLessThanOrEqual(hits)
    expect(end.result?.timings.map(({ stage }) => stage)).toEqual(
      expect.arrayContaining(['config', 'build', 'boot']),
    )
    expect(existsSync(join(server.home, '.kernelcraft', '.out-x86_64', 'vmlinux'))).toBe(true)
    // nothing explained, nothing fetched for it
    expect(existsSync(join(end.runDirectory ?? '', 'vmlinux'))).toBe(false)
    expect(buildsOnServer()).toEqual([])
  })

  it('fetches vmlinux when there is something to explain', async () => {
    const words = ['-e', 'echo WARNING > /sys/kernel/debug/provoke-crash/DIRECT']
    const end = await build('--kernel-cache', 'false', ...words)
    expect([end.result?.verdict, end.result?.title], end.stderr).toEqual([
      'splat',
      'WARNING in lkdtm_WARNING',
    ])
    expect(existsSync(join(end.runDirectory ?? '', 'vmlinux'))).toBe(true)
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
})

describe('a build that is under way', () => {
  it.each([
    ['lost', () => server.cut(), 'infra-error', /^The connection to \S+ was lost\.$/],
    ['ended from here', (pid: number) => process.kill(pid, 'SIGTERM'), 'cancelled', /stopped by/],
  ])('a connection that is %s ends the build there, too', async (_how, end, verdict, sentence) => {
    // another suffix is another kernel: there is something to do
    const words = ['--kernel-cache', 'false', '--localversion', `-cut${verdict.length}`, '-e', 'true']
    const started = start([...KERNEL, ...remotely(...words)], { env: agent.env })
    while (buildsOnServer().length === 0) await pause(100)
    end(started.pid)
    const ended = await started.ended
    expect([ended.result?.verdict, ended.result?.title], ended.stderr).toEqual([
      verdict,
      expect.stringMatching(sentence),
    ])
    for (let tries = 0; tries < 100 && buildsOnServer().length > 0; tries++) await pause(100)
    expect(buildsOnServer()).toEqual([])
  })
})

describe('in the action', () => {
  it('the key is in no file and no log, and gone afterwards', async () => {
    const inputs = {
      ...{ ...kernelInputs('tiny'), 'ccache-remote': '', accel: 'tcg', run: 'uname -r' },
      'build-host': server.destination,
      'build-host-known-hosts': server.knownHost,
      'build-host-key': server.key,
      'kernel-cache': 'false',
    }
    const step = makeStep('node24', inputs)
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
  })
})

// these have a user of their own: another tree in the one checkout on the server would have to be checked out again
describe('what can go wrong on the way', () => {
  let builder: BuildServer
  beforeAll(async () => {
    builder = server
    server = await startBuildServer('other')
    agent.add(server.keyFile)
  })
  afterAll(() => {
    server.close()
    server = builder
  })
  it.each([
    [
      'a host whose key is unknown',
      () => ['--build-host', server.destination, '--build-host-known-hosts', 'other ssh-ed25519 AAAA'],
      /^The host key of ssh:\S+ is unknown/,
    ],
    [
      'a host that does not answer',
      () => ['--build-host', 'ssh://user@127.0.0.1:1'],
      /^ssh:\/\/user@127\.0\.0\.1:1 does not answer on its ssh port\.$/,
    ],
    [
      'a user without permission',
      () => [
        ...['--build-host', server.destination.replace(/kernelcraft-\w+-\d+/, 'daemon')],
        ...['--build-host-known-hosts', server.knownHost],
      ],
      /\(permission denied\)/,
    ],
    [
      'a prefix that fails',
      () => remotely('--build-host-exec-prefix', 'no-such-schroot -c sid --'),
      /^build-host-exec-prefix does not work on \S+: .*no-such-schroot.*not found\.$/,
    ],
  ])('%s is an infra-error', async (_what, words, sentence) => {
    const end = await kc([...KERNEL, ...words(), '-e', 'true'])
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
  ])('%s is not a host', async (_what, host) => {
    const end = await kc([...KERNEL, `--build-host=${host}`, '-e', 'true'])
    expect([end.status, end.stderr]).toEqual([
      2,
      expect.stringMatching(/^kc: build-host is ".*": write user@host/),
    ])
  })

  it('a disk that is full there is an infra-error', async () => {
    const there = join(server.home, '.kernelcraft')
    const tree = join(scratch, 'large')
    execFileSync('git', ['init', '-q', tree])
    writeFileSync(
      join(tree, 'Makefile'),
      'VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 0\nEXTRAVERSION =\nKERNELVERSION = 6.12.0\n',
    )
    writeFileSync(join(tree, 'large'), randomBytes(8 << 20))
    execFileSync('git', ['-C', tree, 'add', '-A'])
    execFileSync('git', ['-C', tree, '-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '-qm', 'large'])
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', there])
    try {
      const end = await kc(['-C', tree, ...remotely('-e', 'true')])
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
    writeFileSync(join(tree, 'src', 'broken.c'), 'int main(void) { return no_such_name; }\n')
    execFileSync('git', ['-C', tree, 'add', '-A'])
    execFileSync('git', ['-C', tree, '-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '-qm', 'broken'])
    const end = await kc(['-C', tree, ...remotely('-e', 'true')])
    expect([end.result?.verdict, end.result?.error?.diagnostics[0]], end.stderr).toEqual([
      'build-failed',
      { file: 'src/broken.c', line: 1, column: 25, message: expect.stringContaining('no_such_name') },
    ])
  })

  it('uncommitted changes are built there, and kc -x cleans up', async () => {
    const tree = join(scratch, 'edited')
    execFileSync('git', ['clone', '-q', join(scratch, 'tree'), tree])
    writeFileSync(join(tree, 'src', 'broken.c'), 'int main(void) { return never_committed; }\n')
    const end = await kc(['-C', tree, ...remotely('-e', 'true')])
    expect([end.result?.verdict, end.result?.source?.dirty], end.stderr).toEqual(['build-failed', true])
    expect(end.result?.title).toContain('never_committed')
    const there = join(server.home, '.kernelcraft')
    writeFileSync(join(there, 'left behind'), '')
    mkdirSync(join(there, '.out-none'))
    const words = ['--build-host', server.destination, '--build-host-known-hosts', server.knownHost]
    const cleaned = await kc(['-x', ...words])
    expect(cleaned.status, cleaned.stderr).toBe(0)
    expect(cleaned.stderr).toContain(`removed left behind on ${server.destination}`)
    expect([existsSync(join(there, 'left behind')), existsSync(join(there, '.git'))]).toEqual([false, true])
  })
})
