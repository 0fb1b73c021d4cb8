import { type FileHandle, open } from 'node:fs/promises'
import { deflateSync, inflateSync } from 'node:zlib'
import { BadDump } from './flatten.js'
import { AT, DESCRIPTOR_BYTES, readAt, readHead, SUB_HEAD_BYTES } from './kdump.js'

/** flags of a page descriptor (makedumpfile's diskdump_mod.h) */
const ZLIB = 1
const FLUSH_BYTES = 1 << 20
const ALIGN = (bytes: number, block: number) => Math.ceil(bytes / block)

/**
 * The kernel's own page size in bytes, where a dump has larger ones: QEMU writes arm64 guests in pages of 64 KiB, the
 * largest there are (its target/arm/arch_dump.c), and readers go by what the kernel says in VMCOREINFO.
 */
export async function wrongPageSize(path: string): Promise<number | undefined> {
  const file = await open(path, 'r')
  try {
    const { blockSize, vmcoreinfo } = await readHead(file)
    const pageSize = Number(vmcoreinfo.get('PAGESIZE') ?? blockSize)
    return pageSize >= 4096 && pageSize < blockSize && blockSize % pageSize === 0 ? pageSize : undefined
  } finally {
    await file.close()
  }
}

/** Bytes that are appended in order, gathered into large writes. */
class Appender {
  private parts: Buffer[] = []
  private held = 0

  constructor(
    private readonly file: FileHandle,
    private at: number,
  ) {}

  /** Returns the offset in the file at which the bytes will lie. */
  async append(bytes: Buffer): Promise<number> {
    const offset = this.at + this.held
    this.parts.push(bytes)
    this.held += bytes.length
    if (this.held >= FLUSH_BYTES) await this.flush()
    return offset
  }

  async flush(): Promise<void> {
    const whole = Buffer.concat(this.parts)
    await this.file.write(whole, 0, whole.length, this.at)
    this.at += whole.length
    this.parts = []
    this.held = 0
  }
}

/**
 * Writes the plain dump at `from` anew in pages of `pageSize` bytes. `watch` is called now and then and may throw to
 * give up. Throws BadDump if a page cannot be read.
 */
export async function rewritePageSize(
  from: string,
  to: string,
  pageSize: number,
  watch: () => void,
): Promise<void> {
  const input = await open(from, 'r')
  const output = await open(to, 'wx+', 0o600)
  try {
    await rewrite(input, output, pageSize, watch)
  } finally {
    await input.close()
    await output.close()
  }
}

async function rewrite(
  input: FileHandle,
  output: FileHandle,
  pageSize: number,
  watch: () => void,
): Promise<void> {
  const { blockSize, subHeadBlocks, bitmapBlocks } = await readHead(input)
  const ratio = blockSize / pageSize
  const sub = await readAt(input, blockSize, SUB_HEAD_BYTES)
  const most = Number(sub.readBigUInt64LE(AT.maxPage)) * ratio

  // what lies behind the sub-head moves with it
  let subBytes = SUB_HEAD_BYTES
  for (const at of [AT.vmcoreinfoOffset, AT.noteOffset, AT.eraseinfoOffset]) {
    const offset = Number(sub.readBigUInt64LE(at))
    if (offset === 0) continue
    subBytes = Math.max(subBytes, offset + Number(sub.readBigUInt64LE(at + 8)) - blockSize)
  }
  if (subBytes > subHeadBlocks * blockSize) throw new BadDump('The dump has notes outside of its head.')
  const whole = await readAt(input, blockSize, subBytes)
  for (const at of [AT.vmcoreinfoOffset, AT.noteOffset, AT.eraseinfoOffset]) {
    const offset = whole.readBigUInt64LE(at)
    if (offset !== 0n) whole.writeBigUInt64LE(offset - BigInt(blockSize - pageSize), at)
  }
  whole.writeBigUInt64LE(BigInt(most), AT.maxPage)
  const newSubBlocks = ALIGN(subBytes, pageSize)
  const mapBlocks = ALIGN(ALIGN(most, 8), pageSize)

  const head = await readAt(input, 0, Math.min(blockSize, 4096))
  head.writeInt32LE(pageSize, AT.blockSize)
  head.writeInt32LE(newSubBlocks, AT.subHeadBlocks)
  head.writeUInt32LE(mapBlocks * 2, AT.bitmapBlocks)
  head.writeUInt32LE(Math.min(most, 0xffffffff), AT.maxPageOfHead)
  await output.write(head, 0, head.length, 0)
  await output.write(whole, 0, whole.length, pageSize)

  // each bit of a bitmap becomes `ratio` bits
  const oldHalf = (bitmapBlocks / 2) * blockSize
  const oldMaps = (1 + subHeadBlocks) * blockSize
  const newMaps = (1 + newSubBlocks) * pageSize
  const maps = [await readAt(input, oldMaps, oldHalf), await readAt(input, oldMaps + oldHalf, oldHalf)]
  for (const [index, map] of maps.entries()) {
    const wide = Buffer.alloc(mapBlocks * pageSize)
    for (const page of ones(map)) {
      for (let bit = page * ratio; bit < (page + 1) * ratio && bit < most; bit++)
        wide.writeUInt8(wide.readUInt8(bit >> 3) | (1 << (bit & 7)), bit >> 3)
    }
    await output.write(wide, 0, wide.length, newMaps + index * wide.length)
  }

  const there = [...ones(maps[1] ?? Buffer.alloc(0))].length
  const oldDescriptors = oldMaps + bitmapBlocks * blockSize
  const newDescriptors = newMaps + mapBlocks * 2 * pageSize
  const descriptors = new Appender(output, newDescriptors)
  const data = new Appender(output, newDescriptors + there * ratio * DESCRIPTOR_BYTES)
  const zero = Buffer.alloc(pageSize)
  /** of the page that is all zeros, which all such pages share */
  let zeros: Buffer | undefined
  /** the old page that was split last, and what became of it: QEMU lets pages of zeros share one, too */
  let last: { offset: bigint; split: Buffer[] } | undefined
  const write = async (page: Buffer): Promise<Buffer> => {
    const isZero = page.equals(zero)
    if (isZero && zeros) return zeros
    const packed = deflateSync(page, { level: 1 })
    const smaller = packed.length < page.length
    const bytes = smaller ? packed : page
    const descriptor = Buffer.alloc(DESCRIPTOR_BYTES)
    descriptor.writeBigUInt64LE(BigInt(await data.append(bytes)), 0)
    descriptor.writeUInt32LE(bytes.length, 8)
    descriptor.writeUInt32LE(smaller ? ZLIB : 0, 12)
    if (isZero) zeros = descriptor
    return descriptor
  }
  for (let index = 0; index < there; index++) {
    watch()
    const descriptor = await readAt(input, oldDescriptors + index * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES)
    const offset = descriptor.readBigUInt64LE(0)
    if (last?.offset !== offset) {
      const stored = await readAt(input, Number(offset), descriptor.readUInt32LE(8))
      const page = unpack(stored, descriptor.readUInt32LE(12), blockSize)
      const split: Buffer[] = []
      for (let at = 0; at < blockSize; at += pageSize)
        split.push(await write(page.subarray(at, at + pageSize)))
      last = { offset, split }
    }
    await descriptors.append(Buffer.concat(last.split))
  }
  await descriptors.flush()
  await data.flush()
}

function unpack(stored: Buffer, flags: number, size: number): Buffer {
  if (flags !== 0 && flags !== ZLIB)
    throw new BadDump('The dump has a page that is packed in a way unknown here.')
  try {
    const page = flags === ZLIB ? inflateSync(stored, { maxOutputLength: size }) : stored
    if (page.length === size) return page
  } catch {
    // said below
  }
  throw new BadDump('The dump has a page that cannot be unpacked.')
}

/** Indices of the bits that are set. */
function* ones(map: Buffer): Generator<number> {
  for (const [index, byte] of map.entries())
    for (let bit = 0; byte >> bit !== 0; bit++) if ((byte >> bit) & 1) yield index * 8 + bit
}
