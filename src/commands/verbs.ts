import { flagOf, type Option, optionsOf } from '../request/options.js'

/**
 * The table of kc's verbs, and the flags that are kc's own. Help, completion, the manual page and the command line parser
 * are derived from it and from src/request/options.ts.
 */

export interface Flag {
  name: string
  letter?: string
  /** placeholder of its value; absent for a switch */
  value?: string
  /** the value may be left out */
  optional?: boolean
  help: string
  /** the values that it takes, where it takes no others */
  choices?: readonly string[]
  /** values with a meaning of their own, where it takes a path as well */
  keywords?: readonly string[]
}

export interface Verb {
  /** one word, or two as in `cache prune` */
  words: readonly string[]
  /** placeholder of its argument */
  argument?: string
  /** the argument may be left out */
  optional?: boolean
  /** the argument names a running guest */
  guests?: boolean
  /** the values that the argument takes */
  choices?: readonly string[]
  help: string
  flags: readonly Flag[]
}

/** Options of a verb as commander parsed them, by camel-case name. */
export type VerbOptions = Readonly<Record<string, unknown>>

/** A verb's argument as help shows it; empty if it takes none. */
export const argumentText = ({ argument, optional }: Verb): string =>
  argument === undefined ? '' : optional ? `[${argument}]` : argument

export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

const JSON_FLAG: Flag = { name: 'json', help: 'print one JSON object' }
const ARCH_FLAG: Flag = { name: 'arch', value: 'ARCH', help: 'for kernels of another architecture' }

export const VERBS: readonly Verb[] = [
  {
    words: ['doctor'],
    help: 'check whether this machine has what kc needs',
    flags: [{ name: 'install', help: 'install what is missing' }, ARCH_FLAG, JSON_FLAG],
  },
  {
    words: ['root', 'create'],
    argument: 'DIR',
    help: 'create a Debian or Ubuntu root file system, for --root',
    flags: [
      { ...ARCH_FLAG, help: 'architecture of its packages' },
      { name: 'suite', value: 'NAME', help: "release of the distribution (default: this machine's)" },
      { name: 'mirror', value: 'URL', help: 'archive of its packages' },
      { name: 'include', value: 'PACKAGES', help: 'further packages, separated by commas' },
    ],
  },
  { words: ['ps'], help: 'list running guests; kc -d NAME dumps one', flags: [JSON_FLAG] },
  {
    words: ['attach'],
    argument: 'NAME',
    optional: true,
    guests: true,
    help: 'open another shell in a running guest',
    flags: [],
  },
  { words: ['smoke'], help: "set this machine up, and boot the distribution's kernel", flags: [] },
  { words: ['cache'], help: 'list the kernels in the cache', flags: [JSON_FLAG] },
  {
    words: ['cache', 'prune'],
    help: 'remove the least recently used ones; without a size, all',
    flags: [{ name: 'max-size', value: 'SIZE', help: 'size to keep' }, JSON_FLAG],
  },
  {
    words: ['triage'],
    argument: 'FILE',
    help: 'print findings and tests in a console log (- is stdin)',
    flags: [JSON_FLAG],
  },
  {
    words: ['completion'],
    argument: 'SHELL',
    choices: SHELLS,
    help: 'print completion for a shell: source <(kc completion bash)',
    flags: [],
  },
  { words: ['man'], help: 'print the manual page: kc man | man -l -', flags: [] },
]

/** Flags of kc that are not options of a run. */
export const OWN_FLAGS: readonly Flag[] = [
  {
    letter: 'i',
    name: 'init',
    value: 'DIR',
    optional: true,
    help: 'create a repository and check out the tree of -r',
  },
  { letter: 'x', name: 'clean', help: 'remove what kc keeps for a checkout, or on a build host' },
  {
    letter: 'd',
    name: 'dump',
    value: 'NAME',
    optional: true,
    help: 'dump a running guest, which continues, and open the dump',
  },
  { name: 'dump-file', value: 'FILE', help: 'save that dump to a file instead' },
  { letter: 'v', name: 'verbose', help: 'show the output of tools and the console' },
  { letter: 'V', name: 'version', help: 'show the version' },
  { letter: 'h', name: 'help', help: 'show this help' },
]

/** An option of a run as a flag. */
export function asFlag(option: Option): Flag {
  const { letter, kind, value, help, choices, keywords } = option
  return {
    name: flagOf(option),
    ...(letter ? { letter } : {}),
    ...(kind === 'switch' ? {} : { value: value ?? 'VALUE' }),
    help,
    ...(choices ? { choices } : {}),
    ...(keywords ? { keywords } : {}),
  }
}

/** All flags of kc without a verb. */
export const runFlags = (): Flag[] => [...optionsOf('kc').map(asFlag), ...OWN_FLAGS]
