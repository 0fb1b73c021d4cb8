import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { archOf } from '../../src/arch.js'
import { SMALL_ARCHES, SMALL_CACHE, smallGuest, smallKernel } from '../arches.js'
import { KC, ROOT } from '../kc.js'
import { openScreen } from '../tmux.js'

describe.each(SMALL_ARCHES)('--arch %s', arch => {
  it('runs commands in a root of that architecture', async () => {
    const end = await smallGuest(arch, ['-e', 'uname -m; id -u; awk "BEGIN { print 6 * 7 }"; exit 3'])
    expect(end.stdout.toString(), end.stderr).toBe(`${archOf(arch).machine}\n0\n42\n`)
    expect([end.result?.verdict, end.result?.exitCode, end.result?.kernel?.arch]).toEqual([
      'test-failed',
      3,
      arch,
    ])
  })

  it('knows a panic, and says why there is no vmcore', async () => {
    const end = await smallGuest(arch, ['-e', 'echo c > /proc/sysrq-trigger'])
    expect([end.result?.verdict, end.result?.title], end.stderr).toEqual([
      'panic',
      'kernel panic: sysrq triggered crash',
    ])
    expect(existsSync(join(end.runDirectory ?? '', 'vmcore'))).toBe(false)
    expect(end.stderr).toContain('No vmcore is taken: ')
  })

  it('names a splat, with the place in the source', async () => {
    const end = await smallGuest(arch, ['-e', 'echo WARNING > /sys/kernel/debug/provoke-crash/DIRECT'])
    expect([end.result?.verdict, end.result?.title], end.stderr).toEqual([
      'splat',
      'WARNING in lkdtm_WARNING',
    ])
    const stack = end.result?.findings[0]?.stack.flatMap(({ source }) => source) ?? []
    expect(stack.map(({ file }) => file)).toContain('drivers/misc/lkdtm/bugs.c')
  })

  it('asks a guest that hangs what it is doing', async () => {
    const end = await smallGuest(arch, ['--run-timeout', '5', '-e', 'sleep 1000'])
    expect(end.result?.verdict, end.stderr).toBe('hang')
    const console = readFileSync(join(end.runDirectory ?? '', 'console.log'), 'latin1')
    expect(console).toMatch(/sysrq: Show Memory/)
    // each line once, though nobody reads the console
    expect(console.match(/\] Linux version/g)).toHaveLength(1)
    expect(readFileSync(join(end.runDirectory ?? '', 'registers.txt'), 'utf8')).not.toBe('')
  })

  it('opens a shell on a terminal', async () => {
    const words = [process.execPath, KC, ...smallKernel(arch), '-s', '--cwd', '/usr']
    const screen = openScreen(ROOT, {
      columns: 120,
      rows: 30,
      env: { KERNELCRAFT_CACHE: SMALL_CACHE, PS1: 'host$ ' },
    })
    try {
      screen.keys(`${words.map(word => `'${word}'`).join(' ')}; echo "back with $?"`, 'Enter')
      await screen.shows(/(?::\/usr|\/usr )#/, 120)
      screen.keys('stty size; tty; echo up-$((40+2))', 'Enter')
      const shown = await screen.shows('up-42')
      expect(shown).toContain('30 120')
      expect(shown).toContain(`/dev/hvc${archOf(arch).firstTerminal}`)
      screen.keys('exit', 'Enter')
      await screen.shows('back with 0')
    } finally {
      screen.close()
    }
  })
})
