import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { guest, kc } from '../kc.js'

it('crash shows the faulting function of a 6.1 kernel', async () => {
  const end = await guest(['-e', 'echo c > /proc/sysrq-trigger'], { kernel: 'old' })
  expect([end.result?.verdict, end.result?.title], end.stderr).toEqual([
    'panic',
    'kernel panic: sysrq triggered crash',
  ])
  const directory = end.runDirectory ?? ''
  const text = execFileSync(
    'crash',
    ['-s', '--no_crashrc', join(directory, 'vmlinux'), join(directory, 'vmcore')],
    { input: 'bt\nq\n', encoding: 'utf8', env: { ...process.env, TERM: 'dumb', HOME: homedir() } },
  )
  expect(text).toMatch(/#\d+ \[[0-9a-f]+\] sysrq_handle_crash at/)
  expect(readFileSync(join(directory, 'crash.txt'), 'utf8')).toMatch(
    /== Output of crash [\s\S]*sysrq_handle_crash at/,
  )
})

it('6.1 has all options of the minimal configuration', async () => {
  const end = await kc(['-r', 'distro', '-c', '6.1', '--configitem', 'CONFIG_NOPE=y', '-e', 'true'])
  expect([end.result?.verdict, end.result?.warnings], end.stderr).toEqual(['config-failed', []])
  expect(end.result?.error?.details).toEqual([expect.stringContaining('CONFIG_NOPE')])
})
