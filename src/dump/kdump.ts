import { type FileHandle, open } from 'node:fs/promises'
import { BadDump, KDUMP_SIGNATURE } from './flatten.js'

/**
 * The kdump-compressed format (makedumpfile's diskdump_mod.h), as QEMU writes it for 64-bit little-endian guests:
 * a block with the header, a sub-header, two bitmaps of pages, a descriptor for each page in the dump, and the pages.
 * Offsets are in bytes.
 */
export const AT = {
  utsname: 12,
  blockSize: 428,
  subHeaderBlocks: 432,
  bitmapBlocks: 436,
  /** 32 bits; the sub-header has it in 64 */
  maxPageOfHeader: 440,
  /** in the sub-header */
  vmcoreinfoOffset: 32,
  vmcoreinfoSize: 40,
  noteOffset: 48,
  eraseinfoOffset: 64,
  maxPage: 96,
}
const HEADER_BYTES = 464
export const SUB_HEADER_BYTES = 104
/** struct new_utsname: six strings (include/uapi/linux/utsname.h) */
const FIELD_BYTES = 65
const FIELDS = ['sysname', 'nodename', 'release', 'version', 'machine', 'domainname'] as const
/** offset, size, flags, page flags */
export const DESCRIPTOR_BYTES = 24
const CHUNK_BYTES = DESCRIPTOR_BYTES << 15
const MAX_VMCOREINFO = 1 << 20

export interface KdumpHeader {
  /** bytes of a page */
  blockSize: number
  subHeaderBlocks: number
  /** of both bitmaps */
  bitmapBlocks: number
  utsname: Record<(typeof FIELDS)[number], string>
  /** the kernel's VMCOREINFO by its keys; empty if the kernel had not passed it to QEMU yet */
  vmcoreinfo: ReadonlyMap<string, string>
}

/** Reads header and sub-header of an open dump. Throws BadDump if they are invalid. */
export async function readHeader(file: FileHandle): Promise<KdumpHeader> {
  const header = await readAt(file, 0, HEADER_BYTES)
  if (!header.subarray(0, KDUMP_SIGNATURE.length).equals(KDUMP_SIGNATURE))
    throw new BadDump('The dump has no kdump signature.')
  const blockSize = header.readInt32LE(AT.blockSize)
  const subHeaderBlocks = header.readInt32LE(AT.subHeaderBlocks)
  const bitmapBlocks = header.readUInt32LE(AT.bitmapBlocks)
  if (![4096, 16384, 65536].includes(blockSize) || subHeaderBlocks < 1 || bitmapBlocks < 2)
    throw new BadDump('The dump has an invalid header.')
  const utsname = Object.fromEntries(
    FIELDS.map((name, index) => {
      const start = AT.utsname + index * FIELD_BYTES
      return [name, untilZero(header.subarray(start, start + FIELD_BYTES))]
    }),
  ) as KdumpHeader['utsname']
  const subHeader = await readAt(file, blockSize, SUB_HEADER_BYTES)
  const offset = Number(subHeader.readBigUInt64LE(AT.vmcoreinfoOffset))
  const size = Number(subHeader.readBigUInt64LE(AT.vmcoreinfoSize))
  if (size > MAX_VMCOREINFO) throw new BadDump('The dump has an invalid VMCOREINFO.')
  const vmcoreinfo =
    size === 0 ? new Map() : parseVmcoreinfo((await readAt(file, offset, size)).toString('latin1'))
  return { blockSize, subHeaderBlocks, bitmapBlocks, utsname, vmcoreinfo }
}

/** The lines `KEY=VALUE` of a VMCOREINFO (Documentation/admin-guide/kdump/vmcoreinfo.rst). */
export function parseVmcoreinfo(text: string): Map<string, string> {
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const at = line.indexOf('=')
    if (at > 0) values.set(line.slice(0, at), line.slice(at + 1))
  }
  return values
}

/**
 * Fills in the utsname of a header in which QEMU left all but the machine empty: libkdumpfile, and so drgn, accepts the
 * machine only if system, node, release and version are set, too. The release is VMCOREINFO's; the other fields are
 * placeholders, since their values are only in the kernel's memory. QEMU has no name for some machines (it writes
 * Unknown for arm64): then it is `machine`, as uname -m prints it.
 */
export async function fillInUtsname(path: string, machine: string): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const { utsname, vmcoreinfo } = await readHeader(file)
    const release = vmcoreinfo.get('OSRELEASE')
    if (utsname.release !== '' || !release) return
    // (none) is the kernel's default name (include/linux/uts.h)
    const complete = {
      ...utsname,
      sysname: 'Linux',
      nodename: '(none)',
      release,
      version: '#1',
      domainname: '(none)',
      machine: /^(?:Unknown)?$/.test(utsname.machine) ? machine : utsname.machine,
    }
    const bytes = Buffer.alloc(FIELD_BYTES * FIELDS.length)
    for (const [index, name] of FIELDS.entries())
      bytes.write(complete[name].slice(0, FIELD_BYTES - 1), index * FIELD_BYTES, 'latin1')
    await file.write(bytes, 0, bytes.length, AT.utsname)
  } finally {
    await file.close()
  }
}

/** Counts the pages of an open dump. Throws BadDump if a page is outside of the file, which is truncated then. */
export async function checkPages(file: FileHandle, header: KdumpHeader): Promise<number> {
  const { size } = await file.stat()
  const bitmaps = (1 + header.subHeaderBlocks) * header.blockSize
  const half = (header.bitmapBlocks / 2) * header.blockSize
  let pages = 0
  for (let at = 0; at < half; at += CHUNK_BYTES) {
    const bits = await readAt(file, bitmaps + half + at, Math.min(CHUNK_BYTES, half - at))
    for (const byte of bits) pages += SET_BITS[byte] ?? 0
  }
  const descriptors = bitmaps + header.bitmapBlocks * header.blockSize
  for (let at = 0; at < pages * DESCRIPTOR_BYTES; at += CHUNK_BYTES) {
    const chunk = await readAt(file, descriptors + at, Math.min(CHUNK_BYTES, pages * DESCRIPTOR_BYTES - at))
    for (let page = 0; page < chunk.length; page += DESCRIPTOR_BYTES) {
      const offset = chunk.readUInt32LE(page) + chunk.readUInt32LE(page + 4) * 2 ** 32
      const length = chunk.readUInt32LE(page + 8)
      if (offset < descriptors || length === 0 || offset + length > size)
        throw new BadDump('The dump is incomplete: a page is outside of the file.')
    }
  }
  return pages
}

/** The number of set bits, for each byte. */
const SET_BITS = Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll('0', '').length)

function untilZero(bytes: Buffer): string {
  const end = bytes.indexOf(0)
  return bytes.toString('latin1', 0, end < 0 ? bytes.length : end)
}

/** Exactly `size` bytes at an offset. Throws BadDump if the file ends before. */
export async function readAt(file: FileHandle, offset: number, size: number): Promise<Buffer> {
  const bytes = Buffer.alloc(size)
  const { bytesRead } = await file.read(bytes, 0, size, offset)
  if (bytesRead < size) throw new BadDump('The dump is incomplete: it ends too early.')
  return bytes
}
