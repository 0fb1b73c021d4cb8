import { type FileHandle, open } from 'node:fs/promises'

/**
 * The flattened format of makedumpfile, in which QEMU before 8.2 writes every kdump (its dump/dump.c): a header of 4096
 * bytes that begins with the signature, then pieces in any order, each a pair of big-endian 64-bit numbers (offset in
 * the plain file, size) and that many bytes. A pair of -1 ends it.
 */
const SIGNATURE = Buffer.from('makedumpfile\0\0\0\0', 'latin1')
const HEADER_BYTES = 4096
const PAIR_BYTES = 16

/** The plain format's signature (KDUMP_SIGNATURE, makedumpfile's diskdump_mod.h). */
export const KDUMP_SIGNATURE = Buffer.from('KDUMP   ', 'latin1')

const BUFFER_BYTES = 1 << 20

/** A file is not a valid dump. The message is one sentence. */
export class BadDump extends Error {
  override name = 'BadDump'
}

/** Reads a file from start to end through one buffer. */
class Reader {
  private readonly buffer = Buffer.allocUnsafe(BUFFER_BYTES)
  private from = 0
  private to = 0

  constructor(private readonly file: FileHandle) {}

  /** The next bytes, up to `max`; valid until the next call. Empty at the end of the file. */
  async next(max: number): Promise<Buffer> {
    if (this.from === this.to) {
      this.from = 0
      this.to = (await this.file.read(this.buffer, 0, BUFFER_BYTES)).bytesRead
    }
    const piece = this.buffer.subarray(this.from, Math.min(this.to, this.from + max))
    this.from += piece.length
    return piece
  }

  /** Exactly `count` bytes, copied. Throws BadDump if the file ends before. */
  async exactly(count: number): Promise<Buffer> {
    const whole = Buffer.allocUnsafe(count)
    for (let copied = 0; copied < count; ) {
      const piece = await this.next(count - copied)
      if (piece.length === 0) throw new BadDump('The flattened dump ends in the middle of a header.')
      copied += piece.copy(whole, copied)
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
 * Converts the flattened file at `from` to a plain kdump-compressed one at `to`; returns its size in bytes. Memory is
 * bounded by one buffer. Throws BadDump if the file is truncated or invalid, or if the plain file would have more than
 * `maxBytes` bytes; then `to` must not be used.
 */
export async function unflatten(from: string, to: string, maxBytes: number): Promise<number> {
  const input = await open(from, 'r')
  try {
    const output = await open(to, 'wx+', 0o600)
    try {
      return await copyPieces(new Reader(input), output, maxBytes)
    } finally {
      await output.close()
    }
  } finally {
    await input.close()
  }
}

async function copyPieces(reader: Reader, output: FileHandle, maxBytes: number): Promise<number> {
  const header = await reader.exactly(HEADER_BYTES)
  if (!header.subarray(0, SIGNATURE.length).equals(SIGNATURE))
    throw new BadDump('The dump has no signature of the flattened format.')
  let size = 0
  for (;;) {
    const pair = await reader.exactly(PAIR_BYTES)
    const offset = pair.readBigInt64BE(0)
    const count = pair.readBigInt64BE(8)
    if (offset === -1n && count === -1n) break
    if (offset < 0n || count <= 0n || offset + count > BigInt(maxBytes))
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
  if ((await reader.next(1)).length > 0) throw new BadDump('The flattened dump continues after its end mark.')
  const start = Buffer.alloc(KDUMP_SIGNATURE.length)
  await output.read(start, 0, start.length, 0)
  if (!start.equals(KDUMP_SIGNATURE)) throw new BadDump('The unflattened dump has no kdump signature.')
  return size
}
