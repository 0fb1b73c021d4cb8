import { type Finding, type Report, toFinding } from './finding.js'
import type { Format } from './formats.js'
import type { ConsoleLine } from './line.js'

const MAX_LINES = 1000
const MAX_CHARACTERS = 128 * 1024
const MAX_OPEN = 8
export const MAX_FINDINGS = 200

/**
 * The reports whose lines are being collected, several at a time where several CPUs print, and the findings that ended
 * reports became.
 */
export class OpenReports {
  readonly findings: Finding[] = []
  private readonly open: Report[] = []
  private readonly byKey = new Map<string, Finding>()
  /** the report that began last: while it is open, later what it became */
  private last: { line: number; target: { panic?: string } } | undefined

  get isEmpty(): boolean {
    return this.open.length === 0
  }

  /** Begins a report. `openWindows` are the indexes of the ignore windows that are open. Returns the report. */
  begin(
    format: Format,
    groups: Record<string, string>,
    line: ConsoleLine,
    openWindows: readonly number[],
  ): Report {
    while (this.open.length >= MAX_OPEN) this.close(this.open[0] as Report)
    const report: Report = {
      ...{ format, groups, line, lines: [line], size: 0, windows: [] },
      openWindows: openWindows.join(),
    }
    if (format.fatal) report.panic = line.text
    const isOneLine = format.needsNoStack && !format.culprit && !format.body && !format.fatal
    // a report of one line takes no lines from the report in whose middle it was printed
    if (isOneLine && this.open.length > 0) this.open.unshift(report)
    else {
      // a task or CPU that prints a new report has ended its previous one
      for (const other of [...this.open]) if (other.line.caller === line.caller) this.close(other)
      this.open.push(report)
    }
    this.last = { line: line.number, target: report }
    return report
  }

  /** Adds a line, `size` characters long, to the open report that it belongs to. */
  add(line: ConsoleLine, size: number): void {
    const report = this.ownerOf(line)
    if (!report) return
    report.lines.push(line)
    report.size += size
  }

  /** Lines since the last report began; infinite where there is none. */
  distance(line: ConsoleLine): number {
    return this.last ? line.number - this.last.line : Number.POSITIVE_INFINITY
  }

  /** Records the panic line that follows the last report. */
  recordPanic(text: string): void {
    if (this.last) this.last.target.panic ??= text
  }

  closeOversized(): void {
    for (const report of [...this.open])
      if (report.lines.length > MAX_LINES || report.size > MAX_CHARACTERS) this.close(report)
  }

  closeAll(): void {
    for (const report of [...this.open]) this.close(report)
  }

  /** The newest report of the task or CPU that printed the line, or the newest of all where that cannot be known. */
  private ownerOf({ caller }: ConsoleLine): Report | undefined {
    const newest = this.open[this.open.length - 1]
    if (!newest || caller === undefined) return newest
    const own = this.open.findLast(report => report.line.caller === caller)
    if (own) return own
    // CPUs that have to print their stacks because of a stall print them under their own names
    return newest.line.caller === undefined || newest.format.type === 'HANG' ? newest : undefined
  }

  private close(report: Report): void {
    this.open.splice(this.open.indexOf(report), 1)
    const finding = toFinding(report)
    if (!finding) return
    // the same report inside of a window and outside are two findings
    const key = `${finding.fingerprint} ${report.openWindows}`
    const known = this.byKey.get(key)
    if (known) addOccurrence(known, finding)
    else if (this.findings.length < MAX_FINDINGS) {
      this.findings.push(finding)
      this.byKey.set(key, finding)
    }
    if (this.last?.line === report.line.number) this.last.target = known ?? finding
  }
}

/** Counts a finding that was printed again. The earliest occurrence is shown, although a longer one may end later. */
function addOccurrence(known: Finding, again: Finding): void {
  known.count++
  known.panic ??= again.panic
  if (again.line < known.line) Object.assign(known, { ...again, count: known.count, panic: known.panic })
}
