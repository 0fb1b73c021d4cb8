import { flagOf, type Option, optionsOf } from '../request/options.js'

/** What kc can do beside a run, and its own flags: with src/options.ts all that help, completion and man page say. */

export interface Flag {
  name: string
  letter?: string
  /** placeholder of its value; a switch has none */
  value?: string
  /** the value may be left out */
  optional?: boolean
  help: string
  /** words that it takes */
  choices?: readonly string[]
}

export interface Verb {
  /** one word, or two */
  words: readonly string[]
  /** placeholder of what follows */
  argument?: string
  /** that may be left out */
  optional?: boolean
  /** it names a guest that runs */
  guests?: boolean
  choices?: readonly string[]
  help: string
  flags: readonly Flag[]
}

/** A verb's argument as help shows it; empty if it takes none. */
export const argumentText = ({ argument, optional }: Verb): string =>
  argument === undefined ? '' : optional ? `[${argument}]` : argument

export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

const JSON_FLAG: Flag = { name: 'json', help: 'as one JSON object' }
const ARCH_FLAG: Flag = { name: 'arch', value: 'ARCH', help: 'for kernels of another architecture' }

export const VERBS: readonly Verb[] = [
  {
    words: ['doctor'],
    help: 'is this machine able? with --install, make it so',
    flags: [{ name: 'install', help: 'install what is missing' }, ARCH_FLAG, JSON_FLAG],
  },
  {
    words: ['root', 'create'],
    argument: 'DIR',
    help: 'a root file system of Debian or Ubuntu, for --root',
    flags: [
      { ...ARCH_FLAG, help: 'of another architecture' },
      { name: 'suite', value: 'NAME', help: "of the distribution (default: this machine's)" },
      { name: 'mirror', value: 'URL', help: 'where its packages are' },
      { name: 'include', value: 'PACKAGES', help: 'further packages, with commas between' },
    ],
  },
  { words: ['ps'], help: 'guests of kc that run; kc -d NAME dumps one', flags: [JSON_FLAG] },
  {
    words: ['attach'],
    argument: 'NAME',
    optional: true,
    guests: true,
    help: 'one more shell in a guest that runs',
    flags: [],
  },
  { words: ['smoke'], help: "the demonstration, with the distribution's kernel", flags: [] },
  { words: ['cache'], help: 'kernels that were built and are kept', flags: [JSON_FLAG] },
  {
    words: ['cache', 'prune'],
    help: 'remove those not used for longest; without a size, all',
    flags: [{ name: 'max-size', value: 'SIZE', help: 'keep that much' }, JSON_FLAG],
  },
  {
    words: ['triage'],
    argument: 'FILE',
    help: 'reports and tests in a console log (- is stdin)',
    flags: [JSON_FLAG],
  },
  {
    words: ['completion'],
    argument: 'SHELL',
    choices: SHELLS,
    help: 'what makes that shell complete kc: source <(kc completion bash)',
    flags: [],
  },
  { words: ['man'], help: 'the manual page: kc man | man -l -', flags: [] },
]

/** Flags of kc itself, which the action has no inputs for. */
export const OWN_FLAGS: readonly Flag[] = [
  {
    letter: 'i',
    name: 'init',
    value: 'DIR',
    optional: true,
    help: 'make a repository and check the tree of -r out',
  },
  { letter: 'x', name: 'clean', help: 'remove what is kept for a checkout, or on a build host' },
  {
    letter: 'd',
    name: 'dump',
    value: 'NAME',
    optional: true,
    help: 'dump a running guest, which goes on, and open the dump',
  },
  { name: 'dump-file', value: 'FILE', help: 'save that dump instead' },
  { letter: 'v', name: 'verbose', help: 'show what tools and the console say' },
  { letter: 'V', name: 'version', help: 'show the version' },
  { letter: 'h', name: 'help', help: 'show this' },
]

/** An option of a run as a flag. */
export function asFlag(option: Option): Flag {
  const { letter, kind, value, help, choices } = option
  return {
    name: flagOf(option),
    ...(letter ? { letter } : {}),
    ...(kind === 'switch' ? {} : { value: value ?? 'VALUE' }),
    help,
    ...(choices ? { choices } : {}),
  }
}

/** All flags that a run takes. */
export const runFlags = (): Flag[] => [...optionsOf('kc').map(asFlag), ...OWN_FLAGS]
