import type { Finding } from './finding.js'
import { BENIGN, FOLLOW_UPS, FORMATS, type Format } from './formats.js'
import { type IgnoreWindow, WindowTracker } from './ignore-windows.js'
import { type ConsoleLine, splitConsoleLine } from './line.js'
import { type OomKill, parseOomKill } from './oom-kills.js'
import { MAX_FINDINGS, OpenReports } from './open-reports.js'
import { regExpLiteral } from './regexp-literal.js'

export interface Triage {
  /** in the order of their lines */
  findings: Finding[]
  oomKills: OomKill[]
  /** indexes of windows that were opened and never closed: they mark nothing */
  unclosed: number[]
}

export interface TriageOptions {
  windows?: readonly IgnoreWindow[]
  /** called when a report begins, with its first line */
  onReport?: (line: ConsoleLine) => void
}

/** characters of a line that are looked at */
const MAX_LINE = 4096
/** characters of a line without an end after which it is cut */
const MAX_UNFINISHED_LINE = 65536

/** No report begins without one of these. */
const TRIGGER =
  /BUG|WARNING: |INFO: |ernel panic - |nable to handle |protection fault|divide.error|invalid opcode|UBSAN|nternal error|nhandled fault|lignment trap|tack overflow|PANIC|nsufficient stack|unreferenced object|Oops|VFS: Busy|unregister_netdevice|: panicked at|usty: panic|SYZF|hard LOCKUP|stack guard|lock order detected|stack segment|segment not present|int3:|Bad mode in|Killed process/

/**
 * Finds reports in a console log that arrives in chunks. Memory is bounded, whatever the length of the log. `end`
 * returns what the whole log holds.
 */
export function triage(options: TriageOptions = {}): { push(chunk: Buffer): void; end(): Triage } {
  return new ConsoleTriage(options)
}

class ConsoleTriage {
  private readonly trigger: RegExp
  private readonly windows: WindowTracker
  private readonly reports = new OpenReports()
  private readonly oomKills: OomKill[] = []
  /** the beginning of a line whose end has not arrived */
  private rest = ''
  /** lines so far */
  private lines = 0

  constructor(private readonly options: TriageOptions) {
    const { windows = [] } = options
    this.trigger = triggerFor(windows)
    this.windows = new WindowTracker(windows)
  }

  push(chunk: Buffer): void {
    const text = this.rest + chunk.toString('latin1')
    let at = 0
    while (at < text.length) {
      if (this.reports.isEmpty) {
        const next = this.skipToTrigger(text, at)
        at = next.at
        if (!next.triggered) break
      }
      const end = text.indexOf('\n', at)
      if (end < 0) break
      this.rawLine(text.slice(at, end), ++this.lines)
      at = end + 1
    }
    this.rest = text.slice(at)
    if (this.rest.length > MAX_UNFINISHED_LINE) {
      this.rawLine(this.rest, this.lines + 1)
      this.rest = ''
    }
  }

  end(): Triage {
    if (this.rest) this.rawLine(this.rest, ++this.lines)
    this.rest = ''
    this.reports.closeAll()
    const { findings } = this.reports
    findings.sort((a, b) => a.line - b.line)
    for (const finding of findings) if (finding.windows?.length === 0) delete finding.windows
    return { findings, oomKills: this.oomKills, unclosed: this.windows.openIndexes() }
  }

  /** While no report is open only lines with a trigger matter: skips and counts the lines before the next one. */
  private skipToTrigger(text: string, from: number): { at: number; triggered: boolean } {
    this.trigger.lastIndex = from
    const hit = this.trigger.exec(text)
    const lineStart = text.lastIndexOf('\n', hit ? hit.index : text.length) + 1
    for (let end = text.indexOf('\n', from); end >= 0 && end < lineStart; end = text.indexOf('\n', end + 1))
      this.lines++
    return { at: Math.max(from, lineStart), triggered: hit !== null }
  }

  private rawLine(raw: string, number: number): void {
    for (const line of splitConsoleLine(raw.length > MAX_LINE ? raw.slice(0, MAX_LINE) : raw, number))
      this.line(line)
  }

  private line(line: ConsoleLine): void {
    const text = line.text.trimStart()
    this.reports.add(line, text.length)
    this.trigger.lastIndex = 0
    if (this.trigger.test(text) && this.triggeredLine(line, text)) return
    this.reports.closeOversized()
  }

  /** A line that may begin a report; true if it does. */
  private triggeredLine(line: ConsoleLine, text: string): boolean {
    this.windows.line(text)
    const kill = this.oomKills.length < MAX_FINDINGS ? parseOomKill(text, line.number) : undefined
    if (kill) this.oomKills.push(kill)
    if (isFollowUp(text, this.reports.distance(line))) {
      if (text.startsWith('Kernel panic')) this.reports.recordPanic(text)
      return false
    }
    const match = matchFormat(text)
    if (!match) return false
    const report = this.reports.begin(match.format, match.groups, line, this.windows.openIndexes())
    this.windows.mark(report.windows)
    this.options.onReport?.(line)
    return true
  }
}

/** Matches the lines that may begin a report, and those that open or close a window. */
function triggerFor(windows: readonly IgnoreWindow[]): RegExp {
  const literals = windows.flatMap(({ begin, end }) => [regExpLiteral(begin), regExpLiteral(end)])
  return new RegExp([TRIGGER.source, ...literals].join('|'), 'g')
}

/** True for a line that only continues the last report, which began `distance` lines before. */
function isFollowUp(text: string, distance: number): boolean {
  return FOLLOW_UPS.some(([within, pattern]) => distance <= within && pattern.test(text))
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
