import { appendFile, constants, copyFile, rename, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Kernel } from '../build/build-kernel.js'
import type { Log } from '../log.js'
import type { VmcoreFacts } from '../result.js'
import { FILES } from '../run-directory.js'
import { checkDump } from './check-dump.js'
import { type CrashProbe, probeCrash } from './crash.js'
import { type Debugger, debuggers, HOW_TO_GET, openCommand } from './debuggers.js'
import { explainDump } from './explain-dump.js'

/** What the vmcore of a run directory is examined with. */
export interface VmcoreContext {
  runDirectory: string
  kernel: Pick<Kernel, 'vmlinux' | 'modules'>
  log: Log
  cancel?: AbortSignal
}

/**
 * Checks the run directory's vmcore, puts its vmlinux next to it, and has the debuggers of this machine explain it in
 * crash.txt. A dump that cannot be opened is renamed: then the result is undefined. Throws only if it is cancelled, or
 * for a file that cannot be written.
 */
export async function keepVmcore(context: VmcoreContext): Promise<VmcoreFacts | undefined> {
  const { runDirectory, kernel, log, cancel } = context
  const vmcore = join(runDirectory, FILES.vmcore)
  const checked = await checkDump(vmcore, kernel.vmlinux, cancel)
  if (!checked.ok) {
    const kept = join(runDirectory, 'memory.kdump')
    await rename(vmcore, kept)
    log.warning(`The dump is not a valid vmcore and is kept as ${basename(kept)}: ${checked.reason}`)
    return undefined
  }
  const vmlinux = join(runDirectory, FILES.vmlinux)
  await copyFile(kernel.vmlinux, vmlinux, constants.COPYFILE_FICLONE)
  const found = await debuggers()
  const tool = await explain(context, vmcore, vmlinux, found)
  if (found.length === 0) log.info(`No debugger on this machine opens the vmcore: ${HOW_TO_GET}`)
  const { size: bytes } = await stat(vmcore)
  return {
    bytes,
    ...(checked.buildId ? { buildId: checked.buildId } : {}),
    open: openCommand(vmcore, vmlinux, tool ?? { name: 'drgn' }),
  }
}

/** Writes crash.txt with what drgn and crash print. Returns the debugger that opens this vmcore, if there is one. */
async function explain(
  { runDirectory, kernel, log, cancel }: VmcoreContext,
  vmcore: string,
  vmlinux: string,
  found: readonly Debugger[],
): Promise<Debugger | undefined> {
  const output = join(runDirectory, FILES.crash)
  const crash = found.find(({ name }) => name === 'crash')
  const [explained, probe] = await Promise.all([
    explainDump({
      ...{ vmcore, vmlinux, output },
      ...(kernel.modules ? { modules: kernel.modules } : {}),
      ...(cancel ? { cancel } : {}),
    }),
    crash ? probeCrash(vmcore, vmlinux, cancel ? { cancel } : {}) : undefined,
  ])
  if (!explained.ok) log.warning(`drgn could not explain the vmcore: ${explained.reason}`)
  if (probe && !probe.works) log.detail(probe.reason)
  if (crash && probe) await appendCrash(output, crash, probe)
  return probe?.works ? crash : found.find(({ name }) => name === 'drgn')
}

/** Appends the output of crash, if it has any. */
async function appendCrash(output: string, crash: Debugger, probe: CrashProbe): Promise<void> {
  const text = probe.works ? probe.text : probe.partial
  if (text === undefined) return
  const limits = probe.works ? '' : `${probe.reason}\n`
  await appendFile(output, `\n== Output of crash ${crash.version ?? ''} ==\n${limits}${text}`)
}
