import { type FileHandle, open } from 'node:fs/promises'
import { BadDump, KDUMP_SIGNATURE } from './flatten.js'

/**
 * The kdump-compressed format (makedumpfile's diskdump_mod.h), as QEMU writes it for 64-bit little-endian guests:
 * a block of head, a sub-head, two bitmaps of pages, a descriptor for each page that is there, and the pages.
 */
export const AT = {
  names: 12,
  blockSize: 428,
  subHeadBlocks: 432,
  bitmapBlocks: 436,
  /** in 32 bits; the sub-head has it in 64 */
  maxPageOfHead: 440,
  /** in the sub-head */
  vmcoreinfoOffset: 32,
  vmcoreinfoSize: 40,
  noteOffset: 48,
  eraseinfoOffset: 64,
  maxPage: 96,
}
const HEAD_BYTES = 464
export const SUB_HEAD_BYTES = 104
/** struct new_utsname: six strings (include/uapi/linux/utsname.h) */
const NAME_BYTES = 65
const NAMES = ['sysname', 'nodename', 'release', 'version', 'machine', 'domainname'] as const
/** offset, size, flags, page flags */
export const DESCRIPTOR_BYTES = 24
const PIECE_BYTES = DESCRIPTOR_BYTES << 15
const MOST_VMCOREINFO = 1 << 20

export interface KdumpHead {
  /** bytes of a page */
  blockSize: number
  subHeadBlocks: number
  /** of both bitmaps */
  bitmapBlocks: number
  names: Record<(typeof NAMES)[number], string>
  /** what the kernel says of itself (VMCOREINFO), by its keys; empty if it had not told QEMU yet */
  vmcoreinfo: ReadonlyMap<string, string>
}

/** Reads the heads of an open dump. Throws BadDump, with a sentence, if it is none. */
export async function readHead(file: FileHandle): Promise<KdumpHead> {
  const head = await readAt(file, 0, HEAD_BYTES)
  if (!head.subarray(0, KDUMP_SIGNATURE.length).equals(KDUMP_SIGNATURE))
    throw new BadDump('The dump has no signature of kdump.')
  const blockSize = head.readInt32LE(AT.blockSize)
  const subHeadBlocks = head.readInt32LE(AT.subHeadBlocks)
  const bitmapBlocks = head.readUInt32LE(AT.bitmapBlocks)
  if (![4096, 16384, 65536].includes(blockSize) || subHeadBlocks < 1 || bitmapBlocks < 2)
    throw new BadDump('The dump has a head that makes no sense.')
  const names = Object.fromEntries(
    NAMES.map((name, index) => {
      const start = AT.names + index * NAME_BYTES
      return [name, untilZero(head.subarray(start, start + NAME_BYTES))]
    }),
  ) as KdumpHead['names']
  const sub = await readAt(file, blockSize, SUB_HEAD_BYTES)
  const offset = Number(sub.readBigUInt64LE(AT.vmcoreinfoOffset))
  const size = Number(sub.readBigUInt64LE(AT.vmcoreinfoSize))
  if (size > MOST_VMCOREINFO) throw new BadDump('The dump has a VMCOREINFO that makes no sense.')
  const vmcoreinfo =
    size === 0 ? new Map() : parseVmcoreinfo((await readAt(file, offset, size)).toString('latin1'))
  return { blockSize, subHeadBlocks, bitmapBlocks, names, vmcoreinfo }
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
 * Writes the kernel's names into a head in which QEMU left all but the machine empty: libkdumpfile, and so drgn,
 * believes the machine only where system, node, release and version are there, too. The release is VMCOREINFO's; the
 * other names are stand-ins, for nothing outside of the kernel's memory tells them. QEMU knows no name of some machines
 * (Unknown of arm64): then it is `machine`, as uname -m prints it.
 */
export async function fillInUtsname(path: string, machine: string): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const { names, vmcoreinfo } = await readHead(file)
    const release = vmcoreinfo.get('OSRELEASE')
    if (names.release !== '' || !release) return
    // (none) is what a kernel says that nobody has named (include/linux/uts.h)
    const complete = {
      ...names,
      sysname: 'Linux',
      nodename: '(none)',
      release,
      version: '#1',
      domainname: '(none)',
      machine: /^(?:Unknown)?$/.test(names.machine) ? machine : names.machine,
    }
    const bytes = Buffer.alloc(NAME_BYTES * NAMES.length)
    for (const [index, name] of NAMES.entries())
      bytes.write(complete[name].slice(0, NAME_BYTES - 1), index * NAME_BYTES, 'latin1')
    await file.write(bytes, 0, bytes.length, AT.names)
  } finally {
    await file.close()
  }
}

/** Counts the pages of an open dump, and throws BadDump if one lies outside of the file: it is cut off. */
export async function checkPages(file: FileHandle, head: KdumpHead): Promise<number> {
  const { size } = await file.stat()
  const bitmaps = (1 + head.subHeadBlocks) * head.blockSize
  const half = (head.bitmapBlocks / 2) * head.blockSize
  let pages = 0
  for (let at = 0; at < half; at += PIECE_BYTES) {
    const bits = await readAt(file, bitmaps + half + at, Math.min(PIECE_BYTES, half - at))
    for (const byte of bits) pages += ONES[byte] ?? 0
  }
  const descriptors = bitmaps + head.bitmapBlocks * head.blockSize
  for (let at = 0; at < pages * DESCRIPTOR_BYTES; at += PIECE_BYTES) {
    const piece = await readAt(file, descriptors + at, Math.min(PIECE_BYTES, pages * DESCRIPTOR_BYTES - at))
    for (let page = 0; page < piece.length; page += DESCRIPTOR_BYTES) {
      const offset = piece.readUInt32LE(page) + piece.readUInt32LE(page + 4) * 2 ** 32
      const length = piece.readUInt32LE(page + 8)
      if (offset < descriptors || length === 0 || offset + length > size)
        throw new BadDump('The dump is incomplete: a page lies outside of the file.')
    }
  }
  return pages
}

/** Bits that are set, for each byte. */
const ONES = Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll('0', '').length)

function untilZero(bytes: Buffer): string {
  const end = bytes.indexOf(0)
  return bytes.toString('latin1', 0, end < 0 ? bytes.length : end)
}

/** Exactly `size` bytes at an offset. Throws BadDump where the file ends before. */
export async function readAt(file: FileHandle, offset: number, size: number): Promise<Buffer> {
  const bytes = Buffer.alloc(size)
  const { bytesRead } = await file.read(bytes, 0, size, offset)
  if (bytesRead < size) throw new BadDump('The dump is incomplete: it ends too early.')
  return bytes
}
