import { createHash } from 'node:crypto'
import { findCulprit } from './culprit.js'
import { BENIGN, FOLLOW_UPS, FORMATS, type Format } from './formats.js'
import { type ConsoleLine, splitConsoleLine } from './line.js'
import { type OomKill, parseOomKill } from './oom-kills.js'
import { regExpLiteral } from './regexp-literal.js'
import { isReporting, isSkipped } from './skip-list.js'
import { type Frame, readFrames, readSection, titleName } from './stack.js'
import type { FindingType } from './types.js'

/** One thing that the kernel said of itself. */
export interface Finding {
  /** as syzbot's dashboard prints it, so that it can be searched there */
  title: string
  type: FindingType
  /** the same for the same bug on every boot and build: no addresses, offsets, numbers */
  fingerprint: string
  /** 1-based line of the console log at which the report begins */
  line: number
  /** functions of the report's stack, the machinery of reporting left out, the innermost first */
  stack: Frame[]
  /** the report itself, without prefixes; at most 200 lines */
  report: string[]
  /** the kernel did not live on: its own word for it, if it had one */
  panic?: string
  /** how often the same report was printed */
  count: number
  /** windows in which it began, by their index; only of windows that were closed again */
  windows?: number[]
}

/** Console lines between which reports are expected: a report that begins there is marked, not left out. */
export interface IgnoreWindow {
  index: number
  /** pieces of lines */
  begin: string
  end: string
}

export interface Triage {
  /** the first one first */
  findings: Finding[]
  oomKills: OomKill[]
  /** indexes of windows that were opened and never closed: they mark nothing */
  unclosed: number[]
}

const MOST_LINE = 4096
const MOST_LINES = 1000
const MOST_TEXT = 128 * 1024
const MOST_FINDINGS = 200
const MOST_OPEN = 8
const MOST_FRAMES = 30
const KEPT_LINES = 200

/** No report begins without one of these. */
const TRIGGER =
  /BUG|WARNING: |INFO: |ernel panic - |nable to handle |protection fault|divide.error|invalid opcode|UBSAN|nternal error|nhandled fault|lignment trap|tack overflow|PANIC|nsufficient stack|unreferenced object|Oops|VFS: Busy|unregister_netdevice|: panicked at|usty: panic|SYZF|hard LOCKUP|stack guard|lock order detected|stack segment|segment not present|int3:|Bad mode in|Killed process/

interface Report {
  format: Format
  groups: Record<string, string>
  line: ConsoleLine
  lines: ConsoleLine[]
  size: number
  panic?: string
  /** filled as windows close, also after the report has ended */
  windows: number[]
  /** windows that were open when it began */
  began: string
}

/** The format of a line, if a report begins with it. */
function matchFormat(text: string): { format: Format; groups: Record<string, string> } | undefined {
  if (BENIGN.some(pattern => pattern.test(text))) return undefined
  for (const format of FORMATS) {
    const match = format.line.exec(text)
    if (match) return { format, groups: { ...match.groups } }
  }
  return undefined
}

/**
 * Finds reports in a console log that arrives piece by piece, in memory that does not grow with it. `onReport` hears of
 * a report as soon as its first line is there; `end` returns all findings, the first one first.
 */
export function triage(
  options: { windows?: readonly IgnoreWindow[]; onReport?: (line: ConsoleLine) => void } = {},
): {
  push(chunk: Buffer): void
  end(): Triage
} {
  const { windows = [], onReport } = options
  const trigger = new RegExp(
    [TRIGGER.source, ...windows.flatMap(({ begin, end }) => [regExpLiteral(begin), regExpLiteral(end)])].join(
      '|',
    ),
    'g',
  )
  const oomKills: OomKill[] = []
  const inside = new Set<number>()
  /** reports that began in windows that are open still */
  const marked = new Map<number, number[][]>()
  let rest = ''
  let number = 0
  const open: Report[] = []
  const findings: Finding[] = []
  const seen = new Map<string, Finding>()
  let last: { line: number; panic(words: string): void } | undefined

  const close = (report: Report) => {
    open.splice(open.indexOf(report), 1)
    const finding = conclude(report)
    if (!finding) return
    // the same report outside of a window is another matter than inside
    const key = `${finding.fingerprint} ${report.began}`
    const before = seen.get(key)
    if (before) {
      before.count++
      before.panic ??= finding.panic
      // a report that went on for longer is told later
      if (finding.line < before.line)
        Object.assign(before, { ...finding, count: before.count, panic: before.panic })
    } else if (findings.length < MOST_FINDINGS) {
      findings.push(finding)
      seen.set(key, finding)
    }
    const target = before ?? finding
    if (last?.line === report.line.number) {
      last.panic = words => {
        target.panic ??= words
      }
    }
  }

  const begin = (line: ConsoleLine, format: Format, groups: Record<string, string>) => {
    while (open.length >= MOST_OPEN) close(open[0] as Report)
    const report: Report = {
      format,
      groups,
      line,
      lines: [line],
      size: 0,
      windows: [],
      began: [...inside].join(),
    }
    if (format.fatal) report.panic = line.text
    // one line that says all takes nothing away from the report that it stands in
    if (open.length > 0 && format.sure && !format.where && !format.body && !format.fatal) open.unshift(report)
    else {
      // whoever prints this has ended what it printed before
      for (const other of [...open]) if (other.line.caller === line.caller) close(other)
      open.push(report)
    }
    last = {
      line: line.number,
      panic: words => {
        report.panic ??= words
      },
    }
    for (const index of inside) marked.get(index)?.push(report.windows)
    onReport?.(line)
  }

  /** The open report that a line belongs to: the newest of its writer's, or the newest where that cannot be told. */
  const owner = ({ caller }: ConsoleLine): Report | undefined => {
    const newest = open[open.length - 1]
    if (!newest || caller === undefined) return newest
    const own = open.findLast(report => report.line.caller === caller)
    if (own) return own
    // CPUs that are asked for their stacks answer in their own names
    return newest.line.caller === undefined || newest.format.type === 'HANG' ? newest : undefined
  }

  const each = (raw: string) => {
    for (const line of splitConsoleLine(raw.length > MOST_LINE ? raw.slice(0, MOST_LINE) : raw, ++number))
      take(line)
  }

  const lookAround = (text: string) => {
    for (const { index, begin, end } of windows) {
      if (inside.has(index) && text.includes(end)) {
        for (const list of marked.get(index) ?? []) list.push(index)
        inside.delete(index)
        marked.delete(index)
      } else if (!inside.has(index) && text.includes(begin)) {
        inside.add(index)
        marked.set(index, [])
      }
    }
  }

  const take = (line: ConsoleLine) => {
    const text = line.text.trimStart()
    const target = owner(line)
    if (target) {
      target.lines.push(line)
      target.size += text.length
    }
    trigger.lastIndex = 0
    if (trigger.test(text)) {
      lookAround(text)
      const kill = oomKills.length < MOST_FINDINGS ? parseOomKill(text, line.number) : undefined
      if (kill) oomKills.push(kill)
      const distance = last ? number - last.line : Number.POSITIVE_INFINITY
      if (FOLLOW_UPS.some(([within, pattern]) => distance <= within && pattern.test(text))) {
        if (text.startsWith('Kernel panic')) last?.panic(text)
      } else {
        const match = matchFormat(text)
        if (match) {
          begin(line, match.format, match.groups)
          return
        }
      }
    }
    for (const report of [...open])
      if (report.lines.length > MOST_LINES || report.size > MOST_TEXT) close(report)
  }

  const push = (chunk: Buffer) => {
    const text = rest + chunk.toString('latin1')
    let at = 0
    while (at < text.length) {
      if (open.length === 0) {
        // nothing is open: jump to the next line that may begin a report
        trigger.lastIndex = at
        const hit = trigger.exec(text)
        const whole = text.lastIndexOf('\n', hit ? hit.index : text.length) + 1
        for (
          let next = text.indexOf('\n', at);
          next >= 0 && next < whole;
          next = text.indexOf('\n', next + 1)
        )
          number++
        at = Math.max(at, whole)
        if (!hit) break
      }
      const next = text.indexOf('\n', at)
      if (next < 0) break
      each(text.slice(at, next))
      at = next + 1
    }
    rest = text.slice(at)
    // a line without end is cut, not collected
    if (rest.length > 65536) {
      each(rest)
      number--
      rest = ''
    }
  }

  return {
    push,
    end() {
      if (rest) each(rest)
      rest = ''
      for (const report of [...open]) close(report)
      findings.sort((a, b) => a.line - b.line)
      for (const finding of findings) if (finding.windows?.length === 0) delete finding.windows
      return { findings, oomKills, unclosed: [...inside] }
    },
  }
}

/** What a whole report says; undefined if it turns out to be none. */
function conclude(report: Report): Finding | undefined {
  const texts = report.lines.map(line => line.text)
  const body = texts.join('\n')
  let { format, groups } = report
  if (format.body) {
    const found = format.body.exec(body)
    if (found) groups = { ...groups, ...found.groups }
    else {
      const next = FORMATS.slice(FORMATS.indexOf(format) + 1).find(
        other => other.line.test(report.line.text) && (!other.body || other.body.test(body)),
      )
      if (!next) return undefined
      format = next
      groups = { ...next.line.exec(report.line.text)?.groups, ...next.body?.exec(body)?.groups }
    }
  }
  const frames = readFrames(report.lines.slice(1))
  const evidence = frames.length > 0 || /^(?:CPU: \d+ |RIP: |Call [Tt]race:|Modules linked in)/m.test(body)
  if (!format.sure && !evidence && format.title.includes('{what}')) return undefined
  const guilty = format.where && accuse(report, format, frames, body)
  const title = fill(guilty || !format.bare ? format.title : format.bare, {
    ...groups,
    frame: guilty?.name ?? unseen(groups.at),
  })
  // the stack in which the named function is; of several, the others are of other CPUs and tasks
  const section = guilty ? (guilty.section ?? 0) : frames[0]?.section
  const stack = frames
    .filter(frame => frame.section === section && frame.symbol !== '' && !isReporting(frame.symbol))
    .slice(0, MOST_FRAMES)
    .map(({ section: _, ...frame }) => frame)
  return {
    title,
    type: (!guilty && format.bareType) || format.type,
    fingerprint: fingerprint(format, title, stack),
    line: report.line.number,
    stack,
    report: texts.slice(0, KEPT_LINES),
    ...(report.panic ? { panic: report.panic } : {}),
    count: 1,
    windows: report.windows,
  }
}

function accuse(
  report: Report,
  format: Format,
  frames: readonly Frame[],
  body: string,
): { name: string; section?: number } | undefined {
  const named = format.named?.exec(body)?.groups?.frame
  if (named && !isSkipped(named)) return { name: titleName(named) }
  const section = format.section && readSection(report.lines, format.section)
  return findCulprit(section?.length ? section : frames, format.where ?? 'trace')
}

/** What stands for the function where no stack was seen: the one that the first line names, or syzbot's word for it. */
function unseen(at: string | undefined): string {
  return at && !isSkipped(at) ? titleName(at) : 'corrupted'
}

/** Numbers and addresses differ from boot to boot. */
function fill(template: string, groups: Record<string, string>): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) =>
    name === 'what' ? mask(groups.what ?? '') : titleName(groups[name] ?? ''),
  )
}

function mask(text: string): string {
  return text
    .replace(/0x[0-9a-f]+/gi, 'ADDR')
    .replace(/\b[0-9a-f]{8,16}\b/g, 'ADDR')
    .replace(/(?<![A-Za-z_\d])\d+|\d{6,}/g, 'NUM')
    .slice(0, 200)
}

/** Sixteen hex digits of a hash of the title and, where the stack does not depend on the moment, its next functions. */
function fingerprint(format: Format, title: string, stack: readonly Frame[]): string {
  const momentary = format.type === 'HANG' || format.where === undefined || format.where === 'entry'
  const names = momentary
    ? []
    : stack
        .map(frame => titleName(frame.symbol))
        .filter(name => !isSkipped(name))
        .slice(0, 3)
  return createHash('sha256')
    .update([format.type, title, ...names].join('\n'))
    .digest('hex')
    .slice(0, 16)
}
