import type { Socket } from 'node:net'
import type { ReadStream, WriteStream } from 'node:tty'
import type { guestSockets } from './command.js'
import { connectSocket } from './qmp.js'

/** The terminal that a shell in the guest is connected to. */
export interface Terminal {
  input: ReadStream
  output: WriteStream
}

/**
 * Connects the terminal to the guest's: raw, so that Ctrl-C and Ctrl-D are the guest's, and its size followed.
 * `close` puts the terminal back as it was.
 */
export function bridgeTerminal(
  terminal: Terminal,
  sockets: ReturnType<typeof guestSockets>,
  stop: () => boolean,
): { close(): Promise<void> } {
  const { input, output } = terminal
  const open: Socket[] = []
  const cleanups: (() => void)[] = []
  const connecting = (async () => {
    const [shell, window] = await Promise.all([
      connectSocket(sockets.terminal, stop),
      connectSocket(sockets.window, stop),
    ])
    for (const socket of [shell, window]) {
      if (!socket) continue
      open.push(socket)
      socket.on('error', () => {})
    }
    if (!shell || stop()) return
    const onInput = (chunk: Buffer) => shell.write(chunk)
    const onResize = () => window?.write(`${output.rows} ${output.columns}\n`)
    shell.on('data', chunk => output.write(chunk))
    input.setRawMode(true)
    input.on('data', onInput)
    input.resume()
    output.on('resize', onResize)
    cleanups.push(() => {
      input.off('data', onInput)
      output.off('resize', onResize)
      input.setRawMode(false)
      input.pause()
    })
  })()
  return {
    async close() {
      await connecting.catch(() => {})
      for (const cleanup of cleanups) cleanup()
      for (const socket of open) socket.destroy()
    },
  }
}
