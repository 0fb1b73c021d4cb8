import { shellQuote } from '../host/shell-quote.js'
import { flagOf, OPTIONS, type RawOptions } from '../request/options.js'

const word = (text: string) => (/^[\w@%+=:,./-]+$/.test(text) ? text : shellQuote(text))

/**
 * The line of kc that repeats a run at a desk: every option that was given, on the commit that was tested.
 * Options of the runner's own machine (where the checkout and the results lie) stay out.
 */
export function repeatCommand(
  raw: RawOptions,
  sha: string | undefined,
  argv: readonly string[] = [],
): string {
  const words = ['kc']
  for (const option of OPTIONS) {
    if (option.only === 'action' || option.name === 'path' || option.name === 'run-directory') continue
    const value = option.name === 'ref' ? (sha ?? raw.ref) : raw[option.name]
    if (value === undefined || value === '' || value === option.default) continue
    const flag = option.letter ? `-${option.letter}` : `--${flagOf(option)}`
    if (option.kind === 'switch') {
      if (value === 'true') words.push(flag)
      continue
    }
    for (const one of typeof value === 'string' ? [value] : value) words.push(flag, word(one.trimEnd()))
  }
  if (argv.length > 0) words.push('--', ...argv.map(word))
  return words.join(' ')
}
