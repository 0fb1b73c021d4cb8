import { flagOf, type Option, optionsOf } from './options.js'

const USAGE = `kc: does a kernel build, boot, and pass these commands?

  kc [options] -- COMMAND ...      build, boot, run COMMAND in the guest
  kc [options] -e 'SCRIPT'         the same with a line of shell
  kc [options]                     a shell in the guest, on a terminal
  kc -i [DIR] [-r TREE] [-c REF]   make a repository with that tree, mainline by default
  kc -x [-C DIR]                   remove the work trees and builds that are kept for a checkout
  kc doctor [--install] [--arch A] is this machine able? make it so
  kc root create [--arch A] DIR    a root file system of Debian or Ubuntu for --root
                                   (--suite NAME, --mirror URL, --include PACKAGES)
  kc smoke                         the demonstration, with the distribution's kernel
  kc cache [--json]                kernels that were built and are kept
  kc cache prune [--max-size SIZE] remove those not used for longest; without a size, all
  kc triage FILE [--json]          reports and tests in a console log (- is stdin)

`

const EXITS = `  -i, --init [DIR], -x, --clean    see above; with --force, uncommitted changes are dropped
  -d, --dump [RUN]                 dump a running guest, which goes on, and open the dump
      --dump-file FILE             save that dump instead
  -v, --verbose                    show what tools and the console say
  -V, --version   -h, --help

Exit status: 0 passed, 1 test-failed, 2 invalid input, 3 splat, 4 panic, 5 hang, 6 boot-failed,
7 build-failed, 8 config-failed, 9 source-failed, 10 infra-error, 130 cancelled.
`

function line(option: Option): string {
  const letter = option.letter ? `-${option.letter}, ` : '    '
  const flag = `--${flagOf(option)}${option.kind === 'switch' ? '' : ` ${option.value}`}`
  const fallback =
    option.default && option.kind !== 'switch' && option.default !== '.' ? ` [${option.default}]` : ''
  return `  ${`${letter}${flag}`.padEnd(31)}  ${option.help}${fallback}\n`
}

/** kc --help: one line an option, from the table. */
export function helpText(): string {
  return USAGE + optionsOf('kc').map(line).join('') + EXITS
}
