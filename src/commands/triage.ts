import { type ParsedOutput, parseConsoleFile } from '../judge/guest-output.js'
import { stackText } from '../report/findings.js'
import { testFacts, testsLine } from '../report/tests.js'
import { EXIT_STATUS } from '../result.js'
import { frameText } from '../triage/stack.js'
import { print } from './stdio.js'
import type { VerbOptions } from './verbs.js'

/** `kc triage FILE`: findings and tests in a console log; the exit status is splat's if there are findings. */
export async function triageCommand({ json }: VerbOptions, file: string): Promise<number> {
  const parsed = await parseConsoleFile(file)
  print(json ? triageJson(parsed) : triageText(parsed))
  return parsed.findings.length === 0 ? 0 : EXIT_STATUS.splat
}

/** Findings, tests and OOM kills as one JSON object. */
function triageJson({ findings, tests, oomKills }: ParsedOutput): string {
  const facts = findings.map(({ stack, windows: _, ...finding }) => ({
    ...finding,
    stack: stack.map(frameText),
  }))
  return `${JSON.stringify({ findings: facts, ...(tests ? { tests: testFacts(tests) } : {}), oomKills }, null, 2)}\n`
}

/** The same as text. */
function triageText({ findings, tests, oomKills }: ParsedOutput): string {
  const lines: string[] = []
  for (const { title, type, fingerprint, line, count, stack } of findings) {
    lines.push(`${line}: ${title} (${type}, ${fingerprint}${count > 1 ? `, ${count} times` : ''})`)
    const text = stackText({ stack: stack.map(frame => ({ text: frameText(frame), source: [] })) }, 8)
    if (text) lines.push(...text.split('\n').map(row => `    ${row}`))
  }
  for (const { process: name, pid, line } of oomKills)
    lines.push(`${line}: ${name} (${pid}) was killed for lack of memory`)
  if (tests) {
    lines.push(testsLine(tests))
    for (const { path, status } of testFacts(tests).failures) lines.push(`    ${status}: ${path}`)
  }
  if (lines.length === 0) lines.push('No reports.')
  return `${lines.join('\n')}\n`
}
