import { closeSync, openSync, readSync } from 'node:fs'

/** Follows a file that another process appends to. */
export interface Tail {
  /** reads what has come since; true if there was anything */
  poll(): boolean
  /** bytes seen */
  readonly size: number
  close(): void
}

const PIECE = 1 << 18
/** at most so much a poll, so that a flood on one stream does not starve the others */
const MOST = 32 * PIECE

/** `onData` gets a buffer that is its own. The file must exist. */
export function tailFile(path: string, onData: (chunk: Buffer) => void): Tail {
  const fd = openSync(path, 'r')
  const buffer = Buffer.allocUnsafe(PIECE)
  let size = 0
  return {
    poll() {
      const start = size
      while (size - start < MOST) {
        const count = readSync(fd, buffer, 0, PIECE, size)
        if (count === 0) break
        size += count
        onData(Buffer.from(buffer.subarray(0, count)))
      }
      return size > start
    },
    get size() {
      return size
    },
    close: () => closeSync(fd),
  }
}
