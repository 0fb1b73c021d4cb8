import type { FindingFacts, Result, StackEntry } from '../result.js'

/** Title and reason in one line; a title that is the reason is not repeated. */
export function sentence({ title, reason }: Pick<Result, 'title' | 'reason'>): string {
  return title === reason ? reason : `${title}. ${reason}`
}

/** A stack as text, each function with its place in the source, what was inlined there above it, recursion folded. */
export function stackText({ stack }: Pick<FindingFacts, 'stack'>, most = 20): string {
  const folded = stack.filter(({ text }, index) => text !== stack[index - 1]?.text)
  const times = ({ text }: StackEntry) => stack.filter(entry => entry.text === text).length
  const rows = folded.slice(0, most).flatMap((entry): [string, string][] => {
    const { text, source } = entry
    const outer = source.at(-1)
    const inlined = source
      .slice(0, -1)
      .map(({ function: name, file, line }): [string, string] => [`  ${name} (inlined)`, `${file}:${line}`])
    const count = times(entry) > 1 ? `  (${times(entry)} times)` : ''
    return [...inlined, [text, `${outer ? `${outer.file}:${outer.line}` : ''}${count}`]]
  })
  const width = Math.min(60, Math.max(0, ...rows.map(([text]) => text.length)))
  const more = folded.length > most ? [`... and ${folded.length - most} more`] : []
  return [...rows.map(([text, place]) => `${text.padEnd(width)}  ${place}`.trimEnd()), ...more].join('\n')
}

/** The source around a finding, numbered, the line that matters marked. */
export function sourceText({ around }: Pick<FindingFacts, 'around'>): string {
  if (!around) return ''
  const width = String(around.first + around.lines.length).length
  return around.lines
    .map((text, index) => {
      const number = around.first + index
      return `${number === around.line ? '>' : ' '} ${String(number).padStart(width)}  ${text}`
    })
    .join('\n')
}
