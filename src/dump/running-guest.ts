import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { archOf, noVmcoreinfo } from '../arch.js'
import { connectMonitor } from '../boot/monitor.js'
import { InfraError, InputError } from '../errors.js'
import { chooseGuest } from '../host/choose-guest.js'
import { type RunningGuest, runningGuests } from '../host/registry.js'
import { archOfElf, checkDump } from './check-dump.js'
import { probeCrash } from './crash.js'
import { type Debugger, debuggers, HOW_TO_GET, openArguments } from './debuggers.js'
import { takeDump } from './take-dump.js'

const DEADLINE_SECONDS = 600

type Print = (line: string) => void

/**
 * Dumps the memory of a running guest, which continues afterwards: to `file`, or for a debugger that is opened at once.
 * `run` names the guest where several run. Returns the status to exit with. Throws InputError or InfraError with one
 * sentence.
 */
export async function dumpRunningGuest(
  options: { run?: string; file?: string; cancel?: AbortSignal },
  print: Print,
): Promise<number> {
  const file = options.file === undefined ? undefined : checkNewFile(options.file)
  const guest = chooseGuest(runningGuests(), options.run, 'kc -d')
  if (file === undefined) return await dumpAndOpen(guest, print, options.cancel)
  const machine = await machineOf(guest)
  await dump(guest, machine, file, print, options.cancel)
  print(`saved: ${file} (vmlinux: ${guest.vmlinux})`)
  return 0
}

/** The absolute path of a file to write. Throws InputError if it exists, or its directory does not. */
function checkNewFile(path: string): string {
  const file = resolve(path)
  if (existsSync(file)) throw new InputError(`dump-file: ${file} already exists.`)
  if (!existsSync(dirname(file)))
    throw new InputError(`dump-file: the directory ${dirname(file)} does not exist.`)
  return file
}

/** Dumps the guest into a temporary directory of its run directory, and opens a debugger on the dump. */
async function dumpAndOpen(guest: RunningGuest, print: Print, cancel?: AbortSignal): Promise<number> {
  const found = await debuggers()
  if (found.length === 0)
    throw new InfraError(
      `Neither drgn nor crash is on this machine: ${HOW_TO_GET} --dump-file FILE saves the dump without one.`,
    )
  const machine = await machineOf(guest)
  const directory = await mkdtemp(join(guest.runDirectory, 'dump-'))
  try {
    const vmcore = join(directory, 'vmcore')
    await dump(guest, machine, vmcore, print, cancel)
    return await openDebugger(vmcore, guest.vmlinux, found, print)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** The guest's machine as `uname -m` prints it, or '' if it is unknown. Throws InfraError if it cannot be dumped. */
async function machineOf(guest: RunningGuest): Promise<string> {
  if (!existsSync(guest.vmlinux))
    throw new InfraError(
      "This kernel's vmlinux is on the machine that built it: start the guest with --build-host-vmlinux.",
    )
  const arch = await archOfElf(guest.vmlinux)
  if (!arch) return ''
  const { vmcoreinfo, machine } = archOf(arch)
  if (!vmcoreinfo) throw new InfraError(`The guest cannot be dumped: ${noVmcoreinfo(arch)}`)
  return machine
}

/** Writes a dump of the guest to `path` and checks it. */
async function dump(
  guest: RunningGuest,
  machine: string,
  path: string,
  print: Print,
  cancel?: AbortSignal,
): Promise<void> {
  const qmp = await connectMonitor(guest)
  try {
    const result = await takeDump(qmp, path, {
      maxBytes: Number.MAX_SAFE_INTEGER,
      deadline: DEADLINE_SECONDS,
      machine,
      ...(cancel ? { cancel } : {}),
    })
    if (!result.ok) throw new InfraError(result.reason)
    const checked = await checkDump(path, guest.vmlinux, cancel)
    if (!checked.ok) throw new InfraError(`${path} was written, but cannot be opened: ${checked.reason}`)
    const size = Math.round(result.bytes / 2 ** 20)
    print(`${checked.release}: ${size} MiB in ${result.seconds.toFixed(1)} s; the guest keeps running.`)
  } finally {
    qmp.close()
  }
}

/** Opens a debugger on the terminal: crash, or drgn where crash is missing or does not understand this kernel. */
async function openDebugger(
  vmcore: string,
  vmlinux: string,
  found: readonly Debugger[],
  print: Print,
): Promise<number> {
  const tool = await chooseDebugger(vmcore, vmlinux, found, print)
  if (!tool) return 0
  // the terminal sends Ctrl-C to the whole foreground process group; it is meant for the debugger
  const ignore = () => {}
  process.on('SIGINT', ignore)
  try {
    const child = spawn(tool.path, openArguments(vmcore, vmlinux, tool), { stdio: 'inherit' })
    const [status] = await once(child, 'exit')
    return status ?? 1
  } finally {
    process.off('SIGINT', ignore)
  }
}

async function chooseDebugger(
  vmcore: string,
  vmlinux: string,
  found: readonly Debugger[],
  print: Print,
): Promise<Debugger | undefined> {
  const crash = found.find(({ name }) => name === 'crash')
  const drgn = found.find(({ name }) => name === 'drgn')
  const probe = crash ? await probeCrash(vmcore, vmlinux) : undefined
  if (!drgn || probe?.works) return crash
  const why = probe
    ? `crash ${crash?.version ?? ''} does not understand this kernel (${probe.reason})`
    : 'crash is not installed'
  print(`${why}: opening drgn.`)
  return drgn
}
