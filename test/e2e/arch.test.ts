import { execFileSync } from 'node:child_process'
import { existsSync, lstatSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { arm64Guest, CACHE, KC, kc, startKc } from '../kc.js'

const scratch = mkdtempSync(join(tmpdir(), 'kernelcraft-arch-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

describe('--arch arm64', () => {
  it('runs commands in a root of that architecture', async () => {
    const end = await arm64Guest(['-e', 'uname -m; id -un; awk "BEGIN { print 6 * 7 }"'])
    expect(end.stdout.toString()).toBe('aarch64\nroot\n42\n')
    expect([end.status, end.result?.verdict, end.result?.kernel?.arch]).toEqual([0, 'passed', 'arm64'])
  })

  it('takes a vmcore of a panic, which drgn opens', async () => {
    const end = await arm64Guest(['-e', 'echo c > /proc/sysrq-trigger'])
    expect([end.result?.verdict, end.result?.title], end.stderr).toEqual([
      'panic',
      'kernel panic: sysrq triggered crash',
    ])
    expect(end.result?.vmcore?.buildId).toMatch(/^[0-9a-f]{40}$/)
    const directory = end.runDirectory ?? ''
    const stacks = execFileSync(
      join(CACHE, 'venv', 'bin', 'drgn'),
      [
        ...['-q', '-c', join(directory, 'vmcore'), '-s', join(directory, 'vmlinux')],
        join(import.meta.dirname, 'stacks.py'),
      ],
      { encoding: 'utf8' },
    )
    expect(stacks.split(/\s+/)).toContain('sysrq_handle_crash')
    expect(readFileSync(join(directory, 'crash.txt'), 'utf8')).toContain('sysrq_handle_crash')
    // the call that never returns is the function's last instruction: its return address is the next function's
    expect(end.result?.findings[0]?.stack[0]?.source[0]).toMatchObject({
      function: 'sysrq_handle_crash',
      file: 'drivers/tty/sysrq.c',
    })
  })

  it('names a splat', async () => {
    const end = await arm64Guest(['-e', 'echo WARNING > /sys/kernel/debug/provoke-crash/DIRECT'])
    expect([end.result?.verdict, end.result?.title], end.stderr).toEqual([
      'splat',
      'WARNING in lkdtm_WARNING',
    ])
  })

  it('asks a guest that hangs, and keeps its memory', async () => {
    const end = await arm64Guest(['--run-timeout', '5', '-e', 'sleep 1000'])
    expect([end.result?.verdict, end.result?.vmcore !== undefined], end.stderr).toEqual(['hang', true])
    const console = readFileSync(join(end.runDirectory ?? '', 'console.log'), 'latin1')
    expect(console).toMatch(/sysrq: Show Memory/)
    expect(readFileSync(join(end.runDirectory ?? '', 'registers.txt'), 'utf8')).toMatch(/PSTATE=/)
  })

  it("wants a root that is not this machine's", async () => {
    const end = await kc(['-r', 'distro', '--arch', 'arm64', '-e', 'true'])
    expect([end.status, end.stderr]).toEqual([
      2,
      "kc: arch is arm64, and this machine's own root cannot run there: name a root of that architecture with root; `kc root create --arch arm64 DIR` makes one.\n",
    ])
  })
})

describe('kc root create', () => {
  it('makes one without root rights', () => {
    // a user who is nobody else's
    execFileSync('useradd', ['--create-home', '--home-dir', join(scratch, 'home'), 'kernelcraft-root'])
    try {
      execFileSync('chmod', ['755', scratch])
      const target = join(scratch, 'home', 'root of arm64')
      execFileSync(
        'setpriv',
        [
          ...['--reuid=kernelcraft-root', '--regid=kernelcraft-root', '--init-groups', '--'],
          ...['env', `HOME=${join(scratch, 'home')}`, process.execPath, KC],
          ...['root', 'create', '--arch', 'arm64', target],
        ],
        { cwd: scratch, stdio: 'pipe' },
      )
      const shell = lstatSync(join(target, 'bin', 'sh'))
      expect([shell.isSymbolicLink(), shell.uid !== 0]).toEqual([true, true])
      expect(readFileSync(join(target, 'etc', 'passwd'), 'utf8')).toMatch(/^root:/m)
    } finally {
      execFileSync('userdel', ['kernelcraft-root'])
    }
  })

  it('makes one of this machine, configured, with a package that was asked for', async () => {
    const target = join(scratch, 'own')
    const made = await kc(['root', 'create', '--include', 'jq', target])
    expect([made.status, made.stdout.toString()], made.stderr).toEqual([0, `${target}\n`])
    expect(execFileSync('chroot', [target, 'jq', '-n', '1+1'], { encoding: 'utf8' })).toBe('2\n')
  })

  it('leaves nothing behind where there is none to be had', async () => {
    const target = join(scratch, 'not', 'there')
    const end = await kc(['root', 'create', '--arch', 'riscv64', '--suite', 'bookworm', target])
    expect([end.status, end.stderr], end.stderr).toEqual([
      9,
      expect.stringMatching(
        /A root of bookworm for riscv64 could not be made: .* Debian has riscv64 since trixie\./,
      ),
    ])
    expect(existsSync(join(scratch, 'not'))).toBe(false)
  })

  it('leaves nothing behind when it is stopped', async () => {
    const target = join(scratch, 'stopped')
    const started = startKc(['root', 'create', '--arch', 'arm64', target])
    await started.saw('I: ')
    process.kill(started.pid, 'SIGTERM')
    expect((await started.ended).status).toBe(130)
    expect(existsSync(target)).toBe(false)
  })

  it.each([
    ['a directory with something in it', [tmpdir()], /is there already and not empty/],
    [
      'an architecture that is none',
      ['--arch', 'vax', join(scratch, 'x')],
      /arch is "vax": it takes x86_64, arm64/,
    ],
    ['a mirror that is an option', ['--mirror', '--hook=x', join(scratch, 'x')], /no name of a suite/],
  ])('refuses %s', async (_what, words, sentence) => {
    const end = await kc(['root', 'create', ...words])
    expect([end.status, end.stderr]).toEqual([2, expect.stringMatching(sentence)])
  })
})
