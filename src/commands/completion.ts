import { parseChoice } from '../request/values.js'
import { print } from './stdio.js'
import { type Flag, runFlags, SHELLS, type Shell, VERBS, type Verb, type VerbOptions } from './verbs.js'

/** `kc completion SHELL`. */
export async function completionCommand(_: VerbOptions, shell: string): Promise<number> {
  print(completion(parseChoice('shell', shell, SHELLS)))
  return 0
}

/** The completion script for a shell, from the tables of options and verbs. */
function completion(shell: Shell): string {
  return { bash, zsh, fish }[shell]()
}

const dashes = ({ name, letter }: Flag): string[] => [...(letter ? [`-${letter}`] : []), `--${name}`]
const isPath = (value: string | undefined) => value === 'FILE' || value === 'DIR' || value === 'HOST[=GUEST]'
/** A command that prints the names of running guests, in any shell. */
const GUESTS = "kc ps 2>/dev/null | tail -n +2 | cut -d ' ' -f 1"
const firstWords = [...new Set(VERBS.map(({ words }) => words[0] ?? ''))]
const secondWords = (first: string) =>
  VERBS.flatMap(({ words }) => (words[0] === first && words[1] ? [words[1]] : []))

/** A command of bash that completes the value of a flag. */
function bashValue({ choices, keywords, value }: Flag): string {
  const words = choices ?? keywords
  const list = words ? `COMPREPLY=($(compgen -W '${words.join(' ')}' -- "$cur"))` : ''
  if (choices) return list
  // default: file names where the words do not match
  if (keywords) return `${list}; compopt -o default`
  if (value === 'DIR') return 'compopt -o dirnames'
  return isPath(value) ? 'compopt -o default' : ':'
}

function bash(): string {
  const flags = runFlags()
  const values = flags.flatMap(flag => {
    if (flag.value === undefined || flag.optional) return []
    return [`    ${dashes(flag).join('|')}) ${bashValue(flag)}; return ;;`]
  })
  const verbs = VERBS.map(verb => {
    const own = verb.flags.flatMap(dashes).join(' ')
    const files = verb.choices ? '' : isPath(verb.argument) ? '; compopt -o default' : ''
    const words = [own, ...(verb.choices ?? []), ...(verb.words[1] ? [] : secondWords(verb.words[0] ?? ''))]
    const list = verb.guests ? `"${words.join(' ').trim()} $(${GUESTS})"` : `'${words.join(' ').trim()}'`
    return `    '${verb.words.join(' ')}') COMPREPLY=($(compgen -W ${list} -- "$cur"))${files}; return ;;`
  })
  return `# completion of kc for bash; source it
_kc() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]}
  local verb=\${COMP_WORDS[1]} second=\${COMP_WORDS[2]} index
  COMPREPLY=()
  # after -- follows the guest's command
  for ((index = 1; index < COMP_CWORD; index++)); do
    [ "\${COMP_WORDS[index]}" = -- ] && return
  done
  case $prev in
${values.join('\n')}
  esac
  case "$verb $second" in
${VERBS.filter(({ words }) => words[1])
  .map(({ words }) => `    '${words.join(' ')}') verb='${words.join(' ')}' ;;`)
  .join('\n')}
  esac
  [ "$COMP_CWORD" = 1 ] || case $verb in
${verbs.join('\n')}
  esac
  local words='${flags.flatMap(dashes).join(' ')}'
  [ "$COMP_CWORD" = 1 ] && words="${firstWords.join(' ')} $words"
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _kc kc
`
}

/** Text inside an _arguments specification. */
const zshText = (text: string) => text.replace(/[[\]:\\]/g, '\\$&').replaceAll("'", "'\\''")

/** The action of an _arguments specification that completes the value of a flag. */
function zshAction({ choices, keywords, value }: Flag): string {
  if (choices) return `(${choices.join(' ')})`
  if (keywords) return `{_alternative "values\\:value\\:(${keywords.join(' ')})" "files\\:file\\:_files"}`
  if (value === 'DIR') return '_files -/'
  return isPath(value) ? '_files' : ' '
}

function zshSpec(flag: Flag): string[] {
  const value =
    flag.value === undefined ? '' : `${flag.optional ? '::' : ':'}${zshText(flag.value)}:${zshAction(flag)}`
  return dashes(flag).map(name => `    '*${name}[${zshText(flag.help)}]${value}'`)
}

function zsh(): string {
  const describe = (verbs: readonly Verb[], at: number) =>
    verbs.map(({ words, help }) => `'${words[at]}:${zshText(help)}'`).join(' ')
  const of = (verb: Verb) => {
    const guests = verb.guests ? `($(${GUESTS.replaceAll("'", '"')}))` : ' '
    const argument = verb.choices ? `(${verb.choices.join(' ')})` : isPath(verb.argument) ? '_files' : guests
    const rest = verb.argument ? [`    ':${zshText(verb.argument)}:${argument}'`] : []
    return [...verb.flags.flatMap(zshSpec), ...rest].join(' \\\n')
  }
  const singles = VERBS.filter(({ words }) => words.length === 1)
  const cases = firstWords.map(first => {
    const seconds = VERBS.filter(({ words }) => words[0] === first && words[1])
    const single = singles.find(({ words }) => words[0] === first)
    const plain = single ? `_arguments \\\n${of(single) || "    ''"}` : ':'
    if (seconds.length === 0) return `  ${first}) ${plain} ;;`
    const inner = seconds.map(
      verb => `      ${verb.words[1]}) shift words; (( CURRENT-- )); _arguments \\\n${of(verb)} ;;`,
    )
    return `  ${first})
    if (( CURRENT == 2 )); then local -a more=(${describe(seconds, 1)}); _describe -t verbs verb more; ${single ? plain : ':'}
    else case $words[2] in
${inner.join('\n')}
      *) ${plain} ;;
    esac; fi ;;`
  })
  return `#compdef kc
# completion of kc for zsh; in a directory of fpath as _kc, or sourced
_kc() {
  local -a verbs=(${describe(
    firstWords.flatMap(first => VERBS.find(({ words }) => words[0] === first) ?? []),
    0,
  )})
  if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then _describe -t verbs verb verbs; return; fi
  if (( CURRENT > 2 )) && [[ " ${firstWords.join(' ')} " == *" $words[2] "* ]]; then
    shift words; (( CURRENT-- ))
    case $words[1] in
${cases.join('\n')}
    esac
    return
  fi
  _arguments \\
${runFlags().flatMap(zshSpec).join(' \\\n')}
}
if [ "$funcstack[1]" = _kc ]; then _kc "$@"; else compdef _kc kc; fi
`
}

const fishQuote = (text: string) => `'${text.replace(/[\\']/g, '\\$&')}'`

function fishFlag(flag: Flag, condition: string): string {
  const args = [
    ...(flag.letter ? ['-s', flag.letter] : []),
    ...['-l', flag.name, '-d', fishQuote(flag.help)],
    ...(flag.value !== undefined && !flag.optional ? ['-r'] : []),
    ...(flag.choices ? ['-f', '-a', fishQuote(flag.choices.join(' '))] : []),
    ...(flag.keywords ? ['-a', fishQuote(flag.keywords.join(' '))] : []),
    ...(isPath(flag.value) || flag.keywords ? ['-F'] : []),
  ]
  return `complete -c kc -n ${fishQuote(condition)} ${args.join(' ')}`
}

function fish(): string {
  const none = `not __fish_seen_subcommand_from ${firstWords.join(' ')}`
  const lines = [
    '# completion of kc for fish; in ~/.config/fish/completions/kc.fish, or sourced',
    'complete -c kc -f',
    ...VERBS.map(({ words, help }) => {
      const [first, second] = words
      const condition = second ? `__fish_seen_subcommand_from ${first}` : '__fish_use_subcommand'
      return `complete -c kc -n ${fishQuote(condition)} -a ${second ?? first} -d ${fishQuote(help)}`
    }),
    ...firstWords
      .filter(first => !VERBS.some(({ words }) => words.length === 1 && words[0] === first))
      .map(first => `complete -c kc -n __fish_use_subcommand -a ${first}`),
    ...VERBS.flatMap(({ words, flags, argument, choices, guests }) => {
      const condition = `__fish_seen_subcommand_from ${words.at(-1)}`
      return [
        ...flags.map(flag => fishFlag(flag, condition)),
        ...(choices ? [`complete -c kc -n ${fishQuote(condition)} -a ${fishQuote(choices.join(' '))}`] : []),
        ...(guests ? [`complete -c kc -n ${fishQuote(condition)} -a ${fishQuote(`(${GUESTS})`)}`] : []),
        ...(isPath(argument) ? [`complete -c kc -n ${fishQuote(condition)} -F`] : []),
      ]
    }),
    ...runFlags().map(flag => fishFlag(flag, none)),
  ]
  return `${lines.join('\n')}\n`
}
