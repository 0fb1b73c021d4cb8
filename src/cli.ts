#!/usr/bin/env node
import { realpathSync } from 'node:fs'
import { resolve } from 'node:path'
import { Command, CommanderError } from 'commander'
import type { ArchName } from './arch.js'
import { attach } from './boot/attach.js'
import type { Terminal } from './boot/terminal.js'
import { cleanBuildHost } from './build/build-host.js'
import { listKernels, pruneKernels } from './build/kernel-cache.js'
import { cacheJson, cacheText, cacheTotal } from './commands/cache-list.js'
import { cleanCheckout, initRepository } from './commands/checkout.js'
import { completion } from './commands/completion.js'
import { helpText } from './commands/help.js'
import { manPage } from './commands/manual-page.js'
import { listGuests, psJson, psText } from './commands/ps.js'
import { triageJson, triageText } from './commands/triage-text.js'
import { type Flag, OWN_FLAGS, SHELLS, VERBS } from './commands/verbs.js'
import { VERSION } from './commands/version.js'
import { dumpRunningGuest } from './dump/running-guest.js'
import { InputError, messageOf, StageError } from './errors.js'
import { checkMachine, install, renderChecks, usualArch } from './host/doctor.js'
import { makeRunDirectory } from './host/new-run-directory.js'
import { cachePath } from './host/paths.js'
import { createRoot } from './host/root-create.js'
import { cancelOn } from './host/signals.js'
import { parseConsoleFile } from './judge/guest-output.js'
import { runPipeline } from './pipeline.js'
import { repeatCommand } from './report/repeat-command.js'
import { terminalLog, terminalResult } from './report/terminal.js'
import { isBundled } from './request/bundled-fragments.js'
import { flagOf, type Option, optionsOf, type RawOptions } from './request/options.js'
import { parseBuildHost, parseRequest, parseTree } from './request/request.js'
import { parseArch, parseChoice, parseMaxSize } from './request/values.js'
import { EXIT_INVALID_INPUT, EXIT_STATUS } from './result.js'

const camel = (flag: string) => flag.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())

function declare(program: Command, option: Option): void {
  const flags = `${option.letter ? `-${option.letter}, ` : ''}--${flagOf(option)}${option.kind === 'switch' ? '' : ` <${option.value}>`}`
  if (option.kind === 'list')
    program.option(flags, option.help, (value: string, before: string[] = []) => [...before, value])
  else program.option(flags, option.help)
}

function toRaw(parsed: Record<string, unknown>): RawOptions {
  return Object.fromEntries(
    optionsOf('kc').flatMap(option => {
      const value = parsed[camel(flagOf(option))]
      return value === undefined
        ? []
        : [[option.name, value === true ? 'true' : (value as string | string[])]]
    }),
  )
}

/** The terminal that kc was started on, if that is where it reads and writes. */
function ownTerminal(): Terminal | undefined {
  const { stdin, stdout } = process
  return stdin.isTTY && stdout.isTTY ? { input: stdin, output: stdout } : undefined
}

async function runOnce(raw: RawOptions, argv: readonly string[], verbose: boolean): Promise<number> {
  const { env } = process
  const cwd = process.cwd()
  const terminal = ownTerminal()
  const request = parseRequest(
    raw,
    { cwd, env, argv, terminal: terminal !== undefined, local: true },
    isBundled,
  )
  const runDirectory = await makeRunDirectory(request.runDirectory)
  const log = terminalLog({ verbose, env })
  log.info(`results: ${runDirectory}`)
  const result = await runPipeline(
    request,
    {
      runDirectory,
      directory: realpathSync(cwd),
      env,
      repeat: sha => repeatCommand(raw, sha, argv),
      // the guest is stopped and results are written
      cancel: cancelOn('SIGINT', 'SIGTERM', 'SIGHUP'),
      ...(request.command.kind === 'shell' ? { terminal } : {}),
    },
    log,
  )
  process.stderr.write(terminalResult(result, env))
  return EXIT_STATUS[result.verdict]
}

/** kc -i and kc -x: no run, but the checkout itself. */
async function atDesk(raw: RawOptions, options: Record<string, unknown>): Promise<number> {
  const { init, clean, verbose } = options
  const log = terminalLog({ verbose: verbose === true, env: process.env })
  const asked = {
    force: raw.force === 'true',
    log,
    cancel: cancelOn('SIGINT', 'SIGTERM', 'SIGHUP'),
    ...(process.stderr.isTTY ? { show: (progress: Buffer) => process.stderr.write(progress) } : {}),
  }
  const directory = resolve(typeof raw.path === 'string' ? raw.path : '.')
  const host = parseBuildHost(raw)
  if (clean === true && host) {
    const removed = await cleanBuildHost(host, asked.cancel)
    for (const path of removed) log.info(`removed ${path} on ${host.destination}`)
    if (removed.length === 0) log.info(`nothing was kept on ${host.destination}`)
  } else if (clean === true) await cleanCheckout(directory, asked)
  if (init !== undefined) {
    const place = typeof init === 'string' ? resolve(directory, init) : directory
    await initRepository(place, parseTree(raw, place), asked)
  }
  return 0
}

async function doctor(doInstall: boolean, arch: ArchName, json: boolean): Promise<number> {
  if (doInstall) await install(arch, line => process.stderr.write(`${line}\n`))
  const findings = await checkMachine(arch)
  const missing = findings.filter(finding => finding.state === 'missing')
  const status = missing.length === 0 ? 0 : EXIT_STATUS['infra-error']
  if (json) {
    process.stdout.write(`${JSON.stringify({ ready: missing.length === 0, arch, findings })}\n`)
    return status
  }
  process.stdout.write(renderChecks(findings))
  if (missing.length === 0) process.stdout.write('This machine is ready.\n')
  else
    process.stdout.write(
      `Missing: ${missing.map(finding => finding.name).join(', ')}. \`kc doctor --install\` gets what can be had.\n`,
    )
  return status
}

async function showCache(json: boolean): Promise<number> {
  const entries = await listKernels()
  process.stdout.write(json ? cacheJson(entries) : cacheText(entries))
  process.stderr.write(`${cacheTotal(entries)} in ${cachePath('kernels')}\n`)
  return 0
}

/** Without a size everything goes that no run holds. */
async function pruneCache(maxSize: string | undefined, json: boolean): Promise<number> {
  const removed = await pruneKernels(maxSize === undefined ? 0 : parseMaxSize('max-size', maxSize))
  process.stdout.write(json ? cacheJson(removed) : cacheText(removed))
  process.stderr.write(`removed ${cacheTotal(removed)}; left ${cacheTotal(await listKernels())}\n`)
  return 0
}

interface RootOptions {
  arch?: string
  suite?: string
  mirror?: string
  include?: string
}

async function makeRoot(directory: string, options: RootOptions): Promise<number> {
  const { arch, suite, mirror, include = '' } = options
  const wanted = {
    arch: arch === undefined ? usualArch() : parseArch(arch),
    directory,
    ...(suite ? { suite } : {}),
    ...(mirror ? { mirror } : {}),
    include: include.split(/[\s,]+/).filter(Boolean),
  }
  const made = await createRoot(
    wanted,
    line => process.stderr.write(`    ${line}\n`),
    cancelOn('SIGINT', 'SIGTERM', 'SIGHUP'),
  )
  if (!made.configured)
    process.stderr.write(
      `This machine runs no ${wanted.arch} programs: packages were unpacked, their scripts have not run.\n`,
    )
  process.stdout.write(`${made.directory}\n`)
  return 0
}

/** The demonstration: make the machine able, then build and boot the distribution's own kernel. */
async function smoke(): Promise<number> {
  process.stderr.write('==> Make this machine ready\n')
  await install(usualArch(), line => process.stderr.write(`    ${line}\n`))
  return await runOnce({ release: 'distro', run: 'uname -r' }, [], false)
}

/** commander's words for a flag. */
function ownFlag({ name, letter, value, optional, help }: Flag): [string, string] {
  const placeholder = value === undefined ? '' : optional ? ` [${name}]` : ` <${name}>`
  return [`${letter ? `-${letter}, ` : ''}--${name}${placeholder}`, help]
}

function makeProgram(argv: readonly string[], finish: (status: number) => void): Command {
  const program = new Command('kc')
  program
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .enablePositionalOptions()
  program.version(VERSION, '-V, --version').helpCommand(false).allowExcessArguments(false)
  program.helpInformation = () => helpText()
  for (const option of optionsOf('kc')) declare(program, option)
  for (const flag of OWN_FLAGS)
    if (flag.name !== 'version' && flag.name !== 'help') program.option(...ownFlag(flag))
  program.action(async (options: Record<string, unknown>) => {
    const { dump, dumpFile, init, clean } = options
    if (init !== undefined || clean === true) return finish(await atDesk(toRaw(options), options))
    if (dump === undefined && dumpFile === undefined)
      return finish(await runOnce(toRaw(options), argv, options.verbose === true))
    const wanted = {
      ...(typeof dump === 'string' ? { run: dump } : {}),
      ...(typeof dumpFile === 'string' ? { file: dumpFile } : {}),
      cancel: cancelOn('SIGTERM', 'SIGHUP'),
    }
    finish(await dumpRunningGuest(wanted, line => process.stderr.write(`${line}\n`)))
  })
  const root = new Map<string, Command>()
  /** Declares a verb of the table. */
  const verb = (
    words: string,
    act: (options: Record<string, string | boolean>, argument: string) => Promise<number>,
  ) => {
    const entry = VERBS.find(known => known.words.join(' ') === words)
    if (!entry) throw new Error(`no verb ${words}`)
    const [first = '', second] = entry.words
    const parent = second ? (root.get(first) ?? program.command(first)) : program
    const command = parent.command(second ?? first)
    if (!second) root.set(first, command)
    if (entry.argument)
      command.argument(entry.optional ? `[${entry.argument}]` : `<${entry.argument.toLowerCase()}>`)
    for (const flag of entry.flags) command.option(...ownFlag(flag))
    command.action(async (...given: unknown[]) => {
      const options = given[entry.argument ? 1 : 0] as Record<string, string | boolean>
      finish(await act(options, entry.argument && given[0] !== undefined ? String(given[0]) : ''))
    })
  }
  const archOf = (arch: string | boolean | undefined) =>
    typeof arch === 'string' ? parseArch(arch) : usualArch()
  verb('triage', async ({ json }, file) => {
    const heard = await parseConsoleFile(file)
    process.stdout.write(json ? triageJson(heard) : triageText(heard))
    return heard.findings.length === 0 ? 0 : EXIT_STATUS.splat
  })
  verb('cache', async ({ json }) => await showCache(json === true))
  verb(
    'cache prune',
    async ({ maxSize, json }) => await pruneCache(maxSize as string | undefined, json === true),
  )
  verb(
    'doctor',
    async ({ install, arch, json }) => await doctor(install === true, archOf(arch), json === true),
  )
  verb('root create', async (options, directory) => await makeRoot(directory, options as RootOptions))
  verb('ps', async ({ json }) => {
    const guests = listGuests()
    process.stdout.write(json ? psJson(guests) : psText(guests))
    return 0
  })
  verb('attach', async (_, name) => {
    const wanted = {
      ...(name ? { guest: name } : {}),
      terminal: ownTerminal(),
      type: process.env.TERM,
      colours: process.env.COLORTERM,
      cancel: cancelOn('SIGINT', 'SIGTERM', 'SIGHUP'),
    }
    return await attach(wanted, line => process.stderr.write(`${line}\n`))
  })
  verb('smoke', smoke)
  verb('completion', async (_, shell) => {
    process.stdout.write(completion(parseChoice('shell', shell, SHELLS)))
    return 0
  })
  verb('man', async () => {
    process.stdout.write(manPage())
    return 0
  })
  return program
}

async function main(): Promise<number> {
  const words = process.argv.slice(2)
  const split = words.indexOf('--')
  const argv = split < 0 ? [] : words.slice(split + 1)
  let status = 0
  try {
    await makeProgram(argv, code => {
      status = code
    }).parseAsync(split < 0 ? words : words.slice(0, split), { from: 'user' })
    return status
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0
      process.stderr.write(`kc: ${error.message.replace(/^error: /, '')}\n`)
      return EXIT_INVALID_INPUT
    }
    if (error instanceof InputError) {
      process.stderr.write(`kc: ${error.message}\n`)
      return EXIT_INVALID_INPUT
    }
    const details = error instanceof StageError ? error.details.map(line => `    ${line}\n`).join('') : ''
    process.stderr.write(`kc: ${messageOf(error)}\n${details}`)
    return error instanceof StageError ? EXIT_STATUS[error.verdict] : EXIT_STATUS['infra-error']
  }
}

// a reader that has gone (`kc ... | head`) is no error of ours
process.stdout.on('error', () => {})
const code = await main()
// pending handles (a terminal's input) must not keep a finished run from ending; output is flushed first
process.exitCode = code
await new Promise(resolve => process.stdout.write('', resolve))
process.exit(code)
