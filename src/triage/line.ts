/** One line of a console, without what the transport and printk put around its text. */
export interface ConsoleLine {
  /** 1-based number in the log */
  number: number
  text: string
  /** what printed it, where the kernel names it: a task `T12` or a CPU `C0` (CONFIG_PRINTK_CALLER) */
  caller?: string
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: it removes colours
const ANSI = /\x1b\[[0-9;?]*[A-Za-z]/g

/** `[   12.345678] `, with CONFIG_PRINTK_CALLER `[   12.345678][   T12] ` (kernel/printk/printk.c, info_print_prefix). */
const STAMP = /\[ *\d+\.\d{3,}\](?:\[ *([TC]\d+)\])? ?/g

/** What syslog daemons and vendors put before a line: `Nov  3 11:22:33 host kernel: `, `2018/01/09 14:28:48 `, `<4>`. */
const PREFIXES: readonly RegExp[] = [
  /^<\d{1,3}>/,
  /^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ kernel: ?/,
  /^\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d\S* (?:\S+ kernel: ?)?/,
  /^\[?CPU ?\d+\]?:? (?=\[)/,
]

/** Some vendors put CPU and task after the time stamp: `[1:  swapper/1:    0] `, `(1)[12:comm]`. */
const AFTER_STAMP: readonly RegExp[] = [/^\[\d+: *[^\]:]+: *\d+\] ?/, /^\(\d\)\[\d+:[^\]]*\] ?/]

/**
 * Removes CR, colours, level, syslog's and printk's prefixes from a line. Where two writers share a serial line, a time
 * stamp is in the middle of what the first one wrote: each part becomes a line of its own.
 */
export function splitConsoleLine(raw: string, number: number): ConsoleLine[] {
  let text = raw
  if (text.includes('\x1b')) text = text.replace(ANSI, '')
  if (text.endsWith('\r')) text = text.replace(/\r+$/, '')
  for (const prefix of PREFIXES) text = text.replace(prefix, '')
  const stamps = [...text.matchAll(STAMP)].slice(0, 8)
  const lines: ConsoleLine[] = []
  const head = text.slice(0, stamps[0]?.index)
  if (stamps.length === 0 || head.trim() !== '') lines.push({ number, text: head })
  for (const [index, stamp] of stamps.entries()) {
    let part = text.slice(stamp.index + stamp[0].length, stamps[index + 1]?.index)
    for (const prefix of AFTER_STAMP) part = part.replace(prefix, '')
    lines.push({ number, text: part, ...(stamp[1] ? { caller: stamp[1] } : {}) })
  }
  return lines
}
