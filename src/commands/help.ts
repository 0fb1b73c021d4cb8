import { flagOf, type Option, optionsOf } from '../request/options.js'
import { EXIT_STATUS } from '../result.js'
import { argumentText, type Flag, OWN_FLAGS, VERBS } from './verbs.js'

const USAGE = `kc: build a kernel, boot it in a virtual machine, and run commands in it

  kc [options] -- COMMAND ...      build, boot, run COMMAND in the guest
  kc [options] -e 'SCRIPT'         the same with a line of shell
  kc [options]                     open a shell in the guest, on a terminal
  kc -i [DIR] [-r TREE] [-c REF]   create a repository with that tree, mainline by default
  kc -x [-C DIR]                   remove the work trees and builds that kc keeps for a checkout
`

/** Two columns, the second one on a line of its own where the first is too long. */
function columns(left: string, right: string): string {
  return left.length <= 33 ? `${left.padEnd(33)}  ${right}\n` : `${left}\n${' '.repeat(35)}${right}\n`
}

function verbLines(): string {
  const flag = ({ name, value }: Flag) => ` [--${name}${value ? ` ${value}` : ''}]`
  return VERBS.map(verb => {
    const argument = argumentText(verb)
    const { words, flags, help } = verb
    return columns(
      `  kc ${words.join(' ')}${flags.map(flag).join('')}${argument ? ` ${argument}` : ''}`,
      help,
    )
  }).join('')
}

function ownLine(flag: Flag): string {
  const letter = flag.letter ? `-${flag.letter}, ` : '    '
  const value = flag.value === undefined ? '' : flag.optional ? ` [${flag.value}]` : ` ${flag.value}`
  return columns(`  ${letter}--${flag.name}${value}`, flag.help)
}

function exitStatuses(): string {
  const each = Object.entries(EXIT_STATUS).map(([verdict, status]) => `${status} ${verdict}`)
  const [passed, failed, ...rest] = each
  const all = [passed, failed, '2 invalid input', ...rest]
  return `\nExit status: ${all.slice(0, 7).join(', ')},\n${all.slice(7).join(', ')}.\n`
}

function optionLine(option: Option): string {
  const letter = option.letter ? `-${option.letter}, ` : '    '
  const flag = `--${flagOf(option)}${option.kind === 'switch' ? '' : ` ${option.value}`}`
  const fallback =
    option.default && option.kind !== 'switch' && option.default !== '.' ? ` [${option.default}]` : ''
  return `  ${`${letter}${flag}`.padEnd(31)}  ${option.help}${fallback}\n`
}

/** The text of `kc --help`: one line for each verb and option, from the tables. */
export function helpText(): string {
  return [
    USAGE,
    verbLines(),
    '\n',
    ...optionsOf('kc').map(optionLine),
    ...OWN_FLAGS.map(ownLine),
    exitStatuses(),
  ].join('')
}
