import type { Socket } from 'node:net'
import type { ReadStream, WriteStream } from 'node:tty'

/** The terminal that a shell in the guest is connected to. */
export interface Terminal {
  input: ReadStream
  output: WriteStream
}

export interface AttachedTerminal {
  /** true as soon as the guest's console has hung up */
  readonly over: boolean
  /** puts the terminal back as it was */
  detach(): void
}

/**
 * Connects the terminal to a console of the guest: raw, so that Ctrl-C and Ctrl-D are the guest's, and its size followed.
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
      input.off('data', onInput)
      output.off('resize', onSize)
      input.setRawMode(false)
      input.pause()
      console.destroy()
    },
  }
}
