import { type FileHandle, open } from 'node:fs/promises'
import { deflateSync, inflateSync } from 'node:zlib'
import { BadDump } from './flatten.js'
import { AT, DESCRIPTOR_BYTES, readAt, readHeader, SUB_HEADER_BYTES } from './kdump.js'

/** flags of a page descriptor (makedumpfile's diskdump_mod.h) */
const ZLIB = 1
/** bytes that are gathered into one write */
const FLUSH_BYTES = 1 << 20
/** offset and size, in the sub-header, of each area that follows it */
const SUB_HEADER_AREAS = [AT.vmcoreinfoOffset, AT.noteOffset, AT.eraseinfoOffset]

/**
 * The kernel's own page size in bytes, where a dump has larger pages: QEMU writes arm64 guests in pages of 64 KiB, the
 * largest that arm64 has (its target/arm/arch_dump.c), and readers use the size in VMCOREINFO.
 */
export async function wrongPageSize(path: string): Promise<number | undefined> {
  const file = await open(path, 'r')
  try {
    const { blockSize, vmcoreinfo } = await readHeader(file)
    const pageSize = Number(vmcoreinfo.get('PAGESIZE') ?? blockSize)
    return pageSize >= 4096 && pageSize < blockSize && blockSize % pageSize === 0 ? pageSize : undefined
  } finally {
    await file.close()
  }
}

/**
 * Writes the plain dump at `from` to `to` in pages of `pageSize` bytes. `checkLimits` is called for each page and may
 * throw to abort. Throws BadDump if a page cannot be read.
 */
export async function rewritePageSize(
  from: string,
  to: string,
  pageSize: number,
  checkLimits: () => void,
): Promise<void> {
  const input = await open(from, 'r')
  try {
    const output = await open(to, 'wx+', 0o600)
    try {
      const layout = await newLayout(input, pageSize)
      await writeHeaders(input, output, layout)
      const pages = await writeBitmaps(input, output, layout)
      await writePages(input, output, layout, pages, checkLimits)
    } finally {
      await output.close()
    }
  } finally {
    await input.close()
  }
}

/** The sizes that decide where the parts of a dump are. */
interface Sizes {
  /** bytes */
  blockSize: number
  subHeaderBlocks: number
  /** of both bitmaps */
  bitmapBlocks: number
}

const bitmapsOffset = (sizes: Sizes) => (1 + sizes.subHeaderBlocks) * sizes.blockSize
const bitmapBytes = (sizes: Sizes) => (sizes.bitmapBlocks / 2) * sizes.blockSize
const descriptorsOffset = (sizes: Sizes) => bitmapsOffset(sizes) + sizes.bitmapBlocks * sizes.blockSize

/** The old and the new dump. */
interface Layout {
  old: Sizes
  new: Sizes
  /** new pages for each old one */
  ratio: number
  /** pages of the guest's memory, in the new size */
  maxPage: number
  /** bytes of the sub-header and of the areas that follow it */
  subHeaderBytes: number
}

const blocks = (bytes: number, block: number) => Math.ceil(bytes / block)

async function newLayout(input: FileHandle, pageSize: number): Promise<Layout> {
  const old = await readHeader(input)
  const ratio = old.blockSize / pageSize
  const subHeader = await readAt(input, old.blockSize, SUB_HEADER_BYTES)
  const maxPage = Number(subHeader.readBigUInt64LE(AT.maxPage)) * ratio
  let subHeaderBytes = SUB_HEADER_BYTES
  for (const at of SUB_HEADER_AREAS) {
    const offset = Number(subHeader.readBigUInt64LE(at))
    if (offset === 0) continue
    const size = Number(subHeader.readBigUInt64LE(at + 8))
    subHeaderBytes = Math.max(subHeaderBytes, offset + size - old.blockSize)
  }
  if (subHeaderBytes > old.subHeaderBlocks * old.blockSize)
    throw new BadDump('The dump has notes outside of its header.')
  const sizes: Sizes = {
    blockSize: pageSize,
    subHeaderBlocks: blocks(subHeaderBytes, pageSize),
    bitmapBlocks: blocks(blocks(maxPage, 8), pageSize) * 2,
  }
  return { old, new: sizes, ratio, maxPage, subHeaderBytes }
}

/** Writes header and sub-header with the new sizes; the areas that follow the sub-header move with it. */
async function writeHeaders(input: FileHandle, output: FileHandle, layout: Layout): Promise<void> {
  const { old, maxPage } = layout
  const { blockSize, subHeaderBlocks, bitmapBlocks } = layout.new
  const header = await readAt(input, 0, Math.min(old.blockSize, 4096))
  header.writeInt32LE(blockSize, AT.blockSize)
  header.writeInt32LE(subHeaderBlocks, AT.subHeaderBlocks)
  header.writeUInt32LE(bitmapBlocks, AT.bitmapBlocks)
  header.writeUInt32LE(Math.min(maxPage, 0xffffffff), AT.maxPageOfHeader)
  const subHeader = await readAt(input, old.blockSize, layout.subHeaderBytes)
  for (const at of SUB_HEADER_AREAS) {
    const offset = subHeader.readBigUInt64LE(at)
    if (offset !== 0n) subHeader.writeBigUInt64LE(offset - BigInt(old.blockSize - blockSize), at)
  }
  subHeader.writeBigUInt64LE(BigInt(maxPage), AT.maxPage)
  await output.write(header, 0, header.length, 0)
  await output.write(subHeader, 0, subHeader.length, blockSize)
}

/** Writes both bitmaps, in which each bit becomes `ratio` bits. Returns the number of old pages that are in the dump. */
async function writeBitmaps(input: FileHandle, output: FileHandle, layout: Layout): Promise<number> {
  const offset = bitmapsOffset(layout.old)
  const size = bitmapBytes(layout.old)
  const existing = await readAt(input, offset, size)
  const dumped = await readAt(input, offset + size, size)
  for (const [index, bitmap] of [existing, dumped].entries()) {
    const wide = widenBitmap(bitmap, layout)
    await output.write(wide, 0, wide.length, bitmapsOffset(layout.new) + index * wide.length)
  }
  return [...setBits(dumped)].length
}

function widenBitmap(bitmap: Buffer, { ratio, maxPage, new: sizes }: Layout): Buffer {
  const wide = Buffer.alloc(bitmapBytes(sizes))
  for (const page of setBits(bitmap)) {
    for (let bit = page * ratio; bit < (page + 1) * ratio && bit < maxPage; bit++)
      wide.writeUInt8(wide.readUInt8(bit >> 3) | (1 << (bit & 7)), bit >> 3)
  }
  return wide
}

/** Splits each page into `ratio` pages, and writes their descriptors and data. */
async function writePages(
  input: FileHandle,
  output: FileHandle,
  layout: Layout,
  pages: number,
  checkLimits: () => void,
): Promise<void> {
  const { blockSize } = layout.old
  const start = descriptorsOffset(layout.new)
  const descriptors = new Appender(output, start)
  const data = new Appender(output, start + pages * layout.ratio * DESCRIPTOR_BYTES)
  const writer = new PageWriter(data, layout.new.blockSize)
  // pages of zeros share their data in QEMU's dumps: of successive ones only the first is read
  let last: { offset: bigint; descriptors: Buffer } | undefined
  for (let index = 0; index < pages; index++) {
    checkLimits()
    const at = descriptorsOffset(layout.old) + index * DESCRIPTOR_BYTES
    const descriptor = await readAt(input, at, DESCRIPTOR_BYTES)
    const offset = descriptor.readBigUInt64LE(0)
    if (last?.offset !== offset) {
      const stored = await readAt(input, Number(offset), descriptor.readUInt32LE(8))
      const page = decompress(stored, descriptor.readUInt32LE(12), blockSize)
      last = { offset, descriptors: await writer.split(page) }
    }
    await descriptors.append(last.descriptors)
  }
  await descriptors.flush()
  await data.flush()
}

/** Compresses pages and appends their data. All pages of zeros share one. */
class PageWriter {
  private readonly zeroPage: Buffer
  private zeroDescriptor: Buffer | undefined

  constructor(
    private readonly data: Appender,
    private readonly pageSize: number,
  ) {
    this.zeroPage = Buffer.alloc(pageSize)
  }

  /** Appends the pages that a larger one consists of; returns their descriptors. */
  async split(large: Buffer): Promise<Buffer> {
    const descriptors: Buffer[] = []
    for (let at = 0; at < large.length; at += this.pageSize)
      descriptors.push(await this.append(large.subarray(at, at + this.pageSize)))
    return Buffer.concat(descriptors)
  }

  private async append(page: Buffer): Promise<Buffer> {
    const isZero = page.equals(this.zeroPage)
    if (isZero && this.zeroDescriptor) return this.zeroDescriptor
    const compressed = deflateSync(page, { level: 1 })
    const isSmaller = compressed.length < page.length
    const bytes = isSmaller ? compressed : page
    const descriptor = Buffer.alloc(DESCRIPTOR_BYTES)
    descriptor.writeBigUInt64LE(BigInt(await this.data.append(bytes)), 0)
    descriptor.writeUInt32LE(bytes.length, 8)
    descriptor.writeUInt32LE(isSmaller ? ZLIB : 0, 12)
    if (isZero) this.zeroDescriptor = descriptor
    return descriptor
  }
}

/** Appends bytes to an area of a file, gathered into large writes. */
class Appender {
  private parts: Buffer[] = []
  private pending = 0

  constructor(
    private readonly file: FileHandle,
    private at: number,
  ) {}

  /** Returns the offset in the file at which the bytes will be. */
  async append(bytes: Buffer): Promise<number> {
    const offset = this.at + this.pending
    this.parts.push(bytes)
    this.pending += bytes.length
    if (this.pending >= FLUSH_BYTES) await this.flush()
    return offset
  }

  async flush(): Promise<void> {
    const whole = Buffer.concat(this.parts)
    await this.file.write(whole, 0, whole.length, this.at)
    this.at += whole.length
    this.parts = []
    this.pending = 0
  }
}

function decompress(stored: Buffer, flags: number, size: number): Buffer {
  if (flags !== 0 && flags !== ZLIB)
    throw new BadDump('The dump has a page whose compression is not supported.')
  try {
    const page = flags === ZLIB ? inflateSync(stored, { maxOutputLength: size }) : stored
    if (page.length === size) return page
  } catch {
    // reported below
  }
  throw new BadDump('The dump has a page that cannot be decompressed.')
}

/** Indices of the bits that are set. */
function* setBits(bitmap: Buffer): Generator<number> {
  for (const [index, byte] of bitmap.entries())
    for (let bit = 0; byte >> bit !== 0; bit++) if ((byte >> bit) & 1) yield index * 8 + bit
}
