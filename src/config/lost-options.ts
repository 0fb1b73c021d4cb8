import { ConfigError } from '../errors.js'
import type { Log } from '../log.js'
import type { Source } from '../source/source.js'
import { holds, type RequestedOption } from './fragments.js'
import { allOptions, describeLoss, nearest, type Reason } from './kconfig.js'

/** Explains options by name; one that cannot be explained is absent. */
export type Explain = (names: readonly string[]) => Promise<ReadonlyMap<string, Reason>>

/**
 * Compares the resolved values with the requested options. Warns of options of KernelCraft's own that were lost; throws
 * ConfigError for any others, with a sentence for each. Returns true if every option holds.
 */
export async function checkOptions(
  options: readonly RequestedOption[],
  values: ReadonlyMap<string, string>,
  source: Source,
  explain: Explain,
  log: Log,
): Promise<boolean> {
  const lost = options.filter(option => !holds(option, values))
  if (lost.length === 0) return true
  const reasons = await explain(lost.map(({ name }) => name))
  const describe = await describer(lost, values, reasons, source)
  const userHasOptions = options.some(({ requestedBy }) => requestedBy === 'user')
  // An option of KernelCraft's own gives way to the user's options, and the user did not request one that this tree does
  // not have (yet, or any longer).
  const givesWay = ({ name, requestedBy, optional }: RequestedOption) =>
    requestedBy === 'kernelcraft' && (userHasOptions || optional || reasons.get(name)?.known === false)
  warnOfLeftOut(
    lost.filter(option => givesWay(option) && !option.optional),
    describe,
    log,
  )
  failIfAny(lost.filter(option => !givesWay(option)).map(describe))
  return false
}

async function describer(
  lost: readonly RequestedOption[],
  values: ReadonlyMap<string, string>,
  reasons: ReadonlyMap<string, Reason>,
  source: Source,
): Promise<(option: RequestedOption) => string> {
  const isUnknown = ({ name }: RequestedOption) => reasons.get(name)?.known === false
  const known = lost.some(isUnknown) ? await allOptions(source) : []
  return option => {
    const similar = isUnknown(option) ? nearest(option.name, known) : undefined
    return describeLoss(option, values.get(option.name) ?? 'n', reasons.get(option.name), similar)
  }
}

/** More options than this are warned of in one line. */
const MOST_LINES = 4

function warnOfLeftOut(
  options: readonly RequestedOption[],
  describe: (option: RequestedOption) => string,
  log: Log,
): void {
  if (options.length <= MOST_LINES) {
    for (const option of options) log.warning(`Left out: ${describe(option)}`)
    return
  }
  const names = options.map(({ name }) => `CONFIG_${name}`).join(', ')
  log.warning(
    `${options.length} options of KernelCraft's own were left out (--verbose prints the reasons): ${names}`,
  )
  for (const option of options) log.detail(describe(option))
}

function failIfAny(sentences: readonly string[]): void {
  const [first, ...others] = sentences
  if (first === undefined) return
  throw new ConfigError(
    others.length === 0 ? first : `${sentences.length} requested options are not in the configuration.`,
    sentences,
  )
}

/** Explains only which options the tree does not have. */
export function explainUnknown(source: Source): Explain {
  return async names => {
    const known = new Set(await allOptions(source))
    const unknown = { type: '', value: '', prompt: true, unmet: [], selected: [], choice: false }
    return new Map(names.filter(name => !known.has(name)).map(name => [name, { ...unknown, known: false }]))
  }
}
