import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import type { Result, Verdict } from '../result.js'

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
    inline(result.title),
    facts(result),
    ...(warnings.length > 0 ? [warnings.join('\n')] : []),
    ...(result.verdict === 'passed' ? [] : [trouble(result)]),
    timings(result),
    `Repeat it at a desk, in a checkout of the tree:\n\n${codeBlock(result.repeat, 200, 16 * 1024)}`,
  ]
    .filter(part => part !== '')
    .join('\n\n')
    .concat('\n')
}
