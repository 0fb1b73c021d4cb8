import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { InfraError, InputError } from '../errors.js'
import { chooseGuest } from '../host/choose-guest.js'
import { takeLock } from '../host/lock.js'
import { isAlive } from '../host/proc.js'
import { guestName, type RunningGuest, runningGuests } from '../host/registry.js'
import { type GuestRequest, MOST_SHELLS, sendGuestRequest } from './guest-requests.js'
import { connectMonitor } from './monitor.js'
import { connectSocket, type Qmp } from './qmp.js'
import { tailFile } from './tail.js'
import { attachTerminal, type Terminal } from './terminal.js'
import { guestFiles, guestSockets } from './virtme-command.js'

/** a guest that is still booting, or busy, has so long to open a shell */
const ANSWER_SECONDS = 120
const POLL_MS = 20

/**
 * Opens one more shell in a guest that runs, on a console that is plugged in for it, and connects this terminal to it
 * until the shell or the guest ends. Returns the shell's status; 0 where the guest has ended. Throws InputError where no
 * guest or not just one is meant, InfraError where it does not answer.
 */
export async function attach(
  options: { guest?: string; terminal?: Terminal; type?: string; colours?: string; cancel: AbortSignal },
  say: (line: string) => void,
): Promise<number> {
  const { guest: wanted, terminal, ...more } = options
  if (!terminal) throw new InputError('attach opens a shell: it needs a terminal.')
  const guest = chooseGuest(runningGuests(), wanted, 'kc attach')
  const sockets = guestSockets(dirname(guest.monitor))
  const { number, abandoned } = await takeNumber(sockets.shell)
  const heard = hearControlOf(guest.runDirectory, number)
  try {
    // whoever sat there was killed, and its shell may still run
    if (abandoned) {
      await sendGuestRequest(sockets.requests, { word: 'leave', number })
      const give = Date.now() + 3000
      while (!heard().left && Date.now() < give) await pause(POLL_MS)
      heard.forget()
    }
    // consoles that are there when the kernel looks for them are numbered as it finds them, ours among them or not
    if (!(await hears('up', { guest, heard, cancel: options.cancel }))) return 1
    const qmp = await connectMonitor(guest)
    try {
      await plugConsoles(qmp, number, sockets.shell)
    } finally {
      qmp.close()
    }
    return await sit({ guest, number, sockets, heard, terminal, ...more }, say)
  } finally {
    heard.close()
    rmSync(lockOf(sockets.shell(number)), { force: true })
  }
}

interface Seat {
  guest: RunningGuest
  number: number
  sockets: ReturnType<typeof guestSockets>
  heard: () => HeardOf
  terminal: Terminal
  type?: string
  colours?: string
  cancel: AbortSignal
}

/** Has the guest open a shell on that console, and stays until one of both has left. */
async function sit(at: Seat, say: (line: string) => void): Promise<number> {
  const { number, sockets, heard, cancel } = at
  const { rows, columns } = at.terminal.output
  const ask = (request: GuestRequest) => sendGuestRequest(sockets.requests, request)
  // connected before anything is printed there: what nobody reads is lost
  const give = Date.now() + 5000
  const console = await connectSocket(sockets.shell(number), () => Date.now() > give)
  if (!console) throw new InfraError('QEMU does not connect the console that was plugged in.')
  try {
    const shell = { word: 'attach', number, rows, columns } as const
    await ask({ ...shell, type: at.type ?? 'xterm', colours: at.colours })
    if (!(await hears('attached', at))) return 1
    const joined = attachTerminal(at.terminal, console, size => void ask({ word: 'size', number, ...size }))
    try {
      while (!joined.over && !heard().left && !cancel.aborted) await pause(POLL_MS)
      // what the shell printed last comes by another way than the word that it has ended
      if (heard().left) await pause(5 * POLL_MS)
    } finally {
      joined.detach()
    }
    const { left, status } = heard()
    say(how(left, joined.over))
    return status ?? (cancel.aborted ? 1 : 0)
  } finally {
    // nobody sits there any more
    if (!heard().left) await ask({ word: 'leave', number })
    console.destroy()
  }
}

const how = (left: boolean, over: boolean) =>
  left ? 'The shell has ended; the guest runs on.' : over ? 'The guest has ended.' : 'Left the guest.'

/** Waits for a word of the guest; false if the person did not. Throws InfraError if it does not come. */
async function hears(
  word: 'up' | 'attached',
  { guest, heard, cancel }: Pick<Seat, 'guest' | 'heard' | 'cancel'>,
): Promise<boolean> {
  const give = Date.now() + ANSWER_SECONDS * 1000
  while (!heard()[word]) {
    if (cancel.aborted) return false
    if (heard().left || Date.now() > give || !isAlive(guest.owner))
      throw new InfraError(
        `The guest opens no further shell: it has ended, or hangs (\`kc -d ${guestName(guest)}\` dumps it).`,
      )
    await pause(POLL_MS)
  }
  return true
}

const lockOf = (path: string) => `${path}.lock`

/** Takes a console that no other kc sits at: each has a file that names who does. Throws InfraError if there is none. */
async function takeNumber(path: (number: number) => string): Promise<{ number: number; abandoned: boolean }> {
  for (let number = 1; number <= MOST_SHELLS; number++) {
    // a guest that has just ended has no place for one
    const taken = await takeLock(lockOf(path(number))).catch(() => undefined)
    if (taken) return { number, abandoned: taken === 'abandoned' }
  }
  throw new InfraError(`${MOST_SHELLS} shells have joined this guest, and it has no more consoles: end one.`)
}

/**
 * Plugs consoles in up to this number, where they are not there yet; they stay. In their order, since the kernel gives
 * them names as they come (hvc_alloc of drivers/tty/hvc/hvc_console.c).
 */
async function plugConsoles(qmp: Qmp, number: number, path: (number: number) => string): Promise<void> {
  const unlessThere = async (command: string, args: Record<string, unknown>) => {
    try {
      await qmp.execute(command, args)
    } catch (error) {
      if (!/duplicate|exists/i.test(String(error)))
        throw new InfraError(`The guest takes no console: ${error}`)
    }
  }
  for (let each = 1; each <= number; each++) {
    const id = `kc-shell-${each}`
    const addr = { type: 'unix', data: { path: path(each) } }
    await unlessThere('chardev-add', {
      id,
      backend: { type: 'socket', data: { addr, server: true, wait: false } },
    })
    await unlessThere('device_add', {
      driver: 'virtconsole',
      bus: 'kc-serial.0',
      chardev: id,
      id: `${id}-port`,
    })
  }
}

interface HeardOf {
  /** the guest's init runs */
  up: boolean
  attached: boolean
  left: boolean
  status?: number
}

/** What the guest's init says of one console from now on; asked again and again. */
function hearControlOf(
  runDirectory: string,
  number: number,
): (() => HeardOf) & { forget(): void; close(): void } {
  let state: HeardOf = { up: false, attached: false, left: false }
  let rest = ''
  const tail = tailFile(guestFiles(runDirectory).control, chunk => {
    const lines = (rest + chunk.toString('latin1')).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      const [word, who, status] = line.split(' ')
      if (word === 'init') state.up = true
      if (who !== String(number)) continue
      if (word === 'attached') state.attached = true
      if (word !== 'left') continue
      state.left = true
      if (/^\d{1,3}$/.test(status ?? '')) state.status = Number(status)
    }
  })
  const ask = () => {
    while (tail.poll()) {
      // a guest may have said much already
    }
    return state
  }
  const forget = () => {
    state = { up: ask().up, attached: false, left: false }
  }
  // of an earlier shell
  forget()
  return Object.assign(ask, { forget, close: tail.close })
}
