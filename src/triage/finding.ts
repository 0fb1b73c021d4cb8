import { createHash } from 'node:crypto'
import { findCulprit } from './culprit.js'
import { FORMATS, type Format } from './formats.js'
import type { ConsoleLine } from './line.js'
import { isReporting, isSkipped } from './skip-list.js'
import { type Frame, readFrames, readSection, titleName } from './stack.js'
import type { FindingType } from './types.js'

/** A report that the kernel printed about itself. */
export interface Finding {
  /** in the form that syzbot's dashboard uses, so that it can be searched there */
  title: string
  type: FindingType
  /** the same for the same bug on every boot and build: no addresses, offsets, numbers */
  fingerprint: string
  /** 1-based line of the console log at which the report begins */
  line: number
  /** functions of the report's stack without those of the skip list that report a fault, the innermost first */
  stack: Frame[]
  /** the report itself, without prefixes; at most 200 lines */
  report: string[]
  /** the panic line that followed it; absent if the kernel continued, or printed none */
  panic?: string
  /** how often the same report was printed */
  count: number
  /** indexes of the ignore windows in which it began; only of windows that were closed again */
  windows?: number[]
}

/** A report while its lines are collected. */
export interface Report {
  format: Format
  /** named groups of the format's first line */
  groups: Record<string, string>
  /** the first line */
  line: ConsoleLine
  lines: ConsoleLine[]
  /** characters of the lines */
  size: number
  panic?: string
  /** filled as windows close, also after the report has ended */
  windows: number[]
  /** the windows that were open when it began, as part of a key */
  openWindows: string
}

const MAX_FRAMES = 30
const MAX_REPORT_LINES = 200
/** functions of the stack that a fingerprint is made of */
const FINGERPRINT_FRAMES = 3

/** A format that applies to a report, with the named groups of all that it matched. */
interface FormatMatch {
  format: Format
  groups: Record<string, string>
}

/** The function that a title names; of several stacks, `section` is the one that it is in. */
interface Culprit {
  name: string
  section?: number
}

/** The finding that a complete report stands for; undefined if it turns out not to be one. */
export function toFinding(report: Report): Finding | undefined {
  const texts = report.lines.map(line => line.text)
  const body = texts.join('\n')
  const match = matchBody(report, body)
  if (!match) return undefined
  const { format, groups } = match
  const frames = readFrames(report.lines.slice(1))
  if (!isCredible(format, frames, body)) return undefined
  const culprit = format.culprit && locateCulprit(report, format, frames, body)
  const title = fillTitle(culprit || !format.titleWithoutFrame ? format.title : format.titleWithoutFrame, {
    ...groups,
    frame: culprit?.name ?? nameWithoutStack(groups.at),
  })
  const stack = stackOf(frames, culprit)
  return {
    title,
    type: (!culprit && format.typeWithoutFrame) || format.type,
    fingerprint: fingerprint(format, title, stack),
    line: report.line.number,
    stack,
    report: texts.slice(0, MAX_REPORT_LINES),
    ...(report.panic ? { panic: report.panic } : {}),
    count: 1,
    windows: report.windows,
  }
}

/** The format whose body the report has: the one of its first line, or the next one that fits both. */
function matchBody({ format, groups, line }: Report, body: string): FormatMatch | undefined {
  if (!format.body) return { format, groups }
  const match = format.body.exec(body)
  if (match) return { format, groups: { ...groups, ...match.groups } }
  const next = FORMATS.slice(FORMATS.indexOf(format) + 1).find(
    other => other.line.test(line.text) && (!other.body || other.body.test(body)),
  )
  if (!next) return undefined
  return { format: next, groups: { ...next.line.exec(line.text)?.groups, ...next.body?.exec(body)?.groups } }
}

/** False for a line that only begins like a report: neither a stack nor registers follow it. */
function isCredible(format: Format, frames: readonly Frame[], body: string): boolean {
  if (format.needsNoStack || !format.title.includes('{what}')) return true
  return frames.length > 0 || /^(?:CPU: \d+ |RIP: |Call [Tt]race:|Modules linked in)/m.test(body)
}

function locateCulprit(
  report: Report,
  format: Format,
  frames: readonly Frame[],
  body: string,
): Culprit | undefined {
  const named = format.named?.exec(body)?.groups?.frame
  if (named && !isSkipped(named)) return { name: titleName(named) }
  const section = format.section && readSection(report.lines, format.section)
  return findCulprit(section?.length ? section : frames, format.culprit ?? 'trace')
}

/** The stack that the culprit is in; of several, the others are of other CPUs and tasks. */
function stackOf(frames: readonly Frame[], culprit: Culprit | undefined): Frame[] {
  const section = culprit ? (culprit.section ?? 0) : frames[0]?.section
  return frames
    .filter(frame => frame.section === section && frame.symbol !== '' && !isReporting(frame.symbol))
    .slice(0, MAX_FRAMES)
    .map(({ section: _, ...frame }) => frame)
}

/** The function where there is no stack: the one that the first line names, or `corrupted`, as syzbot has it. */
function nameWithoutStack(at: string | undefined): string {
  return at && !isSkipped(at) ? titleName(at) : 'corrupted'
}

function fillTitle(template: string, groups: Record<string, string>): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) =>
    name === 'what' ? maskNumbers(groups.what ?? '') : titleName(groups[name] ?? ''),
  )
}

/** Numbers and addresses differ from boot to boot. */
function maskNumbers(text: string): string {
  return text
    .replace(/0x[0-9a-f]+/gi, 'ADDR')
    .replace(/\b[0-9a-f]{8,16}\b/g, 'ADDR')
    .replace(/(?<![A-Za-z_\d])\d+|\d{6,}/g, 'NUM')
    .slice(0, 200)
}

/**
 * Sixteen hex digits of a hash of type and title and, where the stack is the same each time, of the innermost functions.
 * The stack of a stall depends on the moment at which it was noticed.
 */
function fingerprint(format: Format, title: string, stack: readonly Frame[]): string {
  const varies = format.type === 'HANG' || format.culprit === undefined || format.culprit === 'entry'
  const names = varies
    ? []
    : stack
        .map(frame => titleName(frame.symbol))
        .filter(name => !isSkipped(name))
        .slice(0, FINGERPRINT_FRAMES)
  return createHash('sha256')
    .update([format.type, title, ...names].join('\n'))
    .digest('hex')
    .slice(0, 16)
}
