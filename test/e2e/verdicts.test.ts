import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect, it } from 'vitest'
import { EXIT_STATUS, type Verdict } from '../../src/result.js'
import { guest, ROOT } from '../kc.js'

/** Verdicts of guests whose kernel reports nothing; those of faults are in faults.test.ts. */
const CASES: [what: string, args: string[], verdict: Verdict][] = [
  [
    'silence is a hang when there is an idle-timeout',
    ['--idle-timeout', '3', '--run-timeout', '60', '-e', 'echo alive; sleep 1000'],
    'hang',
  ],
  [
    'a kernel that never gets to the commands is boot-failed',
    ['--boot-timeout', '5', '-a', 'initcall_blacklist=virtio_pci_driver_init', '-e', 'true'],
    'boot-failed',
  ],
  [
    'a guest that powers itself off without a status has not passed',
    ['-e', 'echo 1 > /proc/sys/kernel/sysrq; echo o > /proc/sysrq-trigger; sleep 100'],
    'test-failed',
  ],
  [
    'a guest that resets itself is a panic',
    ['-e', 'echo 1 > /proc/sys/kernel/sysrq; echo b > /proc/sysrq-trigger; sleep 100'],
    'panic',
  ],
]

it.each(CASES)('%s', async (_what, args, verdict) => {
  const end = await guest(['--vmcore', 'never', ...args])
  expect([end.result?.verdict, end.status], end.stderr).toEqual([verdict, EXIT_STATUS[verdict]])
  expect(end.stderr.trimEnd().split('\n').pop()).toContain(`${verdict}:`)
})

it('the run directory has a result as its schema says, a summary and a line that repeats the run', async () => {
  const end = await guest(['-e', 'echo "it is $((6*7))"; exit 3'])
  const { result, runDirectory = '' } = end
  const validate = new Ajv2020({ strict: true, allErrors: true }).compile(
    JSON.parse(readFileSync(join(ROOT, 'schema', 'result.schema.json'), 'utf8')),
  )
  validate(JSON.parse(readFileSync(join(runDirectory, 'result.json'), 'utf8')))
  expect(validate.errors).toBeNull()
  expect(result?.repeat).toMatch(
    /^kc -r distro -c [0-9a-f]{40} -e 'echo "it is \$\(\(6\*7\)\)"; exit 3' --config-base tiny -f test .*-s .*--accel tcg$/,
  )
  const summary = readFileSync(join(runDirectory, 'summary.md'), 'utf8')
  for (const part of ['test-failed', '6.12', 'it is 42', 'status 3', 'Power down', result?.repeat ?? '-'])
    expect(summary).toContain(part)
})
