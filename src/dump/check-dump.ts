import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { ARCH_NAMES, type ArchName, archOf } from '../arch.js'
import { messageOf } from '../errors.js'
import { asset } from '../host/assets.js'
import { describeEnd, lastLines, run } from '../host/processes.js'
import { findDrgn } from '../host/virtme.js'
import { drgnArguments } from './debuggers.js'
import { BadDump } from './flatten.js'
import { checkPages, type KdumpHeader, readHeader } from './kdump.js'

export type CheckedDump =
  | {
      ok: true
      /** `uname -r` of the kernel */
      release: string
      /** build id of both kernel and vmlinux; absent if VMCOREINFO has none (before Linux 5.9) */
      buildId?: string
      /** `drgn`: drgn has read the kernel's memory; `format`: only the file's format was checked, without drgn */
      by: 'drgn' | 'format'
    }
  | {
      ok: false
      /** one sentence */
      reason: string
    }

const DEADLINE_SECONDS = 120

/**
 * Checks that a dump is complete, of the same kernel as `vmlinux`, and readable with it. Never throws for a bad dump,
 * only if it is cancelled.
 */
export async function checkDump(vmcore: string, vmlinux: string, cancel?: AbortSignal): Promise<CheckedDump> {
  let header: KdumpHeader
  try {
    header = await checkFormat(vmcore)
  } catch (error) {
    return {
      ok: false,
      reason: error instanceof BadDump ? error.message : `The dump cannot be read: ${messageOf(error)}.`,
    }
  }
  const release = header.vmcoreinfo.get('OSRELEASE')
  if (!release) {
    return {
      ok: false,
      reason:
        'The dump does not name its kernel: the kernel died before it passed its VMCOREINFO to QEMU, or cannot do ' +
        'so (CONFIG_FW_CFG_SYSFS, CONFIG_VMCORE_INFO).',
    }
  }
  const buildId = header.vmcoreinfo.get('BUILD-ID')
  const expected = await buildIdOf(vmlinux, cancel)
  if (expected === undefined) return { ok: false, reason: `${vmlinux} is not a kernel with a build id.` }
  if (buildId && buildId !== expected) {
    return {
      ok: false,
      reason: `The dump is of a kernel with build id ${buildId}, but vmlinux has ${expected}.`,
    }
  }
  const drgn = await findDrgn()
  if (!drgn) return { ok: true, release, buildId, by: 'format' }
  const end = await run({
    file: drgn,
    args: drgnArguments(vmcore, vmlinux, asset('dump/scripts/check.py'), []),
    env: { PYTHONDONTWRITEBYTECODE: '1' },
    deadline: DEADLINE_SECONDS,
    cancel,
  })
  if (end.status === 0 && end.stdout.trim() === release) return { ok: true, release, buildId, by: 'drgn' }
  const [why = describeEnd('drgn', end)] = lastLines(end.stderr, 1)
  return { ok: false, reason: `drgn cannot read the dump: ${why}.` }
}

async function checkFormat(vmcore: string): Promise<KdumpHeader> {
  const file = await open(vmcore, 'r')
  try {
    const header = await readHeader(file)
    await checkPages(file, header)
    return header
  } finally {
    await file.close()
  }
}

/** The build id of an ELF file, in hexadecimal (readelf -n). */
async function buildIdOf(file: string, cancel?: AbortSignal): Promise<string | undefined> {
  const end = await run({
    file: 'readelf',
    args: ['-n', resolve(file)],
    env: { LC_ALL: 'C' },
    deadline: 60,
    cancel,
  })
  return parseBuildId(end.stdout)
}

/** The architecture of an ELF file (elf(5)); undefined if it is not a supported one. */
export async function archOfElf(path: string): Promise<ArchName | undefined> {
  const file = await open(path, 'r')
  try {
    const header = Buffer.alloc(20)
    await file.read(header, 0, header.length, 0)
    const machine = header[5] === 2 ? header.readUInt16BE(18) : header.readUInt16LE(18)
    return ARCH_NAMES.find(name => archOf(name).elf === machine)
  } finally {
    await file.close()
  }
}

/** The build id in the output of `readelf -n`. */
export function parseBuildId(text: string): string | undefined {
  return /Build ID: ([0-9a-f]+)/.exec(text)?.[1]
}
