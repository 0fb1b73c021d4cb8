import { shellQuote } from '../host/shell-quote.js'
import { flagOf, OPTIONS, type RawOptions } from '../request/options.js'

const quoteArgument = (text: string) => (/^[\w@%+=:,./-]+$/.test(text) ? text : shellQuote(text))

/**
 * The command that repeats a run on the user's machine: every option that was given, on the commit that was tested.
 * Options of the runner's own machine (where the checkout and the results lie) stay out.
 */
export function repeatCommand(
  raw: RawOptions,
  sha: string | undefined,
  argv: readonly string[] = [],
): string {
  const args = ['kc']
  for (const option of OPTIONS) {
    if (option.only === 'action' || option.name === 'path' || option.name === 'run-directory') continue
    const value = option.name === 'ref' ? (sha ?? raw.ref) : raw[option.name]
    if (value === undefined || value === '' || value === option.default) continue
    const flag = option.letter ? `-${option.letter}` : `--${flagOf(option)}`
    if (option.kind === 'switch') {
      if (value === 'true') args.push(flag)
      continue
    }
    for (const one of typeof value === 'string' ? [value] : value)
      args.push(flag, quoteArgument(one.trimEnd()))
  }
  if (argv.length > 0) args.push('--', ...argv.map(quoteArgument))
  return args.join(' ')
}
