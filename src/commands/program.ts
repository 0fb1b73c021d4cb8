import { resolve } from 'node:path'
import { Command } from 'commander'
import { parseBuildHost } from '../request/build-host.js'
import { flagOf, type Option, optionsOf, type RawOptions } from '../request/options.js'
import { parseTree } from '../request/parse.js'
import { attachCommand } from './attach.js'
import { cacheCommand, cachePruneCommand } from './cache.js'
import { checkoutContext } from './checkout.js'
import { cleanCheckout, cleanHost } from './clean.js'
import { completionCommand } from './completion.js'
import { doctorCommand } from './doctor.js'
import { dumpCommand } from './dump.js'
import { helpText } from './help.js'
import { initRepository } from './init.js'
import { manualPageCommand } from './manual-page.js'
import { psCommand } from './ps.js'
import { rootCreateCommand } from './root.js'
import { runCommand } from './run.js'
import { smokeCommand } from './smoke.js'
import { triageCommand } from './triage.js'
import { type Flag, OWN_FLAGS, VERBS, type Verb, type VerbOptions } from './verbs.js'
import { VERSION } from './version.js'

/** What a verb of the table does; returns kc's exit status. A missing argument is the empty string. */
type Action = (options: VerbOptions, argument: string) => Promise<number>

const ACTIONS: Readonly<Record<string, Action>> = {
  attach: attachCommand,
  cache: cacheCommand,
  'cache prune': cachePruneCommand,
  completion: completionCommand,
  doctor: doctorCommand,
  man: manualPageCommand,
  ps: psCommand,
  'root create': rootCreateCommand,
  smoke: smokeCommand,
  triage: triageCommand,
}

/**
 * Runs kc with these arguments and returns its exit status. Throws CommanderError for what cannot be parsed, and the
 * errors of the verbs.
 */
export async function runProgram(args: readonly string[]): Promise<number> {
  const separator = args.indexOf('--')
  const [own, guestCommand] =
    separator < 0 ? [args, []] : [args.slice(0, separator), args.slice(separator + 1)]
  let status = 0
  const program = createProgram()
  program.action(async (options: VerbOptions) => {
    status = await runWithoutVerb(options, guestCommand)
  })
  addVerbs(program, code => {
    status = code
  })
  await program.parseAsync([...own], { from: 'user' })
  return status
}

/** The program with its flags; help and errors are printed by kc itself. */
function createProgram(): Command {
  const program = new Command('kc')
  program
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .enablePositionalOptions()
  program.version(VERSION, '-V, --version').helpCommand(false).allowExcessArguments(false)
  program.helpInformation = () => helpText()
  for (const option of optionsOf('kc')) addOption(program, option)
  // commander has these two itself
  for (const flag of OWN_FLAGS)
    if (flag.name !== 'version' && flag.name !== 'help') program.option(...flagSpec(flag))
  return program
}

function addOption(program: Command, option: Option): void {
  const letter = option.letter ? `-${option.letter}, ` : ''
  const value = option.kind === 'switch' ? '' : ` <${option.value}>`
  const flags = `${letter}--${flagOf(option)}${value}`
  if (option.kind === 'list')
    program.option(flags, option.help, (value: string, earlier: string[] = []) => [...earlier, value])
  else program.option(flags, option.help)
}

/** A flag as commander declares it, with its help. */
function flagSpec({ name, letter, value, optional, help }: Flag): [string, string] {
  const placeholder = value === undefined ? '' : optional ? ` [${name}]` : ` <${name}>`
  return [`${letter ? `-${letter}, ` : ''}--${name}${placeholder}`, help]
}

function addVerbs(program: Command, finish: (status: number) => void): void {
  /** commands with a second word, by their first one */
  const parents = new Map<string, Command>()
  for (const verb of VERBS) {
    const [first = '', second] = verb.words
    const parent = second === undefined ? program : (parents.get(first) ?? program.command(first))
    const command = parent.command(second ?? first)
    parents.set(first, second === undefined ? command : parent)
    addVerb(command, verb, finish)
  }
}

function addVerb(command: Command, verb: Verb, finish: (status: number) => void): void {
  const { argument, optional, flags, words } = verb
  const action = ACTIONS[words.join(' ')]
  if (!action) throw new Error(`the verb ${words.join(' ')} has no action`)
  if (argument) command.argument(optional ? `[${argument}]` : `<${argument.toLowerCase()}>`)
  for (const flag of flags) command.option(...flagSpec(flag))
  // commander passes the arguments, then the options
  command.action(async (...given: unknown[]) => {
    const [value, options] = argument ? given : [undefined, given[0]]
    finish(await action(options as VerbOptions, value === undefined ? '' : String(value)))
  })
}

/** kc without a verb: --init and --clean, --dump, or a run. */
async function runWithoutVerb(options: VerbOptions, guestCommand: readonly string[]): Promise<number> {
  const { dump, dumpFile, init, clean } = options
  const verbose = options.verbose === true
  if (init !== undefined || clean === true) return await changeCheckout(options, verbose)
  if (dump !== undefined || dumpFile !== undefined) return await dumpCommand(dump, dumpFile)
  return await runCommand(rawOptions(options), guestCommand, verbose)
}

/** `kc -x` and `kc -i`, in this order where both are given. */
async function changeCheckout(options: VerbOptions, verbose: boolean): Promise<number> {
  const raw = rawOptions(options)
  const context = checkoutContext(raw, verbose)
  const host = parseBuildHost(raw)
  if (options.clean === true) await (host ? cleanHost(host, context) : cleanCheckout(context))
  const { init } = options
  if (init !== undefined) {
    const directory = typeof init === 'string' ? resolve(context.directory, init) : context.directory
    await initRepository(directory, parseTree(raw, directory), context)
  }
  return 0
}

const camelCase = (flag: string) => flag.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())

/** Parsed options of a run as text, by the names of the table. */
function rawOptions(parsed: VerbOptions): RawOptions {
  return Object.fromEntries(
    optionsOf('kc').flatMap(option => {
      const value = parsed[camelCase(flagOf(option))]
      return value === undefined
        ? []
        : [[option.name, value === true ? 'true' : (value as string | string[])]]
    }),
  )
}
