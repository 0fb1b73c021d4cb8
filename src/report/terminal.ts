import { join } from 'node:path'
import { stripVTControlCharacters, styleText } from 'node:util'
import { describeProgress, type Log } from '../log.js'
import type { Result } from '../result.js'
import { sentence, sourceText, stackText } from './findings.js'
import { tailOf } from './markdown.js'
import { MARKS, seconds } from './summary.js'
import { testsLine } from './tests.js'

type Style = Parameters<typeof styleText>[0]

export interface TerminalOptions {
  /** print all output of tools and of the kernel's console */
  verbose: boolean
  env: NodeJS.ProcessEnv
}

/** Seconds between two lines about a build's progress in a log that is not a terminal. */
const QUIET_SECONDS = 15

const hasColour = (env: NodeJS.ProcessEnv) =>
  !env.NO_COLOR && env.TERM !== 'dumb' && Boolean(process.stderr.isTTY)

/**
 * kc's own messages go to stderr, so that stdout has only what the guest wrote there.
 * In a terminal a build's progress is one line that is written over.
 */
export function terminalLog(options: TerminalOptions): Log {
  const colour = hasColour(options.env)
  const paint = (style: Style, text: string) =>
    colour ? styleText(style, text, { validateStream: false }) : text
  const tty = Boolean(process.stderr.isTTY)
  let shown = false
  let stageStart = 0
  let lastProgress = 0

  const wipe = () => {
    if (shown) process.stderr.write('\r\x1b[K')
    shown = false
  }
  const print = (text: string) => {
    wipe()
    process.stderr.write(`${text}\n`)
  }

  return {
    stage(_stage, title) {
      stageStart = lastProgress = performance.now()
      print(`${paint('cyan', '==>')} ${paint('bold', title)}`)
    },
    stageEnd(_stage, summary) {
      print(`    ${summary} ${paint('dim', `(${seconds((performance.now() - stageStart) / 1000)})`)}`)
    },
    info: message => print(`    ${message}`),
    warning: message => print(`${paint('yellow', 'warning:')} ${message}`),
    diagnostic: ({ file, line, message }) => print(`${paint('red', 'error:')} ${file}:${line}: ${message}`),
    progress(progress) {
      const now = performance.now()
      if (tty) {
        if (now - lastProgress < 80) return
        lastProgress = now
        const width = (process.stderr.columns ?? 80) - 1
        process.stderr.write(`\r\x1b[K${`    ${describeProgress(progress)}`.slice(0, width)}`)
        shown = true
      } else if (now - lastProgress > QUIET_SECONDS * 1000) {
        lastProgress = now
        print(`    ${describeProgress(progress)}`)
      }
    },
    detail: line => {
      if (options.verbose) print(line)
    },
    guest(stream, chunk) {
      if (stream === 'console' && !options.verbose) return
      wipe()
      ;(stream === 'stdout' ? process.stdout : process.stderr).write(chunk)
    },
  }
}

const MOST_SHOWN = 3

/** Text of the guest for a terminal: nothing in it moves the cursor. */
function printable(text: string): string {
  return stripVTControlCharacters(text).replace(/[^\t\x20-\x7e\u00a0-\uffff]/g, '�')
}

/** Printed when the run has ended: what went wrong, where all of it is, and as the last line the verdict. */
export function terminalResult(result: Result, env: NodeJS.ProcessEnv): string {
  const colour = hasColour(env)
  const paint = (style: Style, text: string) =>
    colour ? styleText(style, text, { validateStream: false }) : text
  const lines: string[] = []
  const failing = result.findings.filter(finding => finding.ignored === undefined)
  if (result.verdict !== 'passed') {
    for (const detail of result.error?.details ?? []) lines.push(`    ${detail}`)
    // a finding explains more than the last lines do
    if (failing.length === 0 && ['panic', 'hang', 'boot-failed'].includes(result.verdict)) {
      const lastLines = tailOf(join(result.runDirectory, 'console.log'), 16 * 1024)
        .split(/\r?\n/)
        .filter(Boolean)
        .slice(-20)
      lines.push(
        paint('dim', '--- last lines of the console ---'),
        ...lastLines.map(printable),
        paint('dim', '---'),
      )
    }
  }
  for (const finding of failing.slice(0, MOST_SHOWN)) {
    lines.push(
      `${paint(['red', 'bold'], finding.title)} ${paint('dim', `(${finding.type}, ${finding.fingerprint}${finding.module ? `, module ${finding.module}` : ''})`)}`,
    )
    lines.push(
      ...stackText(finding, 12)
        .split('\n')
        .filter(Boolean)
        .map(row => `    ${printable(row)}`),
    )
    const source = sourceText(finding)
    if (source) lines.push('', ...source.split('\n').map(row => `    ${printable(row)}`), '')
  }
  if (failing.length > MOST_SHOWN) lines.push(`... and ${failing.length - MOST_SHOWN} more reports`)
  const ignored = result.findings.length - failing.length
  if (ignored > 0) lines.push(paint('dim', `${ignored} reports are ignored`))
  if (result.tests) {
    lines.push(testsLine(result.tests))
    for (const { path, status, reason } of result.tests.failures.slice(0, 10))
      lines.push(`    ${status}: ${printable(path)}${reason ? ` (${printable(reason)})` : ''}`)
  }
  if (result.vmcore) lines.push(paint('dim', `vmcore: ${result.vmcore.open}`))
  lines.push(paint('dim', `results: ${result.runDirectory}`))
  const good = result.verdict === 'passed'
  const mark = good ? '' : `${MARKS[result.verdict]} `
  lines.push(
    `${mark}${paint(good ? ['green', 'bold'] : ['red', 'bold'], result.verdict)}: ${sentence(result)} (${seconds(result.seconds)})`,
  )
  return `${lines.join('\n')}\n`
}
