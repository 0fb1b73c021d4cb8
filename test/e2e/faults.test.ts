import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { EXIT_STATUS, type Verdict } from '../../src/result.js'
import { DRGN, type Ended, guest, scratch } from '../kc.js'
import type { KernelName } from '../kernels.js'

const DIRECT = '/sys/kernel/debug/provoke-crash/DIRECT'
const provoke = (...names: string[]) => names.map(name => `echo ${name} > ${DIRECT}`).join('; ')
/** lockups are reported after 2 * watchdog_thresh seconds (kernel/watchdog.c) */
const SOON = ['-a', 'watchdog_thresh=2']

interface Fault {
  what: string
  args: string[]
  verdict: Verdict
  title: string
  /** a function that the vmcore shows on a CPU or in a blocked task; none: there is no vmcore */
  dumped?: string
}

/** LKDTM's faults that a kernel survives: the title of each finding, and what the self-test's tests.txt looks for. */
type Survived = readonly [name: string, title: string, console?: RegExp]
const SURVIVED: readonly Survived[] = [
  ['BUG', 'kernel BUG in lkdtm_BUG', /kernel BUG at/],
  ['WARNING', 'WARNING in lkdtm_WARNING', /WARNING:/],
  ['WARNING_MESSAGE', 'WARNING in lkdtm_WARNING_MESSAGE', /message trigger/],
  ['EXCEPTION', 'BUG: unable to handle kernel NULL pointer dereference in lkdtm_EXCEPTION'],
  ['ACCESS_NULL', 'BUG: unable to handle kernel NULL pointer dereference in lkdtm_ACCESS_NULL'],
  [
    'ARRAY_BOUNDS',
    'UBSAN: array-index-out-of-bounds in lkdtm_ARRAY_BOUNDS',
    /call trace:|UBSAN: array-index-out-of-bounds/i,
  ],
  ['CORRUPT_LIST_ADD', 'WARNING: corrupted list in lkdtm_CORRUPT_LIST_ADD', /list_add corruption/],
  ['CORRUPT_LIST_DEL', 'WARNING: corrupted list in lkdtm_CORRUPT_LIST_DEL', /list_del corruption/],
  ['REFCOUNT_INC_ZERO', 'WARNING: refcount bug in lkdtm_REFCOUNT_INC_ZERO'],
  ['USERCOPY_SLAB_SIZE_TO', 'BUG: bad usercopy in do_usercopy_slab_size'],
  ['WRITE_RO', 'BUG: unable to handle kernel paging request in lkdtm_WRITE_RO'],
  ['FORTIFY_MEM_MEMBER', 'WARNING in lkdtm_FORTIFY_MEM_MEMBER', /detected field-spanning write/],
]
const SURVIVED_UNDER_KASAN: readonly Survived[] = [
  ['WRITE_AFTER_FREE', 'KASAN: slab-use-after-free Write in lkdtm_WRITE_AFTER_FREE'],
  ['READ_AFTER_FREE', 'KASAN: slab-use-after-free Read in lkdtm_READ_AFTER_FREE'],
  ['SLAB_LINEAR_OVERFLOW', 'KASAN: slab-out-of-bounds Write in lkdtm_SLAB_LINEAR_OVERFLOW'],
  // the last call of its function is a jump, which leaves no frame
  ['SLAB_FREE_DOUBLE', 'KASAN: invalid-free in lkdtm_do_action'],
]

const FAULTS: Fault[] = [
  {
    what: 'LKDTM PANIC',
    args: ['-e', provoke('PANIC')],
    verdict: 'panic',
    title: 'kernel panic: dumptest',
    dumped: 'lkdtm_PANIC',
  },
  {
    what: 'LKDTM EXHAUST_STACK',
    args: ['-e', provoke('EXHAUST_STACK')],
    verdict: 'panic',
    title: 'BUG: stack guard page was hit in full_proxy_write',
    dumped: 'recursive_loop',
  },
  {
    what: 'LKDTM CORRUPT_STACK',
    args: ['-e', provoke('CORRUPT_STACK')],
    verdict: 'panic',
    title: 'kernel panic: stack is corrupted in lkdtm_CORRUPT_STACK',
    dumped: 'lkdtm_CORRUPT_STACK',
  },
  {
    what: 'LKDTM SOFTLOCKUP',
    args: [...SOON, '--run-timeout', '9', '-e', provoke('SOFTLOCKUP')],
    verdict: 'hang',
    title: 'BUG: soft lockup in full_proxy_write',
    dumped: 'lkdtm_SOFTLOCKUP',
  },
  {
    what: 'LKDTM HARDLOCKUP',
    args: [...SOON, '--run-timeout', '12', '-e', provoke('HARDLOCKUP')],
    verdict: 'hang',
    title: 'BUG: hard lockup in full_proxy_write',
    dumped: 'lkdtm_HARDLOCKUP',
  },
  {
    what: 'LKDTM HUNG_TASK',
    args: [
      ...['-a', 'sysctl.kernel.hung_task_timeout_secs=3 sysctl.kernel.hung_task_check_interval_secs=1'],
      ...['--run-timeout', '10', '-e', provoke('HUNG_TASK')],
    ],
    verdict: 'hang',
    title: 'INFO: task hung in lkdtm_HUNG_TASK',
    dumped: 'lkdtm_HUNG_TASK',
  },
  {
    what: 'an endless loop in the kernel, which nothing reports',
    args: ['--run-timeout', '4', '-e', provoke('LOOP')],
    verdict: 'hang',
    title: 'The commands did not end within 4 s (run-timeout).',
    dumped: 'lkdtm_LOOP',
  },
  {
    what: 'sysrq c',
    args: ['-e', 'echo c > /proc/sysrq-trigger'],
    verdict: 'panic',
    title: 'kernel panic: sysrq triggered crash',
    dumped: 'sysrq_handle_crash',
  },
  {
    what: 'a panic before init',
    args: ['-a', 'rootfstype=nosuch', '-e', 'true'],
    verdict: 'boot-failed',
    title: 'kernel panic: VFS: Unable to mount root fs on unknown-block(NUM,NUM)',
    dumped: 'mount_root_generic',
  },
  {
    what: 'a panic before anything that tells QEMU of it',
    // the network's first initcall needs the sockets' file system; neither pvpanic nor fw_cfg is there yet
    args: ['-a', 'initcall_blacklist=sock_init', '--boot-timeout', '20', '-e', 'true'],
    verdict: 'boot-failed',
    title: 'BUG: unable to handle kernel NULL pointer dereference in sock_alloc',
  },
  {
    what: 'a triple fault',
    args: ['-a', 'reboot=t', '-e', 'echo b > /proc/sysrq-trigger; sleep 100'],
    verdict: 'panic',
    title: 'The guest was reset while the commands ran.',
    dumped: 'native_machine_emergency_restart',
  },
  {
    what: 'an init whose code is overwritten',
    args: [
      '-e',
      `grep r-xp /proc/1/maps | while IFS='- ' read from to rest; do
         dd if=/dev/zero of=/proc/1/mem bs=4096 conv=notrunc \
           seek=$((0x$from/4096)) count=$(((0x$to-0x$from)/4096)) 2> /dev/null || :
       done`,
    ],
    verdict: 'panic',
    title: 'kernel panic: Attempted to kill init!',
    dumped: 'do_exit',
  },
  {
    what: 'a test that the kernel kills for lack of memory',
    args: ['-m', '256M', '-e', 'tail /dev/zero'],
    verdict: 'test-failed',
    title: 'The commands exited with status 137; the kernel had killed tail for lack of memory.',
  },
  {
    what: 'no memory, and panic_on_oom',
    args: ['-m', '256M', '-e', 'echo 1 > /proc/sys/vm/panic_on_oom; tail /dev/zero'],
    verdict: 'panic',
    title: 'kernel panic: Out of memory: system-wide panic_on_oom is enabled',
    dumped: 'out_of_memory',
  },
  {
    what: 'a shutdown that sticks',
    args: [
      ...SOON,
      '-e',
      // all on one CPU, and the spinning, out of the commands' group, on the other
      `for pid in $(ps -eo pid=); do taskset -pc 1 $pid || :; done > /dev/null 2>&1
       (echo $BASHPID > /sys/fs/cgroup/cgroup.procs; exec > /dev/null 2>&1
        exec taskset -c 0 sh -c '${provoke('SPINLOCKUP', 'SPINLOCKUP')}') & sleep 1`,
    ],
    verdict: 'hang',
    title: 'BUG: soft lockup in full_proxy_write',
    dumped: 'direct_entry',
  },
  {
    what: 'a panic after the commands had ended',
    args: [
      '-e',
      // the commands end only when it is out of their group, which is ended with them
      `(echo $BASHPID > /sys/fs/cgroup/cgroup.procs && touch /tmp/out && sleep 1 && echo c > /proc/sysrq-trigger) &
       until [ -e /tmp/out ]; do sleep 0.1; done`,
    ],
    verdict: 'panic',
    title: 'kernel panic: sysrq triggered crash',
    dumped: 'sysrq_handle_crash',
  },
  {
    what: 'a fork bomb',
    args: ['--run-timeout', '6', '-e', 'bomb() { bomb | bomb & }; bomb; sleep 1000'],
    verdict: 'hang',
    title: 'The commands did not end within 6 s (run-timeout).',
    dumped: 'do_syscall_64',
  },
  {
    what: 'forged markers',
    args: [
      '-e',
      // a port that is not read blocks
      `for port in /dev/vport* /proc/1/fd/3; do
         timeout 1 sh -c "{ echo status 0; echo ended 0; } > $port" || :
       done 2> /dev/null
       exit 9`,
    ],
    verdict: 'test-failed',
    title: 'The commands exited with status 9.',
  },
]

/** The stacks of a dump as drgn sees them, one a line. */
function stacksOf(end: Ended): string {
  const directory = end.runDirectory ?? ''
  return execFileSync(
    DRGN,
    [
      '-q',
      '-c',
      join(directory, 'vmcore'),
      '-s',
      join(directory, 'vmlinux'),
      join(import.meta.dirname, 'stacks.py'),
    ],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
  )
}

function check(end: Ended, fault: Fault): void {
  const { result, runDirectory = '' } = end
  expect([result?.verdict, result?.title, end.status], end.stderr).toEqual([
    fault.verdict,
    fault.title,
    EXIT_STATUS[fault.verdict],
  ])
  const names = readdirSync(runDirectory)
  // nothing half-written is left
  expect(names.filter(name => /^\.vmcore|^dump-/.test(name))).toEqual([])
  expect(names.includes('vmcore')).toBe(fault.dumped !== undefined)
  if (fault.dumped === undefined) return
  expect(result?.vmcore?.buildId).toMatch(/^[0-9a-f]{40}$/)
  expect(stacksOf(end).split(/\s+/)).toContain(fault.dumped)
  expect(readFileSync(join(runDirectory, 'crash.txt'), 'utf8')).toContain(fault.dumped)
}

describe('a fault', () => {
  it.each(FAULTS)('$what', async fault => check(await guest(fault.args, { kernel: 'minimal' }), fault))
})

it.each([
  ['minimal', SURVIVED, []],
  // without it KASAN reports the first bug of a boot only (mm/kasan/report.c)
  ['kasan', SURVIVED_UNDER_KASAN, ['-a', 'kasan_multi_shot']],
] as const)('faults that a kernel survives, on %s: each is a finding', async (kernel, faults, args) => {
  // each in a process of its own, which a BUG ends
  const script = faults.map(([name]) => `sh -c '${provoke(name)}' || :`).join('\n')
  const end = await guest([...args, '-e', script], { kernel: kernel satisfies KernelName })
  expect([end.result?.verdict, end.status], end.stderr).toEqual(['splat', EXIT_STATUS.splat])
  expect(end.result?.findings.map(({ title }) => title)).toEqual(faults.map(([, title]) => title))
  const console = readFileSync(join(end.runDirectory ?? '', 'console.log'), 'latin1')
  for (const [name, , words = /./] of faults) expect(console, name).toMatch(words)
  expect(existsSync(join(end.runDirectory ?? '', 'vmcore'))).toBe(false)
})

it('a vmcore of a splat, where it is wanted: the kernel lives on, and sleeps when the dump is taken', async () => {
  const script = `${provoke('WARNING')}; sleep 2; echo it goes on`
  const end = await guest(['--vmcore', 'always', '-e', script], { kernel: 'minimal' })
  expect(end.stdout.toString()).toBe('it goes on\n')
  check(end, {
    what: '',
    args: [],
    verdict: 'splat',
    title: 'WARNING in lkdtm_WARNING',
    dumped: 'do_idle',
  })
})

describe('what fails a run is for the user to say', () => {
  const ignoring = (...rules: string[]) => {
    const file = join(scratch('ignore'), 'ignore.yml')
    writeFileSync(file, rules.map(rule => `- {${rule}}\n`).join(''))
    return ['--ignore', file]
  }
  const TITLE = "title: 'WARNING in lkdtm_*', reason: we provoke it, expires: 2999-12-31"
  const BETWEEN = "between: ['test begins', 'test ends'], reason: provoked, expires: 2999-12-31"
  const inside = `echo test begins > /dev/kmsg; ${provoke('WARNING')}; echo test ends > /dev/kmsg`

  it('known findings are ignored, by title and between two lines, and reported as ignored', async () => {
    const end = await guest([...ignoring(TITLE, BETWEEN), '-e', `${inside}; ${provoke('WARNING')}`])
    expect(end.result?.verdict, end.stderr).toBe('passed')
    expect(end.result?.findings[0]).toMatchObject({
      title: 'WARNING in lkdtm_WARNING',
      ignored: 'we provoke it',
    })
  })
  it('an expired rule ignores nothing, and outside of the two lines a finding counts', async () => {
    const expired = 'type: WARNING, reason: we provoke it, expires: 2020-12-31'
    const end = await guest([...ignoring(BETWEEN), '-e', `${inside}; sh -c '${provoke('BUG')}' || :`])
    expect([end.result?.verdict, end.result?.title]).toEqual(['splat', 'kernel BUG in lkdtm_BUG'])
    const late = await guest([...ignoring(expired), '-e', provoke('WARNING')])
    expect(late.result?.verdict).toBe('splat')
    expect(late.result?.warnings.join()).toMatch(/rule 1 of ignore.yml expired on 2020-12-31/)
  })
  it('fail-on names types', async () => {
    const end = await guest(['--fail-on', 'KASAN-*', '-e', provoke('WARNING')])
    expect(end.result?.verdict).toBe('passed')
  })
})

describe('a vmcore', () => {
  it('is not taken when it is not wanted', async () => {
    const end = await guest(['--vmcore', 'never', '-e', 'echo c > /proc/sysrq-trigger'])
    expect(end.result?.verdict).toBe('panic')
    expect(existsSync(join(end.runDirectory ?? '', 'vmcore'))).toBe(false)
  })
  it('that is too large is aborted, with a warning', async () => {
    const end = await guest(['--vmcore-max-size', '1M', '-e', 'echo c > /proc/sysrq-trigger'])
    expect(end.result?.verdict).toBe('panic')
    expect(end.result?.vmcore).toBeUndefined()
    expect(end.result?.warnings.join()).toMatch(/There is no vmcore of the panic: .*1 MiB/)
    expect(readdirSync(end.runDirectory ?? '').filter(name => name.includes('vmcore'))).toEqual([])
  })
})
