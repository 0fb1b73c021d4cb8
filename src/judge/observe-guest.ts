import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { boot } from '../boot/boot.js'
import type { Outcome } from '../boot/outcome.js'
import type { Terminal } from '../boot/terminal.js'
import type { Kernel } from '../build/build-kernel.js'
import type { ExternalModule, ExternalModules } from '../build/external-modules.js'
import { vmcoreCollector } from '../dump/collector.js'
import { nameLeaks } from '../dump/kmemleak.js'
import type { DumpResult } from '../dump/take-dump.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import type { BootFacts, ModuleFacts } from '../result.js'
import { FILES } from '../run-directory.js'
import { ignoreWindows } from '../triage/rules.js'
import { type GuestOutputParser, guestOutputParser, type ParsedOutput } from './guest-output.js'

/** A guest that was booted and has ended. */
export interface ObservedGuest {
  outcome: Outcome
  facts: BootFacts
  /** of the external modules, if there are any */
  modules?: ModuleFacts[]
  /** the last dump, if one was tried */
  dump?: DumpResult
  /** what it printed; to be called once, see guestOutput */
  parser: GuestOutputParser
}

/** Where the guest's files go, and how it is connected to the user. */
export interface ObserveContext {
  runDirectory: string
  /** where the guest's commands start */
  directory: string
  env: NodeJS.ProcessEnv
  cancel?: AbortSignal
  terminal?: Terminal
}

/** Boots the guest, parses what it prints, and takes the dumps that the request wants. */
export async function observeGuest(
  request: Request,
  kernel: Kernel,
  external: ExternalModules | undefined,
  context: ObserveContext,
  log: Log,
): Promise<ObservedGuest> {
  const { runDirectory, cancel, terminal } = context
  const collector = vmcoreCollector(request, runDirectory, log, cancel)
  let parser = guestOutputParser([])
  const { outcome, facts } = await boot(request, kernel, context, log, {
    cancel,
    terminal,
    load: external?.modules.map(({ name }) => name),
    // a guest that is booted again under emulation starts anew
    newParser() {
      parser = guestOutputParser(ignoreWindows(request.ignore))
      return { onConsole: parser.console, onStdout: parser.stdout }
    },
    dump: collector.collect,
  })
  const dump = collector.dump()
  return {
    ...{ outcome, facts, parser },
    ...(external ? { modules: moduleFacts(external.modules, outcome) } : {}),
    ...(dump ? { dump } : {}),
  }
}

/** Everything that the guest printed, parsed; kmemleak's report on external modules is appended to the console. */
export async function guestOutput(
  { outcome, parser }: ObservedGuest,
  external: ExternalModules | undefined,
  { runDirectory, cancel }: Pick<ObserveContext, 'runDirectory' | 'cancel'>,
): Promise<ParsedOutput> {
  if (external) {
    const leaks = await nameLeaks(outcome.leaks, outcome.modules, external.tree, cancel)
    if (leaks.length > 0) parser.console(await appendLeaks(runDirectory, leaks))
  }
  return parser.end()
}

/** Appends kmemleak's report to the console log, and returns it as part of the console. */
async function appendLeaks(runDirectory: string, leaks: readonly string[]): Promise<Buffer> {
  const text = `kernelcraft: /sys/kernel/debug/kmemleak, read when the modules were removed\n${leaks.join('\n')}\n`
  await appendFile(join(runDirectory, FILES.console), text)
  return Buffer.from(text, 'latin1')
}

function moduleFacts(modules: readonly ExternalModule[], outcome: Outcome): ModuleFacts[] {
  return modules.map(({ name, requested }) => {
    const { loaded = false, trouble } = outcome.modules[name] ?? {}
    return { name, source: requested, loaded, ...(trouble === undefined ? {} : { trouble }) }
  })
}
