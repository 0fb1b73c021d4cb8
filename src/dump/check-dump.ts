import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { ARCH_NAMES, type ArchName, archOf } from '../arch.js'
import { messageOf } from '../errors.js'
import { asset } from '../host/assets.js'
import { describeEnd, lastLines, run } from '../host/processes.js'
import { findDrgn } from '../host/virtme.js'
import { drgnArguments } from './debuggers.js'
import { BadDump } from './flatten.js'
import { checkPages, type KdumpHead, readHead } from './kdump.js'

export type CheckedDump =
  | {
      ok: true
      /** `uname -r` of the kernel */
      release: string
      /** build id of kernel and vmlinux, the same in both; absent if the kernel tells none (before 5.9) */
      buildId?: string
      /** `drgn` has read the kernel's memory through it, or only its `format` was looked at, where there is no drgn */
      by: 'drgn' | 'format'
    }
  | {
      ok: false
      /** one sentence */
      reason: string
    }

const DEADLINE_SECONDS = 120

/**
 * Whether a dump is whole, of the kernel that `vmlinux` is, and can be read with it. Never throws for a bad dump, only
 * if it is cancelled.
 */
export async function checkDump(vmcore: string, vmlinux: string, cancel?: AbortSignal): Promise<CheckedDump> {
  let head: KdumpHead
  try {
    head = await checkFormat(vmcore)
  } catch (error) {
    return {
      ok: false,
      reason: error instanceof BadDump ? error.message : `The dump cannot be read: ${messageOf(error)}.`,
    }
  }
  const release = head.vmcoreinfo.get('OSRELEASE')
  if (!release) {
    return {
      ok: false,
      reason:
        'The dump does not say what kernel it is of: the kernel died before it had told QEMU, or cannot tell ' +
        '(CONFIG_FW_CFG_SYSFS, CONFIG_VMCORE_INFO).',
    }
  }
  const buildId = head.vmcoreinfo.get('BUILD-ID')
  const expected = await buildIdOf(vmlinux, cancel)
  if (expected === undefined) return { ok: false, reason: `${vmlinux} is no kernel with a build id.` }
  if (buildId && buildId !== expected) {
    return {
      ok: false,
      reason: `The dump is of the kernel with build id ${buildId}, vmlinux has ${expected}.`,
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

async function checkFormat(vmcore: string): Promise<KdumpHead> {
  const file = await open(vmcore, 'r')
  try {
    const head = await readHead(file)
    await checkPages(file, head)
    return head
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

/** The architecture that an ELF file is for; undefined if it is none of ours (elf(5)). */
export async function archOfElf(path: string): Promise<ArchName | undefined> {
  const file = await open(path, 'r')
  try {
    const head = Buffer.alloc(20)
    await file.read(head, 0, head.length, 0)
    const number = head[5] === 2 ? head.readUInt16BE(18) : head.readUInt16LE(18)
    return ARCH_NAMES.find(name => archOf(name).elf === number)
  } finally {
    await file.close()
  }
}

export function parseBuildId(text: string): string | undefined {
  return /Build ID: ([0-9a-f]+)/.exec(text)?.[1]
}
