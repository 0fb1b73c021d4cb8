import { flagOf, type Option, optionsOf } from '../request/options.js'
import { EXIT_STATUS, MEANINGS, type Verdict } from '../result.js'
import { argumentText, type Flag, OWN_FLAGS, VERBS } from './verbs.js'
import { VERSION } from './version.js'

/** A word or sentence as roff(7) takes it. */
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

function option(of: Option): string {
  const fallback = of.default === undefined || of.kind === 'switch' ? '' : ` Default: \`${of.default}\`.`
  const flag = {
    name: flagOf(of),
    ...(of.letter ? { letter: of.letter } : {}),
    ...(of.kind === 'switch' ? {} : { value: of.value ?? 'VALUE' }),
  }
  return entry(flag, [sentence(of.help), of.more].filter(Boolean).join(' ') + fallback)
}

const GROUPS: Readonly<Record<Option['group'], string>> = {
  source: 'What is tested',
  config: 'Configuration',
  build: 'Build',
  guest: 'The guest',
  run: 'Commands and deadlines',
  report: 'Findings and results',
}

/** The manual page kc(1), in the language of man(7). */
export function manPage(): string {
  const groups = Object.entries(GROUPS).map(([group, title]) =>
    [
      `.SS ${title}`,
      ...optionsOf('kc')
        .filter(of => of.group === group)
        .map(option),
    ].join('\n'),
  )
  const verbs = VERBS.map(verb => {
    const argument = argumentText(verb)
    const { words, help, flags } = verb
    return [
      `.TP\n\\fBkc ${roff(words.join(' '))}\\fR${argument ? ` \\fI${argument}\\fR` : ''}\n${roff(sentence(help))}`,
      ...(flags.length > 0 ? ['.RS', ...flags.map(flag => entry(flag, sentence(flag.help))), '.RE'] : []),
    ].join('\n')
  })
  return `.TH KC 1 "" "kernelcraft ${VERSION}" "User Commands"
.SH NAME
kc \\- build a kernel, boot it over a snapshot of this machine, run commands, say what went wrong
.SH SYNOPSIS
.B kc
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
.RI [ ... ]
.SH DESCRIPTION
.B kc
finds a ref of a kernel tree, generates a minimal configuration, builds it, boots it with virtme over a copy\\-on\\-write
snapshot of this machine's own root, runs the commands there as root, and gives one verdict. Without commands it opens a
shell in the guest. What the guest prints on its standard output is all that is printed there; the rest goes to standard
error. Everything that a run learned lies in the directory that is printed at its start.
.SH OPTIONS
${groups.join('\n')}
.SS kc itself
${OWN_FLAGS.map(flag => entry(flag, sentence(flag.help))).join('\n')}
.SH VERBS
${verbs.join('\n')}
.SH EXIT STATUS
${(Object.keys(EXIT_STATUS) as Verdict[]).map(verdict => `.TP\n.B ${EXIT_STATUS[verdict]}\n${roff(`${verdict}: ${MEANINGS[verdict]}.`)}`).join('\n')}
.TP
.B 2
${roff('Input that makes no sense; nothing was done.')}
.SH FILES
.TP
.I ~/.cache/kernelcraft
${roff('Trees, work trees, kernels, ccache, and the results of runs. `KERNELCRAFT_CACHE` names another directory.')}
.TP
.I ~/.kernelcraft.conf
Known trees, as JSON. Made when a tree is named first.
.TP
.I .kernelcraft.json
A project's own trees and defaults, at the top of its checkout.
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
