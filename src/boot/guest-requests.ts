import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { run } from '../host/processes.js'

/** Shells beside the commands' console: Linux has eight consoles (HVC_ALLOC_TTY_ADAPTERS of drivers/tty/hvc). */
export const MAX_SHELLS = 6

/**
 * Requests to the guest's init while it runs (`serve_requests` of boot/guest/init.sh). `number` is that of a console; 0
 * is the terminal of the commands. `term` and `colorTerm` are the shell's TERM and COLORTERM.
 */
export type GuestRequest =
  | { verb: 'size'; number: number; rows: number; columns: number }
  | { verb: 'attach'; number: number; rows: number; columns: number; term: string; colorTerm?: string }
  | { verb: 'detach'; number: number }

/** Creates the FIFO for requests; QEMU opens it as a port of the guest. */
export async function makeRequestFifo(path: string): Promise<void> {
  const end = await run({ file: 'mkfifo', args: ['-m', '600', '--', path], deadline: 10 })
  if (end.status !== 0) throw new Error(`mkfifo: ${end.stderr}`)
}

/** What may be in a field: init.sh splits lines at blanks. */
const plain = (text: string) => text.replaceAll(/[^\w.+-]/g, '')

/** One line, shorter than what is written to a FIFO in one piece (PIPE_BUF, pipe(7)). */
export function requestLine(request: GuestRequest): string {
  const fields: (string | number)[] = [request.verb, request.number]
  if (request.verb !== 'detach') fields.push(request.rows, request.columns)
  if (request.verb === 'attach') fields.push(plain(request.term) || 'dumb', plain(request.colorTerm ?? ''))
  return `${fields.join(' ').slice(0, 500).trimEnd()}\n`
}

/** Sends a request; does nothing where the guest has ended. */
export async function sendGuestRequest(path: string, request: GuestRequest): Promise<void> {
  // without a reader the open fails at once and does not wait for one
  const fifo = await open(path, constants.O_WRONLY | constants.O_NONBLOCK).catch(() => undefined)
  try {
    await fifo?.write(requestLine(request))
  } catch {
    // the guest has ended meanwhile
  } finally {
    await fifo?.close()
  }
}
