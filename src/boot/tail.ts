import { closeSync, openSync, readSync } from 'node:fs'

/** Follows a file that another process appends to. */
export interface Tail {
  /** reads what was appended since the last call; true if there was anything */
  poll(): boolean
  /** bytes read */
  readonly size: number
  close(): void
}

const CHUNK_BYTES = 1 << 18
/** limit for each poll, so that a large amount of output on one stream does not starve the others */
const MAX_POLL_BYTES = 32 * CHUNK_BYTES

/** `onData` gets a buffer of its own for each chunk. Throws where the file does not exist. */
export function tailFile(path: string, onData: (chunk: Buffer) => void): Tail {
  const fd = openSync(path, 'r')
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
  let size = 0
  return {
    poll() {
      const start = size
      while (size - start < MAX_POLL_BYTES) {
        const count = readSync(fd, buffer, 0, CHUNK_BYTES, size)
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
