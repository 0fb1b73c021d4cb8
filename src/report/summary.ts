import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import type { FindingFacts, Result, Verdict } from '../result.js'
import { sentence, sourceText, stackText } from './findings.js'
import { renderTests } from './tests.js'

export const MARKS: Readonly<Record<Verdict, string>> = {
  passed: '✅',
  'test-failed': '❌',
  splat: '💥',
  panic: '💥',
  hang: '⏳',
  'boot-failed': '❌',
  'build-failed': '🔨',
  'config-failed': '🔧',
  'source-failed': '🔎',
  'infra-error': '⚠️',
  cancelled: '🚫',
}

/** The last bytes of a file as text; empty if it is not there. */
export function tailOf(path: string, bytes: number): string {
  try {
    const fd = openSync(path, 'r')
    try {
      const { size } = fstatSync(fd)
      const length = Math.min(size, bytes)
      const buffer = Buffer.alloc(length)
      readSync(fd, buffer, 0, length, size - length)
      return buffer.toString('utf8')
    } finally {
      closeSync(fd)
    }
  } catch {
    return ''
  }
}

/** Text of the guest as a code block that nothing in it can close, without control characters. */
export function codeBlock(text: string, lines: number, most = 64 * 1024): string {
  const clean = text
    .replace(/\r\n?/g, '\n')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours and cursor movements are what has to go
    .replace(/\x1b\[[0-9;?]*[A-Za-z]/g, '')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: so has whatever else a terminal would act on
    .replace(/[\x00-\x08\x0b-\x1f\x7f]/g, '�')
    .slice(-most)
    .split('\n')
    .slice(-lines - 1)
    .join('\n')
    .trimEnd()
  const longest = Math.max(2, ...[...clean.matchAll(/`+/g)].map(run => run[0].length))
  const fence = '`'.repeat(longest + 1)
  return `${fence}text\n${clean}\n${fence}\n`
}

/** Text inside a line of Markdown or a table cell. */
export function inline(text: string): string {
  return text
    .replace(/\s+/g, ' ')
    .replace(/[\\`*_{}[\]<>|#@!~$]/g, char => `\\${char}`)
    .slice(0, 500)
}

export function seconds(value: number | undefined): string {
  if (value === undefined) return ''
  return value < 100 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`
}

function table(rows: readonly (readonly [string, string])[]): string {
  return [
    '| | |',
    '|---|---|',
    ...rows.filter(([, value]) => value !== '').map(([name, value]) => `| ${name} | ${value} |`),
  ].join('\n')
}

function facts(result: Result): string {
  const { source, kernel, boot } = result
  return table([
    [
      'Source',
      source
        ? `${inline(source.tree)} ${inline(source.ref)} · \`${source.sha.slice(0, 12)}\` ${inline(source.subject)}`
        : '',
    ],
    [
      'Kernel',
      kernel
        ? `\`${kernel.release}\` ${kernel.arch}, config ${inline(kernel.configBase)} (\`${kernel.configHash.slice(0, 12)}\`)`
        : '',
    ],
    ['Compiler', kernel ? inline(kernel.compiler) : ''],
    [
      'ccache',
      kernel?.ccache
        ? `${kernel.ccache.hits} of ${kernel.ccache.hits + kernel.ccache.misses} calls answered`
        : '',
    ],
    [
      'Guest',
      boot
        ? `${boot.accel === 'kvm' ? 'KVM' : 'emulated (TCG)'}, ${boot.cpus} CPUs, ${boot.memoryMiB} MiB, QEMU ${boot.qemu}, virtme-ng ${boot.virtme}`
        : '',
    ],
    ['Commands', result.exitCode === undefined ? '' : `status ${result.exitCode}`],
  ])
}

function timings(result: Result): string {
  const total = `| **all** | **${seconds(result.seconds)}** |`
  return [
    '| Stage | Time |',
    '|---|--:|',
    ...result.timings.map(({ stage, seconds: value }) => `| ${stage} | ${seconds(value)} |`),
    total,
  ].join('\n')
}

const MOST_SHOWN = 3
const MOST_LISTED = 20

function details(title: string, text: string, lines: number, open = false): string {
  if (text.trim() === '') return ''
  return `<details${open ? ' open' : ''}><summary>${title}</summary>\n\n${codeBlock(text, lines, 16 * 1024)}\n</details>\n`
}

function showFinding(finding: FindingFacts): string {
  const { title, type, fingerprint, count, around, before = [], report, panic } = finding
  const times = count > 1 ? `, ${count} times` : ''
  return [
    `### ${inline(title)}`,
    `${inline(type)}, fingerprint \`${fingerprint}\`, line ${finding.line} of the console${times}${panic && !report.includes(panic) ? `; ${inline(panic)}` : ''}`,
    finding.stack.length > 0 ? codeBlock(stackText(finding), 40, 8 * 1024) : '',
    around
      ? `${inline(around.file)}, line ${around.line}:\n\n${codeBlock(sourceText(finding), 20, 8 * 1024)}`
      : '',
    details('The report', report.slice(0, 60).join('\n'), 60),
    details('The console before it', before.join('\n'), 20),
  ]
    .filter(part => part !== '')
    .join('\n\n')
}

/** Findings, those that fail the run first; the first few with all that is known. */
function findings(result: Result): string {
  const failing = result.findings.filter(finding => finding.ignored === undefined)
  const ignored = result.findings.filter(finding => finding.ignored !== undefined)
  const listed = (all: readonly FindingFacts[]) =>
    all
      .slice(0, MOST_LISTED)
      .map(
        ({ title, fingerprint, ignored: why }) =>
          `- ${inline(title)} (\`${fingerprint}\`)${why ? `: ${inline(why)}` : ''}`,
      )
      .join('\n')
  const rest = failing.slice(MOST_SHOWN)
  return [
    ...failing.slice(0, MOST_SHOWN).map(showFinding),
    rest.length > 0 ? `And ${rest.length} more:\n\n${listed(rest)}` : '',
    ignored.length > 0 ? `Ignored:\n\n${listed(ignored)}` : '',
  ]
    .filter(part => part !== '')
    .join('\n\n')
}

function vmcore({ vmcore: dump }: Result): string {
  if (!dump) return ''
  const size = `${(dump.bytes / 2 ** 20).toFixed(1)} MiB`
  return `The vmcore (${size}${dump.buildId ? `, build id \`${dump.buildId.slice(0, 12)}\`` : ''}) opens with\n\n${codeBlock(dump.open, 3, 4096)}`
}

function trouble(result: Result): string {
  const { error, runDirectory } = result
  const parts: string[] = []
  if (error && error.details.length > 0) parts.push(codeBlock(error.details.join('\n'), 20, 8 * 1024))
  if (error?.diagnostics.length) {
    parts.push(
      codeBlock(
        error.diagnostics
          .slice(0, 10)
          .map(({ file, line, message }) => `${file}:${line}: ${message}`)
          .join('\n'),
        10,
        8 * 1024,
      ),
    )
  }
  const tails: readonly (readonly [string, string, number])[] = [
    ['Last lines of stderr', 'stderr.log', 15],
    ['Last lines of stdout', 'stdout.log', 15],
    ['Last lines of the console', 'console.log', 40],
  ]
  for (const [title, name, lines] of tails) {
    const text = tailOf(join(runDirectory, name), 32 * 1024)
    if (text.trim() === '') continue
    parts.push(
      `<details${name === 'console.log' ? ' open' : ''}><summary>${title}</summary>\n\n${codeBlock(text, lines)}\n</details>\n`,
    )
  }
  return parts.join('\n')
}

/** The result as Markdown, for a job summary and for summary.md. Well under GitHub's 1 MiB whatever the guest said. */
export function summarize(result: Result): string {
  const warnings = result.warnings.slice(0, 20).map(warning => `- ⚠️ ${inline(warning)}`)
  return [
    `## ${MARKS[result.verdict]} KernelCraft: ${result.verdict}`,
    inline(sentence(result)),
    facts(result),
    ...(warnings.length > 0 ? [warnings.join('\n')] : []),
    findings(result),
    result.tests ? renderTests(result.tests) : '',
    vmcore(result),
    ...(result.verdict === 'passed' ? [] : [trouble(result)]),
    timings(result),
    `Repeat it at a desk, in a checkout of the tree:\n\n${codeBlock(result.repeat, 200, 16 * 1024)}`,
  ]
    .filter(part => part !== '')
    .join('\n\n')
    .concat('\n')
}
