import type { ParsedOutput } from '../judge/guest-output.js'
import { stackText } from '../report/findings.js'
import { testFacts, testsLine } from '../report/tests.js'
import { frameText } from '../triage/stack.js'

/** What was heard, as one JSON object. */
export function triageJson({ findings, tests, oomKills }: ParsedOutput): string {
  const facts = findings.map(({ stack, windows: _, ...finding }) => ({
    ...finding,
    stack: stack.map(frameText),
  }))
  return `${JSON.stringify({ findings: facts, ...(tests ? { tests: testFacts(tests) } : {}), oomKills }, null, 2)}\n`
}

/** What was heard, for a person. */
export function triageText({ findings, tests, oomKills }: ParsedOutput): string {
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
