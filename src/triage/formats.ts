import type { FindingType } from './types.js'

/**
 * Where the culprit frame, the function that names the bug, is looked for:
 * `fault`: where the CPU was, then its callers; `trace`: the call trace; `entry`: the entry into the subsystem that does
 * not return (stalls); `wait`: the function that waits (hung tasks); `leak`: the function that allocated the memory.
 */
export type CulpritSource = 'fault' | 'trace' | 'entry' | 'wait' | 'leak'

export interface Format {
  /** the line by which the report begins; its named groups fill the title */
  line: RegExp
  /** must match the report too; its named groups fill the title as well */
  body?: RegExp
  /** as syzbot's dashboard prints it; `{name}` is a group, `{frame}` the culprit frame */
  title: string
  /** the title where no culprit frame could be found */
  titleWithoutFrame?: string
  /** the type that goes with it */
  typeWithoutFrame?: FindingType
  type: FindingType
  /** absent: the title has no function */
  culprit?: CulpritSource
  /** a function named by the report itself, which goes before any stack */
  named?: RegExp
  /** the stack below this heading goes before any other */
  section?: RegExp
  /** true if the report is credible without a stack or registers below it */
  needsNoStack?: boolean
  /** true if the kernel has died */
  fatal?: boolean
}

const AT = String.raw`(?:\[<[0-9a-fx]+>\] *)?(?<frame>[A-Za-z_][\w.]*)(?:\+0x[0-9a-f]+\/0x[0-9a-f]+)?`
const LOCK_AT = new RegExp(String.raw`\bat: ${AT}`)
const IN = /^BUG: K\w+: .* in (?<frame>[A-Za-z_][\w.]*)\+0x/m
const RELEASE_AT = new RegExp(String.raw`lock \([^\n]*?\) at:\s*${AT}`)

const rule = (type: FindingType, culprit: CulpritSource | 'none', line: RegExp, title: string, more: Partial<Format> = {}): Format => ({
  type,
  line,
  title,
  ...(culprit === 'none' ? {} : { culprit }),
  ...more,
})

/** Reports of KASAN by the kind of access (mm/kasan/report_generic.c: get_bug_type). */
const kasan = (access: 'Read' | 'Write'): Format[] => [
  rule(`KASAN-USE-AFTER-FREE-${access === 'Read' ? 'READ' : 'WRITE'}`, 'trace', /^BUG: KASAN: (?<kind>(?:slab-)?use-after-free) (?:in|on)/, `KASAN: {kind} ${access} in {frame}`, {
    body: new RegExp(`\\b${access} (?:of size|at addr)`),
    named: IN,
    needsNoStack: true,
  }),
  rule(`KASAN-NULL-POINTER-DEREFERENCE-${access === 'Read' ? 'READ' : 'WRITE'}`, 'trace', /^BUG: KASAN: (?<kind>null-ptr-deref) (?:in|on)/, `KASAN: {kind} ${access} in {frame}`, {
    body: new RegExp(`\\b${access} (?:of size|at addr)`),
    named: IN,
    needsNoStack: true,
  }),
  rule(`KASAN-${access === 'Read' ? 'READ' : 'WRITE'}`, 'trace', /^BUG: KASAN: (?<kind>[a-z][a-z-]+) (?:in|on)/, `KASAN: {kind} ${access} in {frame}`, {
    body: new RegExp(`\\b${access} (?:of size|at addr)`),
    named: IN,
    needsNoStack: true,
  }),
]

/**
 * Every report that the kernel prints, by its first line. The first format that matches wins, so special ones come before
 * general ones. Their source is the printk calls of the kernel files named above them.
 */
export const FORMATS: readonly Format[] = [
  // mm/kasan/report.c
  rule('KASAN-INVALID-FREE', 'trace', /^BUG: KASAN: (?:double-free or )?invalid-free in/, 'KASAN: invalid-free in {frame}', { named: IN, needsNoStack: true }),
  rule('KASAN-INVALID-FREE', 'trace', /^BUG: KASAN: double-free in/, 'KASAN: invalid-free in {frame}', { named: IN, needsNoStack: true }),
  rule('KASAN-WRITE', 'trace', /^BUG: KASAN: (?:in )?invalid-access/, 'KASAN: invalid-access Write in {frame}', { body: /\bWrite (?:of size|at addr)/, named: IN, needsNoStack: true }),
  ...kasan('Read'),
  ...kasan('Write'),
  rule('KASAN-READ', 'trace', /^BUG: KASAN: (?<kind>[a-z-]+) (?:in|on)/, 'KASAN: {kind} in {frame}', { named: IN, needsNoStack: true }),
  // mm/kmsan/report.c, mm/kfence/report.c, kernel/kcsan/report.c
  rule('KMSAN-INFO-LEAK', 'trace', /^BUG: KMSAN: (?<kind>kernel-(?:\w+-)?infoleak\S*)/, 'KMSAN: {kind} in {frame}', { needsNoStack: true }),
  rule('KMSAN-UNINIT-VALUE', 'trace', /^BUG: KMSAN: (?<kind>[a-z-]+)/, 'KMSAN: {kind} in {frame}', { needsNoStack: true }),
  rule('KFENCE-INVALID-FREE', 'trace', /^BUG: KFENCE: (?<kind>invalid free)/, 'KFENCE: {kind} in {frame}', { named: IN, needsNoStack: true }),
  rule('KFENCE-MEMORY-CORRUPTION', 'trace', /^BUG: KFENCE: (?<kind>memory corruption)/, 'KFENCE: {kind} in {frame}', { named: IN, needsNoStack: true }),
  rule('KFENCE-USE-AFTER-FREE-WRITE', 'trace', /^BUG: KFENCE: (?<kind>use-after-free write)/, 'KFENCE: {kind} in {frame}', { named: IN, needsNoStack: true }),
  rule('KFENCE-USE-AFTER-FREE-READ', 'trace', /^BUG: KFENCE: (?<kind>use-after-free \w+)/, 'KFENCE: {kind} in {frame}', { named: IN, needsNoStack: true }),
  rule('KFENCE-WRITE', 'trace', /^BUG: KFENCE: (?<kind>[a-z- ]*write)/, 'KFENCE: {kind} in {frame}', { named: IN, needsNoStack: true }),
  rule('KFENCE-READ', 'trace', /^BUG: KFENCE: (?<kind>[a-z- ]*read)/, 'KFENCE: {kind} in {frame}', { named: IN, needsNoStack: true }),
  rule('KCSAN-ASSERT', 'none', /^BUG: KCSAN: assert: race in (?<one>[\w.]+)\S* \/ (?<two>[\w.]+)/, 'KCSAN: assert: race in {one} / {two}', { needsNoStack: true }),
  rule('KCSAN-ASSERT', 'none', /^BUG: KCSAN: assert: race in (?<one>[\w.]+)/, 'KCSAN: assert: race in {one}', { needsNoStack: true }),
  rule('KCSAN-DATARACE', 'none', /^BUG: KCSAN: data-race in (?<one>[\w.]+)\S* \/ (?<two>[\w.]+)/, 'KCSAN: data-race in {one} / {two}', { needsNoStack: true }),
  rule('KCSAN-DATARACE', 'none', /^BUG: KCSAN: data-race in (?<one>[\w.]+)/, 'KCSAN: data-race in {one}', { needsNoStack: true }),

  // arch/x86/mm/fault.c, arch/arm64/mm/fault.c, arch/riscv/mm/fault.c
  rule('MEMORY_SAFETY_BUG', 'fault', /^(?:BUG: )?unable to handle (?:kernel )?(?:paging request|page fault for address)/i, 'BUG: unable to handle kernel paging request in {frame}'),
  rule('NULL-POINTER-DEREFERENCE', 'fault', /^(?:BUG: )?unable to handle kernel NULL pointer dereference/i, 'BUG: unable to handle kernel NULL pointer dereference in {frame}'),
  rule('NULL-POINTER-DEREFERENCE', 'fault', /^BUG: kernel NULL pointer dereference/, 'BUG: unable to handle kernel NULL pointer dereference in {frame}'),
  rule('MEMORY_SAFETY_BUG', 'fault', /^Unable to handle kernel access to user memory/i, 'BUG: unable to handle kernel access to user memory in {frame}'),
  rule(
    'MEMORY_SAFETY_BUG',
    'fault',
    /^Unable to handle kernel (?:pointer dereference|instruction fetch|execution of user|write to read-only|read from unreadable|access to)/i,
    'BUG: unable to handle kernel paging request in {frame}',
  ),
  rule('STACK_OVERFLOW', 'entry', /^(?:BUG: |Oops: )?stack guard page was hit|^BUG: (?:IRQ|NMI|#DF|#DB|#VC\d?|TASK) stack guard page was hit/, 'BUG: stack guard page was hit in {frame}'),
  rule('DoS', 'fault', /^(?:Oops: |segment-related )?general protection fault|general protection fault: [0-9a-f]{4} \[#\d+\]/, 'general protection fault in {frame}'),
  { line: /^(?:Oops: )?divide[ _]error: /, title: 'divide error in {frame}', type: 'DoS', culprit: 'fault' },
  { line: /^(?:Oops: )?invalid opcode: /, title: 'invalid opcode in {frame}', type: 'DoS', culprit: 'fault' },
  rule('DoS', 'fault', /^(?:Oops: )?(?:stack segment|segment not present|int3|bounds|invalid TSS|alignment check): /, 'kernel trap in {frame}'),
  rule('DoS', 'fault', /^(?:traps: )?PANIC: double fault/, 'PANIC: double fault in {frame}', { fatal: true }),
  { line: /^Internal error: /, title: 'Internal error in {frame}', type: 'DoS', culprit: 'fault' },
  { line: /^Unhandled fault: /, title: 'Unhandled fault in {frame}', type: 'DoS', culprit: 'fault' },
  { line: /^Alignment trap: not handling/, title: 'Alignment trap in {frame}', type: 'DoS', culprit: 'fault' },
  rule('STACK_OVERFLOW', 'fault', /^Insufficient stack space to handle exception/, 'kernel stack overflow in {frame}', { fatal: true }),
  rule('STACK_OVERFLOW', 'fault', /^kernel stack overflow/i, 'kernel stack overflow in {frame}', { fatal: true }),

  // lib/bug.c, and calls of BUG() by their file
  rule('MEMORY_SAFETY_BUG', 'fault', /^kernel BUG at (?:\S*\/)?lib\/list_debug\.c/, 'BUG: corrupted list in {frame}'),
  rule('BUG', 'fault', /^(?:kernel BUG at (?:\S*\/)?mm\/usercopy\.c)/, 'BUG: bad usercopy in {frame}'),
  { line: /^kernel BUG at /, title: 'kernel BUG in {frame}', type: 'BUG', culprit: 'fault' },

  // kernel/locking/lockdep.c
  rule('LOCKDEP', 'trace', /^(?:WARNING: |\[ INFO: |INFO: )possible (?:circular|recursive|irq lock inversion) (?:locking|dependency)?.*detected/, 'possible deadlock in {frame}', {
    titleWithoutFrame: 'WARNING: possible circular locking dependency detected',
    typeWithoutFrame: 'WARNING',
    named: LOCK_AT,
  }),
  rule('LOCKDEP', 'trace', /^(?:WARNING: |\[ INFO: |INFO: )possible (?:recursive|irq|circular)/, 'possible deadlock in {frame}', { named: LOCK_AT }),
  // named by the interrupt's stack
  rule('LOCKDEP', 'trace', /^(?:WARNING: |\[ INFO: )?\S+-(?:un)?safe -> \S+-(?:un)?safe lock order detected/, 'possible deadlock in {frame}', { section: /which became \S+-irq-safe at:/ }),
  rule('LOCKDEP', 'trace', /^(?:WARNING: |\[ INFO: |INFO: )inconsistent lock state/, 'inconsistent lock state in {frame}', { named: LOCK_AT }),
  rule('LOCKDEP', 'trace', /^WARNING: bad unlock balance detected/, 'WARNING: bad unlock balance in {frame}', { named: RELEASE_AT }),
  rule('LOCKDEP', 'trace', /^\[ BUG: bad unlock balance/, 'BUG: bad unlock balance in {frame}', { named: RELEASE_AT }),
  rule('LOCKDEP', 'trace', /^WARNING: held lock freed/, 'WARNING: held lock freed in {frame}', { named: LOCK_AT }),
  rule('LOCKDEP', 'trace', /^\[ BUG: held lock freed/, 'BUG: held lock freed in {frame}', { named: LOCK_AT }),
  rule('LOCKDEP', 'trace', /^\[ BUG: .* still has locks held/, 'BUG: still has locks held in {frame}', { named: LOCK_AT }),
  rule('LOCKDEP', 'trace', /^WARNING: .* still has locks held/, 'WARNING: still has locks held in {frame}', { named: LOCK_AT }),
  rule('LOCKDEP', 'trace', /^\[ BUG: lock held when returning to user space/, 'BUG: lock held when returning to user space in {frame}', { named: LOCK_AT }),
  rule('LOCKDEP', 'trace', /^WARNING: lock held when returning to user space/, 'WARNING: lock held when returning to user space in {frame}', { named: LOCK_AT }),
  rule('LOCKDEP', 'trace', /^WARNING: Nested lock was not taken/, 'WARNING: Nested lock was not taken in {frame}'),
  rule('LOCKDEP', 'trace', /^\[ BUG: Invalid wait context/, 'WARNING: locking bug in {frame}'),
  rule('LOCKDEP', 'trace', /^WARNING: suspicious RCU usage/, 'WARNING: suspicious RCU usage in {frame}', {
    titleWithoutFrame: 'WARNING: suspicious RCU usage',
    typeWithoutFrame: 'WARNING',
  }),
  rule('LOCKDEP', 'trace', /^(?:\[ )?INFO: suspicious RCU usage/, 'INFO: suspicious RCU usage in {frame}'),
  rule('LOCKDEP', 'trace', /^INFO: trying to register non-static key/, 'INFO: trying to register non-static key in {frame}'),
  { line: /^BUG: (?<what>MAX_\w+ too low)/, title: 'BUG: {what}!', type: 'LOCKDEP', needsNoStack: true },

  // kernel/locking/spinlock_debug.c, kernel/sched/core.c, lib/smp_processor_id.c
  rule('LOCKDEP', 'trace', /^BUG: spinlock (?<what>lockup suspected|recursion|bad magic|already unlocked|wrong owner|wrong CPU|cpu recursion)/, 'BUG: spinlock {what} in {frame}', {
    needsNoStack: true,
  }),
  rule('LOCKDEP', 'trace', /^BUG: (?<what>rwlock \w+(?: \w+)?)/, 'BUG: {what} in {frame}'),
  rule('ATOMIC_SLEEP', 'trace', /^BUG: scheduling while atomic/, 'BUG: scheduling while atomic in {frame}'),
  rule('ATOMIC_SLEEP', 'trace', /^BUG: sleeping function called from invalid context/, 'BUG: sleeping function called from invalid context in {frame}'),
  rule('LOCKDEP', 'trace', /^BUG: using (?<what>\w+)\(\) in preemptible/, 'BUG: using {what}() in preemptible code in {frame}'),
  rule('LOCKDEP', 'none', /^BUG: workqueue leaked (?:lock or atomic|atomic, lock or RCU)/, 'BUG: workqueue leaked lock or atomic in {what}', {
    body: /last function: (?<what>[\w.]+)/,
    needsNoStack: true,
  }),
  { line: /^BUG: workqueue leaked/, title: 'BUG: workqueue leaked lock or atomic', type: 'LOCKDEP' },

  // kernel/watchdog.c, kernel/rcu/tree_stall.h, kernel/hung_task.c, kernel/workqueue.c
  rule('HANG', 'entry', /^(?:NMI )?(?:watchdog: )?BUG: soft lockup/, 'BUG: soft lockup in {frame}', { needsNoStack: true }),
  rule('HANG', 'entry', /^(?:NMI )?(?:watchdog: )?(?:Watchdog detected hard LOCKUP|CPU\d*: Watchdog detected hard LOCKUP)/, 'BUG: hard lockup in {frame}', {
    titleWithoutFrame: 'BUG: hard lockup',
    needsNoStack: true,
  }),
  rule('HANG', 'entry', /^(?:rcu: )?INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stalls?/, 'INFO: rcu detected stall in {frame}', { needsNoStack: true }),
  rule('HANG', 'wait', /^INFO: task .* blocked (?:for more than|in I\/O wait for more than)/, 'INFO: task hung in {frame}', { needsNoStack: true }),
  rule('HANG', 'wait', /^INFO: task .* can't die for more than/, "INFO: task can't die in {frame}", { needsNoStack: true }),
  { line: /^BUG: workqueue lockup/, title: 'BUG: workqueue lockup', type: 'HANG', needsNoStack: true },

  // lib/ubsan.c
  rule('UBSAN', 'trace', /^UBSAN: [Uu]ndefined behaviou?r in/, 'UBSAN: undefined-behaviour in {frame}', { needsNoStack: true }),
  rule('MEMORY_SAFETY_UBSAN', 'trace', /^UBSAN: array-index-out-of-bounds in/, 'UBSAN: array-index-out-of-bounds in {frame}', { needsNoStack: true }),
  rule('UBSAN', 'trace', /^UBSAN: (?<kind>[a-z][a-z-]+) in/, 'UBSAN: {kind} in {frame}', { needsNoStack: true }),

  // calls of WARN() by their file
  rule('WARNING', 'fault', /^WARNING: .*\blib\/debugobjects\.c/, 'WARNING: ODEBUG bug in {frame}'),
  rule('WARNING', 'fault', /^WARNING: .*\bmm\/usercopy\.c/, 'WARNING: bad usercopy in {frame}'),
  rule('WARNING', 'fault', /^WARNING: .*\blib\/kobject\.c/, 'WARNING: kobject bug in {frame}'),
  rule('WARNING', 'fault', /^WARNING: .*\bfs\/proc\/generic\.c/, 'WARNING: proc registration bug in {frame}'),
  rule('REFCOUNT_WARNING', 'fault', /^WARNING: .*\blib\/refcount\.c/, 'WARNING: refcount bug in {frame}'),
  rule('MEMORY_SAFETY_BUG', 'fault', /^WARNING: .*\blib\/list_debug\.c/, 'WARNING: corrupted list in {frame}'),
  rule('LOCKDEP', 'fault', /^WARNING: .*\bkernel\/locking\/lockdep\.c:\d+ (?:at )?__?lock_/, 'WARNING: locking bug in {frame}'),
  rule('LOCKDEP', 'fault', /^WARNING: .*\bkernel\/locking\/lockdep\.c.* (?:at )?\w*lock\w*/, 'WARNING: locking bug in {frame}'),
  rule('WARNING', 'fault', /^WARNING: .*\bmm\/slab_common\.c.* kmalloc_slab/, 'WARNING: kmalloc bug in {frame}'),
  rule('WARNING', 'fault', /^WARNING: .*\bmm\/(?:util|slab|slub)\.c.* kv?malloc_\w+/, 'WARNING: kmalloc bug in {frame}'),
  rule('WARNING', 'fault', /^WARNING: .*\bmm\/vmalloc\.c.*__vmalloc/, 'WARNING: zero-size vmalloc in {frame}'),
  rule('WARNING', 'fault', /^WARNING: .*\busb_submit_urb\b/, 'WARNING in {frame}/usb_submit_urb'),
  rule('WARNING', 'fault', /^WARNING: CPU: \d+ PID: \d+ at \S+ (?<at>[\w.]+)/, 'WARNING in {frame}'),
  rule('WARNING', 'fault', /^WARNING: (?:CPU: \d+ PID: \d+ )?(?:at )?\S+:\d+ (?:at )?(?<at>[\w.]+)/, 'WARNING in {frame}'),
  { line: /^WARNING: CPU: \d+ PID: \d+ at /, title: 'WARNING in {frame}', type: 'WARNING', culprit: 'fault' },
  // arch/x86/kernel/unwind_frame.c
  rule('WARNING', 'none', /^WARNING: kernel stack regs at .* has bad '(?<what>\w+)' value/, "WARNING: kernel stack regs has bad '{what}' value", { needsNoStack: true }),
  rule('WARNING', 'none', /^WARNING: kernel stack regs .*has bad value/, 'WARNING: kernel stack regs has bad value', { needsNoStack: true }),
  rule('WARNING', 'none', /^WARNING: kernel stack frame pointer .*has bad value/, 'WARNING: kernel stack frame pointer has bad value', { needsNoStack: true }),

  // mm/kmemleak.c, mm/page_alloc.c, mm/memory.c, kernel/fork.c, fs/dcache.c, net/core/dev.c
  rule('LEAK', 'leak', /^(?:BUG: memory leak|unreferenced object 0x)/, 'memory leak in {frame}', { needsNoStack: true }),
  rule('BUG', 'trace', /^BUG: Bad page state in process/, 'BUG: Bad page state in {frame}'),
  rule('BUG', 'none', /^BUG: Bad page (?<what>map|cache)/, 'BUG: Bad page {what}', { needsNoStack: true }),
  { line: /^BUG: Bad rss-counter state/, title: 'BUG: Bad rss-counter state', type: 'BUG', needsNoStack: true },
  rule('BUG', 'none', /^BUG: non-zero (?:pgtables_bytes|nr_ptes|nr_pmds) on freeing mm/, 'BUG: non-zero pgtables_bytes on freeing mm: NUM', { needsNoStack: true }),
  rule('BUG', 'none', /^BUG: Dentry .* still in use .*\[unmount of/, 'BUG: Dentry still in use in unmount', { needsNoStack: true }),
  rule('DoS', 'none', /^VFS: Busy inodes after unmount/, 'VFS: Busy inodes after unmount (use-after-free)', { needsNoStack: true }),
  rule('HANG', 'none', /^unregister_netdevice: waiting for \S+ to become free/, 'unregister_netdevice: waiting for DEV to become free', { needsNoStack: true }),

  // rust/kernel, drivers/trusty, syzkaller's executor
  rule('BUG', 'fault', /^rust_kernel: panicked at /, '{what} in {frame}', {
    body: /panicked at [^\n]*\n(?<what>[^\n]+)/,
  }),
  rule('DoS', 'none', /^trusty: panic.*?ASSERT FAILED at \(.*?\): (?<what>.+)$/, 'trusty: ASSERT FAILED: {what}', { needsNoStack: true }),
  { line: /^trusty: panic/, title: 'trusty: panic', type: 'DoS', needsNoStack: true },
  { line: /^(?:\S+ )?SYZFATAL: (?<what>.+)$/, title: 'SYZFATAL: {what}', type: 'SYZ_FAILURE', needsNoStack: true },
  { line: /^(?:\S+ )?SYZFAIL: (?<what>.+)$/, title: 'SYZFAIL: {what}', type: 'SYZ_FAILURE', needsNoStack: true },

  // kernel/panic.c, and calls of panic()
  rule('DoS', 'entry', /^Kernel panic - not syncing: corrupted stack end detected/, 'kernel panic: corrupted stack end in {frame}', { fatal: true }),
  rule(
    'DoS',
    'none',
    /^Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: (?:\[<[0-9a-f]+>\] *)?(?![0-9a-f]{8})(?<at>[A-Za-z_][\w.]*)/,
    'kernel panic: stack is corrupted in {at}',
    { needsNoStack: true, fatal: true },
  ),
  rule('DoS', 'trace', /^Kernel panic - not syncing: stack-protector/, 'kernel panic: stack is corrupted in {frame}', { fatal: true }),
  rule('STACK_OVERFLOW', 'fault', /^Kernel panic - not syncing: kernel stack overflow/, 'kernel stack overflow in {frame}', { fatal: true }),
  rule('DoS', 'none', /^Kernel panic - not syncing: Couldn't open N_TTY ldisc/, "kernel panic: Couldn't open N_TTY ldisc", { needsNoStack: true, fatal: true }),
  rule('DoS', 'none', /^Kernel panic - not syncing: Attempted to kill init!/, 'kernel panic: Attempted to kill init!', { needsNoStack: true, fatal: true }),
  rule('HANG', 'none', /^Kernel panic - not syncing: hung_task: blocked tasks/, 'kernel panic: hung_task: blocked tasks', { needsNoStack: true, fatal: true }),
  rule('HANG', 'none', /^Kernel panic - not syncing: softlockup: hung tasks/, 'kernel panic: softlockup: hung tasks', { needsNoStack: true, fatal: true }),
  rule('DoS', 'none', /^Kernel panic - not syncing: (?<what>.*\S)/, 'kernel panic: {what}', { needsNoStack: true, fatal: true }),

  // any other line in the form of a report: credible if a stack follows
  { line: /^WARNING: (?<what>.*\S)/, title: 'WARNING: {what}', type: 'WARNING' },
  { line: /^BUG: (?<what>.*\S)/, title: 'BUG: {what}', type: 'BUG' },
  { line: /^INFO: (?<what>(?:Allocated|Freed) in .*\S)/, title: 'INFO: {what}', type: 'UNKNOWN' },
  { line: /^INFO: (?<what>.*\S)/, title: 'INFO: {what}', type: 'UNKNOWN' },
  { line: /^Oops(?: \[#|: | - )/, title: 'Oops in {frame}', type: 'DoS', culprit: 'fault' },
]

/**
 * Lines that begin like a report but are benign: notices of debug options, boot self-tests and hardware mitigations,
 * messages of drivers and of user space.
 */
export const BENIGN: readonly RegExp[] = [
  /^INFO: lockdep is turned off/,
  /^INFO: Stall ended before state dump start/,
  /^INFO: NMI handler .* took too long/,
  /^INFO: recovery required/,
  /^INFO: sys\w* is not present/,
  /^INFO: (?:Slab|Object) 0x/,
  /^INFO: always-?on/i,
  /^WARNING: (?:the mand mount option|.* is deprecated|.* deprecated|.* will be removed)/i,
  /^WARNING: (?:fbcon:|See https?:|kernel not compiled|\/etc\/|Spectre|unprivileged eBPF)/i,
  /^WARNING: (?:No|Unable|Could|Cannot|Failed|Ignoring|Support for|This|Using|ignoring|can't|cannot)\b/,
  /^BUG: $/,
]

/** What a dying kernel prints after a report: within so many lines of the report it is not a finding of its own. */
export const FOLLOW_UPS: readonly (readonly [within: number, RegExp])[] = [
  [
    1500,
    /^Kernel panic - not syncing: (?:Fatal exception|(?:kernel: )?panic_on_(?:warn|oops)|KASAN|kasan\.fault|kmsan|KFENCE|UBSAN|softlockup|hung_task|RCU Stall|Hard LOCKUP|Oops|stack guard|bad mode|Unrecoverable|Attempted to kill init|Aiee|nmi watchdog|Hardlockup)/i,
  ],
  [150, /^Kernel panic - not syncing/],
  [40, /^Oops(?: \[#|: | - )/],
  [40, /^Internal error: /],
  [40, /^Unhandled fault/],
  [12, /^(?:Oops: )?(?:invalid opcode|general protection fault|divide error|int3): /],
  [12, /^kernel stack overflow/i],
  [12, /^kernel BUG at .*rust\/helpers/],
  [12, /^WARNING: .*drivers\/trusty/],
  [6, /^unreferenced object 0x/],
  [60, /^INFO: (?:Slab|Object|Allocated|Freed) /],
]
