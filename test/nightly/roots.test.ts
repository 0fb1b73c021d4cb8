import { execFileSync } from 'node:child_process'
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { ArchName } from '../../src/arch.js'
import { guest, KC, kc, scratch, startKc } from '../kc.js'

const temporary = mkdtempSync(join(tmpdir(), 'kernelcraft-roots-'))
afterAll(() => rmSync(temporary, { recursive: true, force: true }))

describe('kc root create', () => {
  it('makes one without root rights', () => {
    execFileSync('useradd', ['--create-home', '--home-dir', join(temporary, 'home'), 'kernelcraft-root'])
    try {
      execFileSync('chmod', ['755', temporary])
      const target = join(temporary, 'home', 'root of arm64')
      execFileSync(
        'setpriv',
        [
          ...['--reuid=kernelcraft-root', '--regid=kernelcraft-root', '--init-groups', '--'],
          ...['env', `HOME=${join(temporary, 'home')}`, process.execPath, KC],
          ...['root', 'create', '--arch', 'arm64', target],
        ],
        { cwd: temporary, stdio: 'pipe' },
      )
      const shell = lstatSync(join(target, 'bin', 'sh'))
      expect([shell.isSymbolicLink(), shell.uid !== 0]).toEqual([true, true])
      expect(readFileSync(join(target, 'etc', 'passwd'), 'utf8')).toMatch(/^root:/m)
    } finally {
      execFileSync('userdel', ['kernelcraft-root'])
    }
  })

  it('makes one of this machine, configured, with a package that was requested', async () => {
    const target = join(temporary, 'own')
    const made = await kc(['root', 'create', '--include', 'jq', target])
    expect([made.status, made.stdout.toString()], made.stderr).toEqual([0, `${target}\n`])
    expect(execFileSync('chroot', [target, 'jq', '-n', '1+1'], { encoding: 'utf8' })).toBe('2\n')
  })

  it.each(['arm64', 's390x', 'ppc64el'] as ArchName[])('makes one of %s that a guest boots', async arch => {
    const target = join(scratch(`root-${arch}`), 'root')
    const made = await kc(['root', 'create', '--arch', arch, target])
    expect(made.status, made.stderr).toBe(0)
    const end = await guest(
      ['--root', target, '-e', 'test -e /etc/debian_version && bash --version | head -1'],
      {
        kernel: arch as 'arm64',
      },
    )
    expect([end.status, end.stdout.toString()], end.stderr).toEqual([0, expect.stringContaining('GNU bash')])
  })

  it('leaves nothing behind where there is none to be had', async () => {
    const target = join(temporary, 'not', 'there')
    const end = await kc(['root', 'create', '--arch', 'riscv64', '--suite', 'bookworm', target])
    expect([end.status, end.stderr], end.stderr).toEqual([9, expect.stringContaining('riscv64 since trixie')])
    expect(existsSync(join(temporary, 'not'))).toBe(false)
  })

  it('leaves nothing behind when it is stopped', async () => {
    const target = join(temporary, 'stopped')
    const started = startKc(['root', 'create', '--arch', 'arm64', target])
    await started.saw('I: ')
    process.kill(started.pid, 'SIGTERM')
    expect((await started.ended).status).toBe(130)
    expect(existsSync(target)).toBe(false)
  })

  it('is a build environment behind a prefix', async () => {
    const root = join(scratch('build-root'), 'root')
    mkdirSync(temporary, { recursive: true })
    const made = await kc(['root', 'create', '--include', 'gcc,make', root])
    expect(made.status, made.stderr).toBe(0)
    expect(execFileSync('chroot', [root, 'gcc', '--version'], { encoding: 'utf8' })).toContain('gcc')
  })
})
