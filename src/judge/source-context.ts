import { createReadStream } from 'node:fs'
import { readFile, realpath } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { FindingFacts, SourceLocation } from '../result.js'
import { FILES } from '../run-directory.js'
import { readFromTree } from '../source/locate.js'
import { isSkipped } from '../triage/skip-list.js'
import type { AnalysisContext } from './context.js'

/** GitHub shows ten annotations for a step */
const MAX_ANNOTATIONS = 10
/** findings that are shown with their source and the console lines before them */
const MAX_WITH_CONTEXT = 3
const CONSOLE_LINES_BEFORE = 15
const SOURCE_LINES_AROUND = 5
/** characters of a console line */
const MAX_LINE = 300

/** Logs an annotation for each finding that fails the run and whose source file exists. */
export async function annotateFindings(
  context: AnalysisContext,
  findings: readonly FindingFacts[],
): Promise<void> {
  let annotations = 0
  for (const finding of findings) {
    const location = finding.ignored === undefined ? sourceLocation(finding) : undefined
    if (!location || annotations >= MAX_ANNOTATIONS) continue
    const file = await readSource(context, finding, location.file)
    if (!file) continue
    annotations++
    context.log.diagnostic(
      { file: location.file, line: location.line, message: finding.title, external: file.external },
      'Kernel',
    )
  }
}

/** Adds the lines of source and console around them to the first findings that fail the run. */
export async function addContextLines(
  context: AnalysisContext,
  findings: readonly FindingFacts[],
): Promise<void> {
  const first = findings.filter(finding => finding.ignored === undefined).slice(0, MAX_WITH_CONTEXT)
  const console = join(context.runDirectory, FILES.console)
  for (const finding of first) {
    finding.before = await linesBefore(console, finding.line, CONSOLE_LINES_BEFORE)
    const location = sourceLocation(finding)
    const file = location && (await readSource(context, finding, location.file))
    if (!file) continue
    const start = Math.max(1, location.line - SOURCE_LINES_AROUND)
    finding.around = {
      file: location.file,
      line: location.line,
      first: start,
      lines: file.text.split('\n').slice(start - 1, location.line + SOURCE_LINES_AROUND),
    }
  }
}

/** The source location that a finding is about: of the innermost function that is not on the skip list. */
function sourceLocation({ stack }: FindingFacts): SourceLocation | undefined {
  const decoded = stack.filter(({ source }) => source.length > 0)
  const entry = decoded.find(({ text }) => !isSkipped(text.split('+')[0] ?? '')) ?? decoded[0]
  // of the functions inlined there, it is the innermost one that is not on the skip list either
  return entry?.source.find(location => !isSkipped(location.function)) ?? entry?.source[0]
}

/** A finding's source file: from the external module that it is about, or from the tree. Undefined if none exists. */
async function readSource(
  context: AnalysisContext,
  { module }: FindingFacts,
  file: string,
): Promise<{ text: string; external: boolean } | undefined> {
  // `file` is from debug information, and so from the author of the kernel: nothing outside of the module is read
  const directory = context.external.find(({ name }) => name === module)?.directory
  const path = directory && (await realpath(resolve(context.cwd, file)).catch(() => undefined))
  if (directory && path?.startsWith(`${await realpath(directory)}/`))
    return { text: await readFile(path, 'utf8'), external: true }
  const text = await readFromTree(context.source, file)
  return text === undefined ? undefined : { text, external: false }
}

/** Up to `count` lines of a log before a 1-based line. What follows is not read. */
async function linesBefore(path: string, line: number, count: number): Promise<string[]> {
  const last: string[] = []
  const input = createReadStream(path, { encoding: 'latin1' })
  try {
    let number = 0
    for await (const text of createInterface({ input })) {
      if (++number >= line) break
      last.push(text.slice(0, MAX_LINE))
      if (last.length > count) last.shift()
    }
  } finally {
    input.destroy()
  }
  return last
}
