import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { archOf } from '../../src/arch.js'
import { bootWords, DRGN, guest, KC, kc, ROOT, scratch } from '../kc.js'
import { KERNELS, kernelFor } from '../kernels.js'
import { openScreen } from '../tmux.js'

/** What each architecture's kernel is found to say; `registers`: a name of QEMU's for one of its registers. */
const ARCHES = [
  { arch: 'arm64', registers: /PSTATE=/ },
  { arch: 'riscv64', registers: /mhartid/ },
  { arch: 's390x', registers: /PSW=/ },
  { arch: 'ppc64el', registers: /NIP / },
] as const

describe.each(ARCHES)('--arch $arch', ({ arch, registers }) => {
  const hasDebugInfo = KERNELS[arch]['debug-info'] === 'full'

  it('runs commands in a root of that architecture, and names a splat', async () => {
    const script = `uname -m; id -un; awk "BEGIN { print 6 * 7 }"
echo WARNING > /sys/kernel/debug/provoke-crash/DIRECT; exit 3`
    const end = await guest(['-e', script], { kernel: arch })
    expect(end.stdout.toString(), end.stderr).toBe(`${archOf(arch).machine}\nroot\n42\n`)
    const { verdict, title, exitCode, kernel } = end.result ?? {}
    expect([verdict, title, exitCode, kernel?.arch], end.stderr).toEqual([
      'splat',
      'WARNING in lkdtm_WARNING',
      3,
      arch,
    ])
    const stack = end.result?.findings[0]?.stack.flatMap(({ source }) => source) ?? []
    if (hasDebugInfo) expect(stack.map(({ file }) => file)).toContain('drivers/misc/lkdtm/bugs.c')
  })

  it('reports a panic, with a vmcore that drgn opens or the reason why there is none', async () => {
    const end = await guest(['-e', 'echo c > /proc/sysrq-trigger'], { kernel: arch })
    expect([end.result?.verdict, end.result?.title], end.stderr).toEqual([
      'panic',
      'kernel panic: sysrq triggered crash',
    ])
    const directory = end.runDirectory ?? ''
    expect(existsSync(join(directory, 'vmcore'))).toBe(archOf(arch).vmcoreinfo)
    if (!archOf(arch).vmcoreinfo) return expect(end.stderr).toContain('No vmcore is taken: ')
    expect(end.result?.vmcore?.buildId).toMatch(/^[0-9a-f]{40}$/)
    const dump = ['-q', '-c', join(directory, 'vmcore'), '-s', join(directory, 'vmlinux')]
    const stacks = execFileSync(DRGN, [...dump, join(import.meta.dirname, 'stacks.py')], { encoding: 'utf8' })
    expect(stacks.split(/\s+/)).toContain('sysrq_handle_crash')
    expect(readFileSync(join(directory, 'crash.txt'), 'utf8')).toContain('sysrq_handle_crash')
    // the call that never returns is the function's last instruction: its return address is the next function's
    expect(end.result?.findings[0]?.stack[0]?.source[0]).toMatchObject({
      function: 'sysrq_handle_crash',
      file: 'drivers/tty/sysrq.c',
    })
  })

  it('collects the state of a guest that hangs', async () => {
    const end = await guest(['--run-timeout', '3', '-e', 'sleep 1000'], { kernel: arch })
    expect([end.result?.verdict, end.result?.vmcore !== undefined], end.stderr).toEqual([
      'hang',
      archOf(arch).vmcoreinfo,
    ])
    const console = readFileSync(join(end.runDirectory ?? '', 'console.log'), 'latin1')
    expect(console).toMatch(/sysrq: Show Memory/)
    // each line once, though the console is not read
    expect(console.match(/\] Linux version/g)).toHaveLength(1)
    expect(readFileSync(join(end.runDirectory ?? '', 'registers.txt'), 'utf8')).toMatch(registers)
  })

  it('opens a shell on a terminal', async () => {
    const env = { KERNELCRAFT_CACHE: await kernelFor(arch), PS1: 'host$ ' }
    const words = [process.execPath, KC, ...bootWords(arch), '--cwd', '/usr']
    const screen = openScreen(ROOT, { columns: 120, rows: 30, env })
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

it("a root of this machine's own architecture is refused for another one", async () => {
  const end = await kc(['-r', 'distro', '--arch', 'arm64', '-e', 'true'])
  expect([end.status, end.stderr], end.stderr).toEqual([
    2,
    expect.stringContaining('kc root create --arch arm64'),
  ])
})

it.each([
  ['a directory with something in it', () => [ROOT], 'not empty'],
  ['an unknown architecture', () => ['--arch', 'vax', join(scratch('x'), 'x')], 'x86_64, arm64'],
  ['a mirror that is an option', () => ['--mirror', '--hook=x', join(scratch('x'), 'x')], '--hook=x'],
])('kc root create refuses %s', async (_what, words, part) => {
  const end = await kc(['root', 'create', ...words()])
  expect([end.status, end.stderr]).toEqual([2, expect.stringContaining(part)])
})
