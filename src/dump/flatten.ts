import { type FileHandle, open } from 'node:fs/promises'

/**
 * The flattened format of makedumpfile, in which QEMU before 8.2 writes every kdump (its dump/dump.c): a head of 4096
 * bytes that begins with the signature, then pieces, each a pair of big-endian 64-bit numbers (offset in the plain
 * file, size) and so many bytes, in any order. A pair of -1 ends it.
 */
const SIGNATURE = Buffer.from('makedumpfile\0\0\0\0', 'latin1')
const HEAD_BYTES = 4096
const PAIR_BYTES = 16

/** The plain format's signature (KDUMP_SIGNATURE, makedumpfile's diskdump_mod.h). */
export const KDUMP_SIGNATURE = Buffer.from('KDUMP   ', 'latin1')

const WINDOW_BYTES = 1 << 20

/** What is wrong with a file that was meant to be a dump. The message is one sentence. */
export class BadDump extends Error {
  override name = 'BadDump'
}

/** Reads a file from front to back through one window of memory. */
class Reader {
  private readonly window = Buffer.allocUnsafe(WINDOW_BYTES)
  private from = 0
  private to = 0

  constructor(private readonly file: FileHandle) {}

  /** Up to `most` bytes that come next, in the window: valid until the next call. Empty at the end of the file. */
  async next(most: number): Promise<Buffer> {
    if (this.from === this.to) {
      this.from = 0
      this.to = (await this.file.read(this.window, 0, WINDOW_BYTES)).bytesRead
    }
    const piece = this.window.subarray(this.from, Math.min(this.to, this.from + most))
    this.from += piece.length
    return piece
  }

  /** Exactly `count` bytes, copied. Throws BadDump where the file ends before. */
  async exactly(count: number): Promise<Buffer> {
    const whole = Buffer.allocUnsafe(count)
    for (let have = 0; have < count; ) {
      const piece = await this.next(count - have)
      if (piece.length === 0) throw new BadDump('The flattened dump ends in the middle of a head.')
      have += piece.copy(whole, have)
    }
    return whole
  }
}

/** True for a file in the flattened format. */
export async function isFlattened(path: string): Promise<boolean> {
  const file = await open(path, 'r')
  try {
    const start = Buffer.alloc(SIGNATURE.length)
    await file.read(start, 0, start.length, 0)
    return start.equals(SIGNATURE)
  } finally {
    await file.close()
  }
}

/**
 * Writes the plain kdump-compressed file that the flattened one at `from` stands for; returns its size in bytes.
 * Memory is bounded by one window. Throws BadDump if the file is cut off or says what no dump says, `most` being the
 * size in bytes that the plain file may have; then `to` is not to be used.
 */
export async function unflatten(from: string, to: string, most: number): Promise<number> {
  const input = await open(from, 'r')
  try {
    const output = await open(to, 'wx+', 0o600)
    try {
      return await copyPieces(new Reader(input), output, most)
    } finally {
      await output.close()
    }
  } finally {
    await input.close()
  }
}

async function copyPieces(reader: Reader, output: FileHandle, most: number): Promise<number> {
  const head = await reader.exactly(HEAD_BYTES)
  if (!head.subarray(0, SIGNATURE.length).equals(SIGNATURE))
    throw new BadDump('The dump has no signature of the flattened format.')
  let size = 0
  for (;;) {
    const pair = await reader.exactly(PAIR_BYTES)
    const offset = pair.readBigInt64BE(0)
    const count = pair.readBigInt64BE(8)
    if (offset === -1n && count === -1n) break
    if (offset < 0n || count <= 0n || offset + count > BigInt(most))
      throw new BadDump(`The flattened dump holds a piece of ${count} bytes at offset ${offset}.`)
    const end = Number(offset + count)
    for (let at = Number(offset); at < end; ) {
      const piece = await reader.next(end - at)
      if (piece.length === 0) throw new BadDump('The flattened dump ends in the middle of a piece.')
      for (let written = 0; written < piece.length; ) {
        written += (await output.write(piece, written, piece.length - written, at + written)).bytesWritten
      }
      at += piece.length
    }
    size = Math.max(size, end)
  }
  if ((await reader.next(1)).length > 0) throw new BadDump('The flattened dump goes on after its end mark.')
  const start = Buffer.alloc(KDUMP_SIGNATURE.length)
  await output.read(start, 0, start.length, 0)
  if (!start.equals(KDUMP_SIGNATURE)) throw new BadDump('The rearranged dump has no signature of kdump.')
  return size
}
