import type { ConsoleLine } from './line.js'

/** One function of a stack. */
export interface Frame {
  /** as the kernel prints it, with the compiler's suffixes */
  symbol: string
  /** bytes from the symbol's start; absent where only a name was printed */
  offset?: number
  /** bytes of the symbol */
  size?: number
  module?: string
  /** the instruction itself (RIP, pc), not a return address */
  exact: boolean
  /** which of the report's stacks it is in, counted from 0 */
  section?: number
}

const NAME = String.raw`(?:<[\w:, <>&*]+>(?:::[\w{}#<>]+)+|[A-Za-z_$][\w.$]*)`
const OFFSET = String.raw`\+0x([0-9a-f]+)\/0x([0-9a-f]+)(?: \[([\w-]+)[^\]]*\])?`
const ADDRESS = String.raw`(?:\(?\[<?[0-9a-fx]{8,18}>?\]\)? *)`

/** Where the CPU was: x86, arm64, arm, riscv, powerpc, s390 (arch show_regs() of each). */
const EXACT: readonly RegExp[] = [
  new RegExp(String.raw`\bRIP: (?:0010|0018|e030):${ADDRESS}* *(?:\{[^}]*\})?(${NAME})${OFFSET}`),
  new RegExp(String.raw`\bEIP: (?:\[<[0-9a-f]+>\] *|0060:\[<[0-9a-f]+>\] *)?(${NAME})${OFFSET}`),
  new RegExp(
    String.raw`^ *(?:pc|epc|PC is at|IP:|RIP|NIP(?: \[[0-9a-f]+\])?)(?: is at)? *:? *${ADDRESS}?(${NAME})${OFFSET}`,
  ),
  new RegExp(`^IP: ${ADDRESS}?(${NAME})${OFFSET}`),
  new RegExp(String.raw`^Krnl PSW : [0-9a-f]+ [0-9a-f]+ \((${NAME})${OFFSET}\)`),
]

/** The CPU was not in any function (a call through a bad pointer). */
const NO_FUNCTION = /(?:\bRIP: 0010:|^ *PC is at |^ *e?pc : |^IP: )\s*(?:0x)?[0-9a-f]+\s*$/

/** A function of a call trace, alone on its line; with a question mark the unwinder is not sure of it. */
const FRAME = new RegExp(
  String.raw`^ *(?:#\d+:? +)?${ADDRESS}{0,2} *(\? )?(?:0x[0-9a-f]+: )?(${NAME})${OFFSET}(?: \(unreliable\))?(?: [\w./-]+:\d+.*)?\s*$`,
)
/** arm without offsets in the callee: `[<802b3ffc>] (callee) from [<802e1324>] (caller+0x6c/0x120)` */
const ARM = new RegExp(String.raw`^ *${ADDRESS}?\(?(${NAME})\)? from ${ADDRESS}?\(?(${NAME})${OFFSET}`)
/** x86 marks the stacks: ` <IRQ>  [<ffffffff81234567>] name` (arch/x86/kernel/dumpstack.c) */
const STACK_NAME = /^ *(?:<\/?[#A-Z\d]+> *)+/
/** A stack of addresses and names: `[<ffffffff81234567>] name` */
const BARE = /^ *\[<[0-9a-f]{8,16}>\] (\? )?([A-Za-z_]\w*)\s*$/

/** Lines after which functions belong to the history of an object or a lock, not to the event itself. */
const HISTORY =
  /^\s*(?:(?:page )?last (?:allocated|free)|page_owner tracks|Allocated by|Freed by|allocated by|freed by|Uninit was|Local variable|Last potentially|Second to last|the existing dependency chain|-> #\d|the dependencies between|the second lock|which lock already depends|but this new dependency|to a \S+-irq-\w+ lock|\S*state was registered at|.* allocated by task|.* freed by task|INITIAL (?:USE|READ USE) at|INFO: (?:Allocated|Freed) in|HARDIRQ|SOFTIRQ|\{?IN-|\.\.\. (?:key|acquired) at|Memory state around|Object allocated|The buggy address|Preemption disabled at|irq event stamp|hardirqs last|softirqs last|page dumped because|Tasks? blocked on|rcu: RCU grace-period kthread stack dump|caller is )/
/** Lines after which they belong to the event again. */
const EVENT =
  /^\s*(?:Call [Tt]race:|stack backtrace:|CPU: \d+ |NMI backtrace for cpu|Backtrace:|backtrace:|Stack:|Workqueue:|Task dump for CPU|rcu: Stack dump where|Hardware name:|Modules linked in)/

function toFrame(match: RegExpExecArray, at: number, exact: boolean): Frame {
  const [symbol, offset, size, module] = [match[at], match[at + 1], match[at + 2], match[at + 3]]
  return {
    symbol: (symbol ?? '').trim(),
    ...(offset === undefined ? {} : { offset: Number.parseInt(offset, 16) }),
    ...(size === undefined ? {} : { size: Number.parseInt(size, 16) }),
    ...(module === undefined ? {} : { module }),
    exact,
  }
}

/** The function that a line of a stack or register dump names; undefined for none, or an unreliable one. */
export function parseFrame(text: string): Frame | undefined {
  if (text.length > 400) return undefined
  const line = text.replace(STACK_NAME, ' ')
  if (NO_FUNCTION.test(line)) return { symbol: '', exact: true }
  for (const pattern of EXACT) {
    const match = pattern.exec(line)
    if (match) return toFrame(match, 1, true)
  }
  const frame = FRAME.exec(line)
  if (frame) return frame[1] || line.includes('(unreliable)') ? undefined : toFrame(frame, 2, false)
  const arm = ARM.exec(line)
  if (arm) return toFrame(arm, 2, false)
  const bare = BARE.exec(line)
  return bare && !bare[1] ? toFrame(bare, 2, false) : undefined
}

/** The functions of the stack below the first line that `heading` matches. */
export function readSection(lines: readonly ConsoleLine[], heading: RegExp): Frame[] {
  const start = lines.findIndex(({ text }) => heading.test(text))
  if (start < 0) return []
  const frames: Frame[] = []
  for (const { text } of lines.slice(start + 1)) {
    const frame = parseFrame(text)
    if (frame) frames.push(frame)
    else if (frames.length > 0 && text.trim() === '') break
  }
  return frames
}

/** All functions of the event itself, in the order in which they are printed; those of histories are left out. */
export function readFrames(lines: readonly ConsoleLine[]): Frame[] {
  const frames: Frame[] = []
  let inHistory = false
  let section = 0
  /** the current stack has frames: the next heading belongs to another one */
  let hasFrames = false
  for (const { text } of lines) {
    // what follows is printed for the second time
    if (text.includes('---[ end trace') && frames.length > 0) break
    if (EVENT.test(text)) {
      inHistory = false
      if (hasFrames) section++
      hasFrames = false
    } else if (HISTORY.test(text)) inHistory = true
    if (inHistory) continue
    const frame = parseFrame(text)
    // arm names callee and caller: the innermost function appears as a callee only
    const callee = ARM.exec(text)?.[1]
    if (callee && frames[frames.length - 1]?.symbol !== callee)
      frames.push({ symbol: callee, exact: false, section })
    if (frame) {
      frames.push({ ...frame, section })
      hasFrames ||= !frame.exact
    }
  }
  return frames
}

/** A frame as the kernel prints it: `symbol+0xoffset/0xsize [module]`. */
export function frameText({ symbol, offset, size, module }: Frame): string {
  const where = offset === undefined ? '' : `+0x${offset.toString(16)}/0x${(size ?? 0).toString(16)}`
  return `${symbol}${where}${module ? ` [${module}]` : ''}`
}

/**
 * The function's name in the form of titles: without the compiler's suffixes (.isra.0, .constprop.3, .cold, .part.1,
 * .llvm.123) and the prefixes of the syscall wrappers (include/linux/syscalls.h; SyS_ before 4.17).
 */
export function titleName(symbol: string): string {
  return symbol
    .replace(/\.(?:isra|constprop|cold|part|llvm|lto_priv|__uniq)\b.*$/, '')
    .replace(
      /^(?:__(?:x64|ia32|arm64|riscv|s390x?|x32)_(?:compat_)?|__do_|__se_(?:compat_)?|compat_)(?=sys_)/,
      '',
    )
    .replace(/^(?:__do_|__se_)?compat_(?:SyS_|sys_)/, '')
    .replace(/^(?:SyS|SYSC)_/, 'sys_')
}
