import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { run } from '../host/processes.js'

/** Consoles of a guest beside the first: Linux has eight of them (HVC_ALLOC_TTY_ADAPTERS of drivers/tty/hvc). */
export const MOST_SHELLS = 6

/** What the guest's init is asked while it runs (boot/guest/init.sh, attend). Number 0 is the commands' own terminal. */
export type GuestRequest =
  | { word: 'size'; number: number; rows: number; columns: number }
  | { word: 'attach'; number: number; rows: number; columns: number; type: string; colours?: string }
  | { word: 'leave'; number: number }

/** Makes the FIFO that requests go through; QEMU opens it as a port of the guest. */
export async function makeRequestFifo(path: string): Promise<void> {
  const end = await run({ file: 'mkfifo', args: ['-m', '600', '--', path], deadline: 10 })
  if (end.status !== 0) throw new Error(`mkfifo: ${end.stderr}`)
}

const plain = (word: string) => word.replaceAll(/[^\w.+-]/g, '')

/** One line; it is shorter than what a FIFO takes in one piece (PIPE_BUF, pipe(7)). */
export function requestLine(request: GuestRequest): string {
  const words: (string | number)[] = [request.word, request.number]
  if (request.word !== 'leave') words.push(request.rows, request.columns)
  if (request.word === 'attach') words.push(plain(request.type) || 'dumb', plain(request.colours ?? ''))
  return `${words.join(' ').slice(0, 500).trimEnd()}\n`
}

/** Asks; nothing happens where the guest has ended. */
export async function sendGuestRequest(path: string, request: GuestRequest): Promise<void> {
  // without a reader the open fails at once and does not wait for one
  const fifo = await open(path, constants.O_WRONLY | constants.O_NONBLOCK).catch(() => undefined)
  try {
    await fifo?.write(requestLine(request))
  } catch {
    // it ended meanwhile
  } finally {
    await fifo?.close()
  }
}
