import type { Socket } from 'node:net'
import type { ReadStream, WriteStream } from 'node:tty'
import { sendGuestRequest } from './guest-requests.js'
import { connectSocket } from './qmp.js'
import type { guestSockets } from './virtme-command.js'

/** The terminal that a shell in the guest is connected to. */
export interface Terminal {
  input: ReadStream
  output: WriteStream
}

export interface AttachedTerminal {
  /** true once the guest's console has been closed */
  readonly over: boolean
  /** restores the terminal's settings, and closes the connection */
  detach(): void
}

/**
 * Connects the terminal to a console of the guest. The terminal is in raw mode, so that Ctrl-C and Ctrl-D go to the
 * guest; `onResize` gets its size whenever that changes.
 */
export function attachTerminal(
  { input, output }: Terminal,
  console: Socket,
  onResize: (size: { rows: number; columns: number }) => void,
): AttachedTerminal {
  let over = console.destroyed
  const onInput = (chunk: Buffer) => console.write(chunk)
  const onSize = () => onResize({ rows: output.rows, columns: output.columns })
  console.on('error', () => {})
  console.on('close', () => {
    over = true
  })
  console.on('data', chunk => output.write(chunk))
  input.setRawMode(true)
  input.on('data', onInput)
  input.resume()
  output.on('resize', onSize)
  return {
    get over() {
      return over
    },
    detach() {
      try {
        input.off('data', onInput)
        output.off('resize', onSize)
        input.setRawMode(false)
        input.pause()
      } finally {
        console.destroy()
      }
    },
  }
}

/**
 * Connects the terminal, if there is one, to the console of the commands as soon as QEMU has opened that. `check` throws
 * if it could not be connected; `detach` waits until it is connected or the guest has `exited`.
 */
export function attachWhenReady(
  terminal: Terminal | undefined,
  sockets: ReturnType<typeof guestSockets>,
  exited: () => boolean,
): { check(): void; detach(): Promise<void> } {
  let failure: { error: unknown } | undefined
  const attach = async () => {
    if (!terminal) return undefined
    const console = await connectSocket(sockets.terminal, exited)
    if (!console) return undefined
    try {
      if (!exited())
        return attachTerminal(
          terminal,
          console,
          size => void sendGuestRequest(sockets.requests, { verb: 'size', number: 0, ...size }),
        )
    } catch (error) {
      failure = { error }
    }
    console.destroy()
    return undefined
  }
  const attached = attach()
  return {
    check() {
      if (failure) throw failure.error
    },
    async detach() {
      ;(await attached)?.detach()
    },
  }
}
