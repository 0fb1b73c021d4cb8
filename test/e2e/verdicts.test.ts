import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { guest } from '../kc.js'

interface Case {
  what: string
  args: string[]
  verdict: string
  status: number
  console?: RegExp
}

const CASES: Case[] = [
  {
    what: 'a crash by sysrq is a panic',
    args: ['-e', 'echo before; echo c > /proc/sysrq-trigger'],
    verdict: 'panic',
    status: 4,
    console: /Kernel panic - not syncing/,
  },
  {
    what: 'an endless loop is a hang',
    args: ['--run-timeout', '4', '-e', 'while :; do :; done'],
    verdict: 'hang',
    status: 5,
  },
  {
    what: 'silence is a hang when there is an idle-timeout',
    args: ['--idle-timeout', '3', '--run-timeout', '60', '-e', 'echo alive; sleep 1000'],
    verdict: 'hang',
    status: 5,
  },
  {
    what: 'a panic before userspace is boot-failed',
    args: ['-a', 'rootfstype=nosuch', '-e', 'true'],
    verdict: 'boot-failed',
    status: 6,
    console: /Kernel panic - not syncing: VFS/,
  },
  {
    what: 'a kernel that never gets to the commands is boot-failed',
    args: ['--boot-timeout', '5', '-a', 'initcall_blacklist=virtio_pci_driver_init', '-e', 'true'],
    verdict: 'boot-failed',
    status: 6,
  },
  {
    what: 'a guest that powers itself off without a status has not passed',
    args: ['-e', 'echo 1 > /proc/sys/kernel/sysrq; echo o > /proc/sysrq-trigger; sleep 100'],
    verdict: 'test-failed',
    status: 1,
  },
  {
    what: 'a guest that resets itself is a panic',
    args: ['-e', 'echo 1 > /proc/sys/kernel/sysrq; echo b > /proc/sysrq-trigger; sleep 100'],
    verdict: 'panic',
    status: 4,
  },
  {
    what: 'a status printed to the streams is only text',
    args: ['-e', 'echo "status 0"; echo "status 0" > /dev/console; exit 9'],
    verdict: 'test-failed',
    status: 1,
  },
]

it.each(CASES)('$what', async ({ args, verdict, status, console: words }) => {
  const end = await guest(args)
  expect(end.result?.verdict).toBe(verdict)
  expect(end.status).toBe(status)
  expect(end.stderr.trimEnd().split('\n').pop()).toContain(`${verdict}:`)
  if (words) expect(readFileSync(join(end.runDirectory ?? '', 'console.log'), 'utf8')).toMatch(words)
})

it('the run directory has result, summary and a line that repeats the run', async () => {
  const end = await guest(['-e', 'echo "it is $((6*7))"; exit 3'])
  const result = end.result
  expect(result?.repeat).toMatch(
    /^kc -r distro -c [0-9a-f]{40} -e 'echo "it is \$\(\(6\*7\)\)"; exit 3' -f test -f ubsan -f kvm-host --configitem CONFIG_DUMMY=m --configitem CONFIG_KUNIT_EXAMPLE_TEST=m -s --accel tcg$/,
  )
  const summary = readFileSync(join(end.runDirectory ?? '', 'summary.md'), 'utf8')
  for (const part of ['test-failed', '6.12', 'it is 42', 'status 3', 'Power down', result?.repeat ?? '-']) {
    expect(summary).toContain(part)
  }
})
