import { flagOf, type Option, optionsOf } from '../request/options.js'
import { EXIT_STATUS, MEANINGS, type Verdict } from '../result.js'
import { print } from './stdio.js'
import { argumentText, type Flag, OWN_FLAGS, VERBS, type Verb } from './verbs.js'
import { VERSION } from './version.js'

/** `kc man`. */
export async function manualPageCommand(): Promise<number> {
  print(manualPage())
  return 0
}

/** Text escaped for roff(7); what is in backquotes becomes bold. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1')
    .replace(/`([^`]*)`/g, '\\fB$1\\fR')
}

const sentence = (text: string) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`

function entry(flag: Pick<Flag, 'name' | 'letter' | 'value' | 'optional'>, text: string): string {
  const value =
    flag.value === undefined
      ? ''
      : flag.optional
        ? ` [\\fI${roff(flag.value)}\\fR]`
        : ` \\fI${roff(flag.value)}\\fR`
  const letter = flag.letter ? `\\fB\\-${flag.letter}\\fR, ` : ''
  return `.TP\n${letter}\\fB\\-\\-${roff(flag.name)}\\fR${value}\n${roff(text)}`
}

function optionEntry(of: Option): string {
  const fallback = of.default === undefined || of.kind === 'switch' ? '' : ` Default: \`${of.default}\`.`
  const flag = {
    name: flagOf(of),
    ...(of.letter ? { letter: of.letter } : {}),
    ...(of.kind === 'switch' ? {} : { value: of.value ?? 'VALUE' }),
  }
  return entry(flag, [sentence(of.help), of.more].filter(Boolean).join(' ') + fallback)
}

const GROUPS: Readonly<Record<Option['group'], string>> = {
  source: 'Source',
  config: 'Configuration',
  build: 'Build',
  guest: 'The guest',
  run: 'Commands and deadlines',
  report: 'Findings and results',
}

const SYNOPSIS = `.B kc
.RI [ options ]
.B \\-\\-
.I COMMAND ...
.br
.B kc
.RI [ options ]
.B \\-e
.I SCRIPT
.br
.B kc
.RI [ options ]
.br
.B kc
.I VERB
.RI [ ... ]`

const DESCRIPTION = `.B kc
finds a ref of a kernel tree, generates a minimal configuration, builds it, boots it with virtme over a copy\\-on\\-write
snapshot of this machine's own root, runs the commands in that guest as root, and determines one verdict. Without commands
it opens a shell in the guest. Standard output has the standard output of the guest's commands and nothing else; all other
output goes to standard error. All results of a run are in the directory that is printed at its start.`

const FILES = `.TP
.I ~/.cache/kernelcraft
${roff('Trees, work trees, kernels, ccache, and the results of runs. `KERNELCRAFT_CACHE` names another directory.')}
.TP
.I ~/.kernelcraft.conf
Known trees, as JSON. Created when a tree is first named.
.TP
.I .kernelcraft.json
A project's own trees and defaults, at the top of its checkout.`

const groupSections = (): string[] =>
  Object.entries(GROUPS).map(([group, title]) => {
    const options = optionsOf('kc').filter(option => option.group === group)
    return [`.SS ${title}`, ...options.map(optionEntry)].join('\n')
  })

function verbEntry(verb: Verb): string {
  const { words, help, flags } = verb
  const argument = argumentText(verb)
  return [
    `.TP\n\\fBkc ${roff(words.join(' '))}\\fR${argument ? ` \\fI${argument}\\fR` : ''}\n${roff(sentence(help))}`,
    ...(flags.length > 0 ? ['.RS', ...flags.map(flag => entry(flag, sentence(flag.help))), '.RE'] : []),
  ].join('\n')
}

const exitStatuses = (): string[] =>
  (Object.keys(EXIT_STATUS) as Verdict[]).map(
    verdict => `.TP\n.B ${EXIT_STATUS[verdict]}\n${roff(`${verdict}: ${MEANINGS[verdict]}.`)}`,
  )

/** The manual page kc(1), in man(7). */
function manualPage(): string {
  return `.TH KC 1 "" "kernelcraft ${VERSION}" "User Commands"
.SH NAME
kc \\- build a kernel, boot it over a snapshot of this machine, run commands, report what failed
.SH SYNOPSIS
${SYNOPSIS}
.SH DESCRIPTION
${DESCRIPTION}
.SH OPTIONS
${groupSections().join('\n')}
.SS kc itself
${OWN_FLAGS.map(flag => entry(flag, sentence(flag.help))).join('\n')}
.SH VERBS
${VERBS.map(verbEntry).join('\n')}
.SH EXIT STATUS
${exitStatuses().join('\n')}
.TP
.B 2
Invalid input; nothing was done.
.SH FILES
${FILES}
.SH ENVIRONMENT
.TP
.B NO_COLOR
${roff('No colours, whatever the terminal is (https://no-color.org).')}
.SH SEE ALSO
.BR virtme\\-run (1),
.BR qemu (1),
.BR ccache (1),
.BR crash (8),
.BR git\\-bisect (1)
`
}
