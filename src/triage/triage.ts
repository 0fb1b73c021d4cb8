import { createHash } from 'node:crypto'
import { CONSEQUENCES, FORMATS, type Format, INNOCENT } from './formats.js'
import { findGuilty } from './guilty.js'
import { type Line, parseLines } from './line.js'
import { isMachinery } from './machinery.js'
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
}

const MOST_LINE = 4096
const MOST_LINES = 400
const MOST_TEXT = 64 * 1024
const MOST_FINDINGS = 200
const MOST_OPEN = 8
const KEPT_LINES = 200

/** No report begins without one of these. */
const TRIGGER =
  /BUG|WARNING: |INFO: |ernel panic - |nable to handle |protection fault|divide.error|invalid opcode|UBSAN|nternal error|nhandled fault|lignment trap|tack overflow|PANIC|nsufficient stack|unreferenced object|Oops|VFS: Busy|unregister_netdevice|: panicked at|usty: panic|SYZF|hard LOCKUP|stack guard|lock order detected|stack segment|segment not present|int3:|Bad mode in/g

interface Report {
  format: Format
  groups: Record<string, string>
  line: Line
  lines: Line[]
  size: number
  panic?: string
  done: boolean
}

/** The format of a line, if a report begins with it. */
export function matchFormat(text: string): { format: Format; groups: Record<string, string> } | undefined {
  if (INNOCENT.some(pattern => pattern.test(text))) return undefined
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
export function triage(onReport: (line: Line) => void = () => {}): {
  push(chunk: Buffer): void
  end(): Finding[]
} {
  let rest = ''
  let number = 0
  const open: Report[] = []
  const findings: Finding[] = []
  const seen = new Map<string, Finding>()
  let last: { line: number; panic(words: string): void } | undefined

  const close = (report: Report) => {
    if (report.done) return
    report.done = true
    open.splice(open.indexOf(report), 1)
    const finding = conclude(report)
    if (!finding) return
    const before = seen.get(finding.fingerprint)
    if (before) {
      before.count++
      before.panic ??= finding.panic
    } else if (findings.length < MOST_FINDINGS) {
      findings.push(finding)
      seen.set(finding.fingerprint, finding)
    }
    const target = before ?? finding
    if (last?.line === report.line.number) {
      last.panic = words => {
        target.panic ??= words
      }
    }
  }

  const begin = (line: Line, format: Format, groups: Record<string, string>) => {
    while (open.length >= MOST_OPEN) close(open[0] as Report)
    const report: Report = { format, groups, line, lines: [line], size: 0, done: false }
    if (format.fatal) report.panic = line.text
    // one line that says all takes nothing away from the report that it stands in
    if (open.length > 0 && format.sure && !format.where && !format.body && !format.fatal) open.unshift(report)
    else open.push(report)
    last = {
      line: line.number,
      panic: words => {
        report.panic ??= words
      },
    }
    onReport(line)
  }

  /** The open report that a line belongs to: the newest of its writer's, or the newest where that cannot be told. */
  const owner = ({ caller }: Line): Report | undefined => {
    const newest = open[open.length - 1]
    if (!newest || caller === undefined) return newest
    const own = open.findLast(report => report.line.caller === caller)
    if (own) return own
    // CPUs that are asked for their stacks answer in their own names
    return newest.line.caller === undefined || newest.format.type === 'HANG' ? newest : undefined
  }

  const each = (raw: string) => {
    for (const line of parseLines(raw.length > MOST_LINE ? raw.slice(0, MOST_LINE) : raw, ++number))
      take(line)
  }

  const take = (line: Line) => {
    const text = line.text.trimStart()
    const target = owner(line)
    if (target) {
      target.lines.push(line)
      target.size += text.length
    }
    TRIGGER.lastIndex = 0
    if (TRIGGER.test(text)) {
      const distance = last ? number - last.line : Number.POSITIVE_INFINITY
      if (CONSEQUENCES.some(([within, pattern]) => distance <= within && pattern.test(text))) {
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
        TRIGGER.lastIndex = at
        const hit = TRIGGER.exec(text)
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
      return findings.sort((a, b) => a.line - b.line)
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
    frame: guilty?.name ?? 'corrupted',
  })
  const stack = frames.filter(frame => !isMachinery(frame.symbol)).slice(0, 30)
  return {
    title,
    type: (!guilty && format.bareType) || format.type,
    fingerprint: fingerprint(format, title, stack),
    line: report.line.number,
    stack,
    report: texts.slice(0, KEPT_LINES),
    ...(report.panic ? { panic: report.panic } : {}),
    count: 1,
  }
}

function accuse(
  report: Report,
  format: Format,
  frames: readonly Frame[],
  body: string,
): { name: string } | undefined {
  const named = format.named?.exec(body)?.groups?.frame
  if (named && !isMachinery(named)) return { name: titleName(named) }
  const section = format.section && readSection(report.lines, format.section)
  return findGuilty(section?.length ? section : frames, format.where ?? 'trace')
}

/** Numbers and addresses differ from boot to boot. */
function fill(template: string, groups: Record<string, string>): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) =>
    name === 'what' ? mask(groups.what ?? '') : (groups[name] ?? ''),
  )
}

function mask(text: string): string {
  return text
    .replace(/0x[0-9a-f]+/gi, 'ADDR')
    .replace(/\b[0-9a-f]{8,16}\b/g, 'ADDR')
    .replace(/(?<![A-Za-z_\d])\d+/g, 'NUM')
    .slice(0, 200)
}

/** Sixteen hex digits of a hash of the title and, where the stack does not depend on the moment, its next functions. */
function fingerprint(format: Format, title: string, stack: readonly Frame[]): string {
  const momentary = format.type === 'HANG' || format.where === undefined || format.where === 'entry'
  const names = momentary ? [] : stack.slice(0, 3).map(frame => titleName(frame.symbol))
  return createHash('sha256')
    .update([format.type, title, ...names].join('\n'))
    .digest('hex')
    .slice(0, 16)
}
