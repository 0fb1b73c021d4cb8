import type { CulpritSource } from './formats.js'
import { isReporting, isSkipped } from './skip-list.js'
import { type Frame, titleName } from './stack.js'

/** Functions that pass control to a subsystem: the callee of the innermost one is the entry into the subsystem. */
const DISPATCHERS =
  /^(?:do_syscall_\w+|entry_(?:SYSCALL|SYSENTER|INT80)\w*|sysenter_dispatch|system_call\w*|x64_sys_call|do_int80\w*|_*do_fast_syscall\w*|el0_svc\w*|invoke_syscall|syscall_\w+|ret_(?:from_fork|fast_syscall)\w*|kthread|process_one_work|process_scheduled_works|worker_thread|call_timer_fn|expire_timers|_*run_timers|__hrtimer_run_queues|__run_hrtimer|_*do_softirq|handle_softirqs|tasklet_action\w*|net_rx_action|_*napi_poll|process_backlog|__netif_receive_skb\w*|deliver_skb|do_vfs_ioctl|vfs_ioctl|ksys_ioctl|sock_do_ioctl|sock_sendmsg\w*|____sys_sendmsg|__sock_sendmsg|sock_recvmsg\w*|do_iter_\w+|call_(?:read|write)_iter|new_sync_(?:read|write)|_*vfs_(?:read|write)|vfs_(?:readv|writev)|do_readv_writev|task_work_run|do_one_initcall|rtnetlink_rcv_msg|nfnetlink_rcv_msg|_*sys_setsockopt|do_sock_setsockopt|sock_common_setsockopt|vfs_get_tree|__fput)$/

/** Detection and printing of a stall, and the interrupt that ran it (kernel/time, kernel/rcu, arch entry code). */
const STALL_DETECTION =
  /^(?:rcu_\w+|update_process_times|tick_\w+|hrtimer_\w+|_*(?:asm_)?sysvec_\w+|smp_\w*apic_\w+|apic_timer_\w+|local_apic\w*|_*irq_\w+|do_IRQ|ret_from_intr|nmi_\w+|trigger_\w+|arch_trigger\w*|check_cpu_stall|watchdog_\w*|gic_handle_irq|handle_\w*irq\w*|_*handle_domain_irq|el[01]\w*_irq\w*|arch_timer\w*|invoke_softirq|common_interrupt|asm_common\w*|call_on_\w+|generic_handle\w*|cpu_startup_entry|do_idle|rest_init|start_\w+|default_idle\w*|arch_cpu_idle|retint_\w+|__switch_to\w*|asm_call\w*|asm_exc\w*|dump_trace|run_timer_softirq|_*do_softirq\w*|restore_\w+|swapgs\w*|native_safe_halt|smp_kvm_\w+|__softirq\w*|exit_to_\w+|el0t?_\w+|interrupt_entry|_*perf_\w+|validate_\w+|unwind\w*|_*schedule(?:_timeout\w*)?|io_schedule\w*)$/

/** Functions that implement waiting: the first other one is the one that waits (kernel/sched, kernel/locking, mm/filemap.c). */
const WAITING =
  /^(?:_*schedule\w*|console_lock|_*(?:filemap_)?fdatawait\w*|__switch_to\w*|out_of_line_wait\w*|bit_wait\w*|usleep\w*|msleep\w*|folio_wait\w*|_*folio_lock\w*|_*wait_on_\w+|do_read_cache_(?:folio|page)|filemap_(?:get|read)\w*|completion\w*|swait\w*|jbd2_\w*wait\w*|exp_funnel_lock|wait_\w+|common_sleep|hrtimer_nanosleep|do_nanosleep|add_transaction_credits|get_signal|__?wait_rcu_gp|__synchronize_hardirq|rt_mutex\w*|rwbase\w*|io_schedule\w*|request_wait_answer|pagecache_get_page|find_lock_\w+)$/

/** One name for several functions that implement the same wait or call. */
const ALIASES: readonly (readonly [RegExp, string])[] = [
  [/^(?:smp_call_function\w*|csd_lock_wait\w*|generic_exec_single)$/, 'smp_call_function'],
  [
    /^(?:synchronize_(?:rcu|sched)\w*|__?synchronize_(?:rcu|sched)\w*|_synchronize_rcu\w*)$/,
    'synchronize_rcu',
  ],
]

function aliasOf(name: string): string {
  return ALIASES.find(([pattern]) => pattern.test(name))?.[1] ?? name
}

const firstFrame = (frames: readonly Frame[], skip: (name: string) => boolean): Frame | undefined =>
  frames.find(frame => frame.symbol !== '' && !skip(titleName(frame.symbol)))

/** The entry into a subsystem: what the innermost dispatcher called. */
function entryFrame(frames: readonly Frame[]): Frame | undefined {
  let callee: Frame | undefined
  for (const frame of frames) {
    if (frame.symbol === '') continue
    const name = titleName(frame.symbol)
    if (aliasOf(name) === 'smp_call_function') return frame
    if (DISPATCHERS.test(name) || /(?:SyS|sys)_ioctl$/.test(frame.symbol)) {
      if (callee) return callee
      continue
    }
    if (isReporting(name) || STALL_DETECTION.test(name)) continue
    callee = frame
    if (/^sys_|(?<!_arch_\w*)_ioctl$/.test(name)) return frame
  }
  return callee
}

/** The culprit frame: the function that names the bug, in the form of titles. Undefined where the report has none. */
export function findCulprit(
  frames: readonly Frame[],
  source: CulpritSource,
): { name: string; section?: number } | undefined {
  const exact = frames.findIndex(frame => frame.exact)
  const fromFault = exact < 0 ? frames : frames.slice(exact)
  const choices: Record<CulpritSource, () => Frame | undefined> = {
    fault: () =>
      firstFrame(fromFault, isSkipped) ??
      firstFrame(fromFault, isReporting) ??
      frames.find(frame => frame.symbol !== ''),
    trace: () => firstFrame(frames, isSkipped) ?? firstFrame(frames, isReporting),
    entry: () => entryFrame(frames),
    leak: () =>
      firstFrame(frames, name => isSkipped(name) || name.includes('alloc')) ?? firstFrame(frames, isSkipped),
    wait: () => firstFrame(frames, name => isSkipped(name) || WAITING.test(name)),
  }
  const found = choices[source]()
  return found && { name: aliasOf(titleName(found.symbol)), section: found.section }
}
