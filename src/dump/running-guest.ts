import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { archOf, noVmcoreinfo } from '../arch.js'
import { connectMonitor } from '../boot/monitor.js'
import { InfraError, InputError } from '../errors.js'
import { chooseGuest } from '../host/choose-guest.js'
import { runningGuests } from '../host/registry.js'
import { archOfElf, checkDump } from './check-dump.js'
import { probeCrash } from './crash.js'
import { type Debugger, debuggers, HOW_TO_GET, openArguments } from './debuggers.js'
import { takeDump } from './take-dump.js'

const DEADLINE_SECONDS = 600

/**
 * Takes the memory of a running guest, which goes on afterwards: into `file`, or for a debugger that is opened at once.
 * Returns the status to exit with. Throws InputError or InfraError with one sentence.
 */
export async function dumpRunningGuest(
  options: { run?: string; file?: string; cancel?: AbortSignal },
  say: (line: string) => void,
): Promise<number> {
  const file = options.file === undefined ? undefined : resolve(options.file)
  if (file !== undefined && existsSync(file)) throw new InputError(`dump-file: ${file} is there already.`)
  if (file !== undefined && !existsSync(dirname(file)))
    throw new InputError(`dump-file: the directory ${dirname(file)} does not exist.`)
  const guest = chooseGuest(runningGuests(), options.run, 'kc -d')
  const found = file === undefined ? await debuggers() : []
  if (file === undefined && found.length === 0)
    throw new InfraError(
      `Neither drgn nor crash is on this machine: ${HOW_TO_GET} --dump-file FILE saves the dump without one.`,
    )
  if (!existsSync(guest.vmlinux))
    throw new InfraError(
      "This kernel's vmlinux is on the machine that built it: start the guest with --build-host-vmlinux.",
    )
  const arch = await archOfElf(guest.vmlinux)
  if (arch && !archOf(arch).vmcoreinfo) throw new InfraError(`It is not dumped: ${noVmcoreinfo(arch)}`)
  const scratch = file === undefined ? await mkdtemp(join(guest.runDirectory, 'dump-')) : undefined
  const path = file ?? join(scratch ?? '', 'vmcore')
  const qmp = await connectMonitor(guest)
  try {
    const taken = await takeDump(qmp, path, {
      maxBytes: Number.MAX_SAFE_INTEGER,
      deadline: DEADLINE_SECONDS,
      machine: arch ? archOf(arch).machine : '',
      ...(options.cancel ? { cancel: options.cancel } : {}),
    })
    if (!taken.ok) throw new InfraError(taken.reason)
    const checked = await checkDump(path, guest.vmlinux, options.cancel)
    if (!checked.ok) throw new InfraError(`${path} was written, but cannot be opened: ${checked.reason}`)
    say(
      `${checked.release}: ${Math.round(taken.bytes / 2 ** 20)} MiB in ${taken.seconds.toFixed(1)} s; the guest runs on.`,
    )
    if (file !== undefined) {
      say(`saved: ${file} (vmlinux: ${guest.vmlinux})`)
      return 0
    }
    qmp.close()
    return await open(path, guest.vmlinux, found, say)
  } finally {
    qmp.close()
    if (scratch) await rm(scratch, { recursive: true, force: true })
  }
}

/** Opens a debugger on the terminal: crash, or drgn where crash is missing or does not understand this kernel. */
async function open(
  vmcore: string,
  vmlinux: string,
  found: readonly Debugger[],
  say: (line: string) => void,
): Promise<number> {
  const crash = found.find(({ name }) => name === 'crash')
  const drgn = found.find(({ name }) => name === 'drgn')
  const probe = crash ? await probeCrash(vmcore, vmlinux) : undefined
  let tool = crash
  if (drgn && !probe?.works) {
    tool = drgn
    const why = probe
      ? `crash ${crash?.version ?? ''} does not understand this kernel (${probe.reason})`
      : 'crash is not installed'
    say(`${why}: opening drgn.`)
  }
  if (!tool) return 0
  const child = spawn(tool.path, openArguments(vmcore, vmlinux, tool), { stdio: 'inherit' })
  // the terminal sends Ctrl-C to the debugger too; it is for the debugger
  const ignore = () => {}
  process.on('SIGINT', ignore)
  const [status] = await once(child, 'exit')
  process.off('SIGINT', ignore)
  return status ?? 1
}
