import { join } from 'node:path'
import { commitText, type FindingFacts, type ModuleFacts, type Result, type Verdict } from '../result.js'
import { sentence, sourceText, stackText } from './findings.js'
import { codeBlock, details, inline, table, tailOf } from './markdown.js'
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

export function seconds(value: number | undefined): string {
  if (value === undefined) return ''
  return value < 100 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`
}

/** What the summary shows beside the result: in a job, GitHub's pages. */
export interface SummaryContext {
  /** URL of the repository of the checkout, such as https://github.com/owner/linux */
  repository?: string
  /** what was uploaded */
  artifacts?: readonly { name: string; url: string }[]
  /** whether the vmcore is among them */
  dumpUploaded?: boolean
  /** `compact` folds all but verdict and what went wrong; `auto` does that for a run that passed */
  style?: 'auto' | 'full' | 'compact'
}

function sourceRow({ source }: Result, { repository }: SummaryContext): string {
  if (!source) return ''
  const checkout = source.tree.startsWith('/')
  const sha = `\`${commitText(source)}\``
  const commit = checkout && repository ? `[${sha}](${repository}/commit/${source.sha})` : sha
  return `${checkout ? 'checkout' : inline(source.tree)}, ${inline(source.ref)}: ${commit} ${inline(source.subject)}`
}

function cacheRow({ kernel }: Result): string {
  if (!kernel?.cache) return ''
  const { hit, key, differs } = kernel.cache
  if (hit) return `hit \`${key.slice(0, 12)}\`, nothing was built`
  if (!differs) return 'miss: no kernel was built here before'
  return `miss: ${differs.map(inline).join('; ') || 'the kernel had been removed'}`
}

function ccacheRow({ kernel }: Result): string {
  if (!kernel?.ccache) return ''
  const { hits, misses, bytes, savedSeconds } = kernel.ccache
  const calls = hits + misses
  return [
    calls > 0 ? `${hits} of ${calls} calls answered (${Math.round((100 * hits) / calls)} %)` : 'not called',
    ...(bytes === undefined ? [] : [`${Math.round(bytes / 2 ** 20)} MiB`]),
    ...(savedSeconds ? [`about ${seconds(savedSeconds)} saved`] : []),
  ].join(', ')
}

function facts(result: Result, context: SummaryContext): string {
  const { kernel, boot } = result
  return table('What was tested', [
    ['Source', sourceRow(result, context)],
    [
      'Kernel',
      kernel
        ? `\`${kernel.release}\` ${kernel.arch}, config ${inline(kernel.configBase)} (\`${kernel.configHash.slice(0, 12)}\`), ${inline(kernel.compiler)}${kernel.builtOn ? `, built on ${inline(kernel.builtOn)}` : ''}`
        : '',
    ],
    ['Kernel cache', cacheRow(result)],
    ['ccache', ccacheRow(result)],
    [
      'Guest',
      boot
        ? `${boot.accel === 'kvm' ? 'KVM' : 'emulated (TCG)'}, ${boot.cpus} CPUs, ${boot.memoryMiB} MiB, QEMU ${boot.qemu}, virtme-ng ${boot.virtme}`
        : '',
    ],
    ['External modules', (result.modules ?? []).map(moduleText).join('; ')],
    ['Commands', result.exitCode === undefined ? '' : `status ${result.exitCode}`],
  ])
}

function moduleText({ name, source, loaded, trouble }: ModuleFacts): string {
  const state = trouble === undefined ? (loaded ? '' : ', not loaded') : `: ${inline(trouble)}`
  return `\`${name}\` from ${inline(source)}${state}`
}

function timings(result: Result): string {
  const rows = result.timings.map(
    ({ stage, seconds: value, summary }) => `| ${stage} | ${seconds(value)} | ${inline(summary)} |`,
  )
  return [
    '| Stage | Time | Summary |',
    '|---|--:|---|',
    ...rows,
    `| **all** | **${seconds(result.seconds)}** | |`,
  ].join('\n')
}

/** Seconds between two marks of an axis: mermaid draws any number of them. */
const MARKS_EVERY = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600] as const
const MOST_MARKS = 10

/** A chart of the stages, in the notation that GitHub renders (mermaid). */
function chart({ timings: stages }: Result): string {
  const shown = stages.filter(stage => stage.seconds >= 0.05)
  if (shown.length < 2) return ''
  const all = shown.reduce((sum, stage) => sum + stage.seconds, 0)
  const every = MARKS_EVERY.find(step => all <= step * MOST_MARKS) ?? 3600
  let at = 0
  const bars = shown.map(({ stage, seconds: value }) => {
    const start = Math.round(at * 1000)
    at += value
    return `  section ${stage}\n  ${seconds(value).replace(/[:;#,]/g, ' ')} :${start}, ${Math.round(at * 1000)}`
  })
  // %s counts from 1970 in UTC, as we do; hours and minutes would be those of the reader's time zone
  const axis = ['  dateFormat x', '  axisFormat %s s', `  tickInterval ${every}second`]
  return ['```mermaid', 'gantt', ...axis, ...bars, '```'].join('\n')
}

const MOST_SHOWN = 3
const MOST_LISTED = 20

function showFinding(finding: FindingFacts): string {
  const { title, type, fingerprint, count, around, before = [], report, panic, module } = finding
  const charged = module ? `, charged to the module ${inline(module)}` : ''
  const times = count > 1 ? `, ${count} times` : ''
  return [
    `### ${inline(title)}`,
    `${inline(type)}, fingerprint \`${fingerprint}\`, line ${finding.line} of the console${times}${charged}${panic && !report.includes(panic) ? `; ${inline(panic)}` : ''}`,
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

function vmcore({ vmcore: dump, runDirectory }: Result, { dumpUploaded }: SummaryContext): string {
  if (!dump) return ''
  const size = `${(dump.bytes / 2 ** 20).toFixed(1)} MiB`
  const what = `The vmcore (${size}${dump.buildId ? `, build id \`${dump.buildId.slice(0, 12)}\`` : ''})`
  if (!dumpUploaded) return `${what} opens with\n\n${codeBlock(dump.open, 3, 4096)}`
  // the reader has the unpacked artifact, and no path of the runner
  const unpacked = dump.open.replaceAll(join(runDirectory, '/'), '').replace(/^\S*\//, '')
  return `${what} opens, where its artifact was unpacked, with\n\n${codeBlock(unpacked, 3, 4096)}`
}

/** Verdicts for which the end of the console matters most. */
const SHOW_CONSOLE: ReadonlySet<Verdict> = new Set(['boot-failed', 'hang', 'panic'])

function consoleTail({ runDirectory }: Result, open = false): string {
  return details('Last lines of the console', tailOf(join(runDirectory, 'console.log'), 32 * 1024), 40, open)
}

function trouble(result: Result): string {
  const { error, runDirectory } = result
  const diagnostics = error?.diagnostics
    .slice(0, 10)
    .map(({ file, line, message }) => `${file}:${line}: ${message}`)
  const parts = [error?.details, diagnostics]
    // not what the sentence at the top contains already
    .filter(lines => lines?.some(line => !sentence(result).includes(line)))
    .map(lines => codeBlock((lines ?? []).join('\n'), 20, 8 * 1024))
  for (const [title, name, lines] of [
    ['Last lines of stderr', 'stderr.log', 15],
    ['Last lines of stdout', 'stdout.log', 15],
  ] as const)
    parts.push(details(title, tailOf(join(runDirectory, name), 32 * 1024), lines))
  // without a finding the console is the best evidence
  parts.push(consoleTail(result, result.findings.length === 0 && SHOW_CONSOLE.has(result.verdict)))
  return parts.filter(part => part !== '').join('\n')
}

function artifacts({ artifacts: uploaded = [] }: SummaryContext): string {
  if (uploaded.length === 0) return ''
  return `Artifacts: ${uploaded.map(({ name, url }) => `[${inline(name)}](${url})`).join(', ')}`
}

const fold = (title: string, text: string) => `<details><summary>${title}</summary>\n\n${text}\n\n</details>`

/** The result as Markdown, for a job summary and for summary.md. Well under GitHub's 1 MiB whatever the guest printed. */
export function summarize(result: Result, context: SummaryContext = {}): string {
  const { style = 'auto' } = context
  const compact = style === 'compact' || (style === 'auto' && result.verdict === 'passed')
  const warnings = result.warnings.slice(0, 20).map(warning => `- ⚠️ ${inline(warning)}`)
  const repeat = `Repeat it on your machine, in a checkout of the tree:\n\n${codeBlock(result.repeat, 200, 16 * 1024)}`
  const tested = facts(result, context)
  const took = [timings(result), chart(result), repeat].filter(part => part !== '').join('\n\n')
  return [
    `## ${MARKS[result.verdict]} KernelCraft: ${result.verdict}`,
    `${inline(sentence(result))}${compact && result.kernel ? ` \`${result.kernel.release}\`, ${seconds(result.seconds)}.` : ''}`,
    compact ? '' : tested,
    warnings.join('\n'),
    findings(result),
    result.tests ? renderTests(result.tests) : '',
    vmcore(result, context),
    result.verdict === 'passed' ? consoleTail(result) : trouble(result),
    compact
      ? fold('What was tested, how to repeat it, and the time of each stage', `${tested}\n\n${took}`)
      : took,
    artifacts(context),
  ]
    .filter(part => part !== '')
    .join('\n\n')
    .concat('\n')
}
