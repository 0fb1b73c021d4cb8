import { dirname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { InfraError, InputError } from '../errors.js'
import { chooseGuest } from '../host/choose-guest.js'
import { cleanupStack } from '../host/cleanup.js'
import { releaseLock, takeLock } from '../host/lock.js'
import { isAlive } from '../host/proc.js'
import { guestName, type RunningGuest, runningGuests } from '../host/registry.js'
import { type ConsoleState, followConsole } from './console-state.js'
import { type GuestRequest, MAX_SHELLS, sendGuestRequest } from './guest-requests.js'
import { connectMonitor } from './monitor.js'
import { connectSocket, type Qmp } from './qmp.js'
import { attachTerminal, type Terminal } from './terminal.js'
import { guestSockets } from './virtme-command.js'

/** how long a guest that is still booting, or busy, has to open a shell */
const SHELL_TIMEOUT_MS = 120_000
const DETACH_TIMEOUT_MS = 3000
const CONNECT_TIMEOUT_MS = 5000
const POLL_MS = 20

/** One shell in the guest and the terminal that is connected to it. */
interface TerminalSession {
  guest: RunningGuest
  /** of the console */
  number: number
  sockets: ReturnType<typeof guestSockets>
  /** of the console, as the guest's init reports it */
  state: () => ConsoleState
  terminal: Terminal
  /** the terminal's TERM and COLORTERM */
  type?: string
  colours?: string
  cancel: AbortSignal
}

/**
 * Opens one more shell in a running guest, on a console that is hot-plugged for it, and connects this terminal to it
 * until the shell or the guest ends. Returns the shell's exit status; 0 where the guest has ended. Throws InputError
 * where no guest matches or several do, InfraError where the guest does not open a shell.
 */
export async function attach(
  options: { guest?: string; terminal?: Terminal; type?: string; colours?: string; cancel: AbortSignal },
  print: (line: string) => void,
): Promise<number> {
  const { guest: wanted, terminal, ...more } = options
  if (!terminal) throw new InputError('attach opens a shell: it needs a terminal.')
  const guest = chooseGuest(runningGuests(), wanted, 'kc attach')
  const sockets = guestSockets(dirname(guest.monitor))
  const cleanup = cleanupStack()
  try {
    const { number, abandoned } = await lockConsole(sockets.shell)
    cleanup.defer(() => releaseLock(lockOf(sockets.shell(number))))
    const following = followConsole(guest.runDirectory, number)
    cleanup.defer(following.close)
    const session = { guest, number, sockets, state: following.state, terminal, ...more }
    // the kc that used it was killed, and its shell may still run
    if (abandoned) {
      await detachShell(session)
      following.reset()
    }
    // plugged in once the guest's init runs: consoles that exist before the kernel probes the bus are numbered in the
    // order in which it finds them
    if (!(await waitForGuest('up', session))) return 1
    const qmp = await connectMonitor(guest)
    try {
      await plugConsoles(qmp, number, sockets.shell)
    } finally {
      qmp.close()
    }
    return await runSession(session, print)
  } finally {
    await cleanup.run()
  }
}

/** Has the guest open a shell on the console, and stays attached until the shell or the guest ends, or `cancel`. */
async function runSession(session: TerminalSession, print: (line: string) => void): Promise<number> {
  const { number, sockets, state, terminal, cancel } = session
  const { rows, columns } = terminal.output
  const send = (request: GuestRequest) => sendGuestRequest(sockets.requests, request)
  // connected before the shell prints anything: QEMU drops what is printed without a connection
  const deadline = Date.now() + CONNECT_TIMEOUT_MS
  const console = await connectSocket(sockets.shell(number), () => Date.now() > deadline)
  if (!console) throw new InfraError('QEMU did not accept a connection to the console that was added.')
  try {
    const [term, colorTerm] = [session.type ?? 'xterm', session.colours]
    await send({ verb: 'attach', number, rows, columns, term, colorTerm })
    if (!(await waitForGuest('attached', session))) return 1
    const attached = attachTerminal(terminal, console, size => void send({ verb: 'size', number, ...size }))
    try {
      while (!attached.over && !state().detached && !cancel.aborted) await pause(POLL_MS)
      // what the shell printed last arrives over another channel than the report that it has ended
      if (state().detached) await pause(5 * POLL_MS)
    } finally {
      attached.detach()
    }
    const { detached, status } = state()
    print(describeEnd(detached, attached.over))
    return status ?? (cancel.aborted ? 1 : 0)
  } finally {
    // ends the shell, which has lost its terminal
    if (!state().detached) await send({ verb: 'detach', number })
    console.destroy()
  }
}

const describeEnd = (detached: boolean, over: boolean) =>
  detached
    ? 'The shell has ended; the guest is still running.'
    : over
      ? 'The guest has ended.'
      : 'Detached from the guest.'

/** Ends the shell on the console, and waits until it has ended, a few seconds at most. */
async function detachShell({ sockets, number, state }: TerminalSession): Promise<void> {
  await sendGuestRequest(sockets.requests, { verb: 'detach', number })
  const deadline = Date.now() + DETACH_TIMEOUT_MS
  while (!state().detached && Date.now() < deadline) await pause(POLL_MS)
}

/** Waits until the guest reports it; false if `cancel` came first. Throws InfraError if it is not reported. */
async function waitForGuest(
  event: 'up' | 'attached',
  { guest, state, cancel }: TerminalSession,
): Promise<boolean> {
  const deadline = Date.now() + SHELL_TIMEOUT_MS
  while (!state()[event]) {
    if (cancel.aborted) return false
    if (state().detached || Date.now() > deadline || !isAlive(guest.owner))
      throw new InfraError(
        `The guest did not open a shell: it has ended or hangs (\`kc -d ${guestName(guest)}\` dumps it).`,
      )
    await pause(POLL_MS)
  }
  return true
}

const lockOf = (path: string) => `${path}.lock`

/**
 * Locks a console that no other kc is attached to. `abandoned` is true where its last kc ended without detaching. Throws
 * InfraError if all are in use.
 */
/** The sockets' directory of a guest that has just ended does not exist any more. */
function unlessGone(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}

async function lockConsole(
  path: (number: number) => string,
): Promise<{ number: number; abandoned: boolean }> {
  for (let number = 1; number <= MAX_SHELLS; number++) {
    const taken = await takeLock(lockOf(path(number))).catch(unlessGone)
    if (taken) return { number, abandoned: taken === 'abandoned' }
  }
  throw new InfraError(
    `All ${MAX_SHELLS} consoles of this guest for further shells are in use: exit one of the shells.`,
  )
}

/**
 * Hot-plugs the consoles up to this number that do not exist yet; they stay. In their order, since the kernel names them
 * in the order in which they appear (hvc_alloc of drivers/tty/hvc/hvc_console.c).
 */
async function plugConsoles(qmp: Qmp, number: number, path: (number: number) => string): Promise<void> {
  const addUnlessExists = async (command: string, args: Record<string, unknown>) => {
    try {
      await qmp.execute(command, args)
    } catch (error) {
      if (!/duplicate|exists/i.test(String(error)))
        throw new InfraError(`QEMU could not add a console to the guest: ${error}`)
    }
  }
  for (let each = 1; each <= number; each++) {
    const id = `kc-shell-${each}`
    const addr = { type: 'unix', data: { path: path(each) } }
    await addUnlessExists('chardev-add', {
      id,
      backend: { type: 'socket', data: { addr, server: true, wait: false } },
    })
    await addUnlessExists('device_add', {
      driver: 'virtconsole',
      bus: 'kc-serial.0',
      chardev: id,
      id: `${id}-port`,
    })
  }
}
