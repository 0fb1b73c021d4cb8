import { chmod, rename, rm, stat, statfs } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Qmp } from '../boot/qmp.js'
import { isDiskFull, messageOf } from '../errors.js'
import { BadDump, isFlattened, unflatten } from './flatten.js'
import { fillInUtsname } from './kdump.js'
import { rewritePageSize, wrongPageSize } from './page-size.js'

export interface DumpLimits {
  /** bytes of the largest dump to keep */
  maxBytes: number
  /** seconds for everything, from the QMP command to the complete file */
  deadline: number
  cancel?: AbortSignal
  /** the guest's machine as uname -m prints it */
  machine: string
}

/** Why there is no dump. `refused`: QEMU returned an error; `broken`: what it wrote is not a valid dump. */
export type Failure = 'too-large' | 'disk-full' | 'deadline' | 'cancelled' | 'refused' | 'broken'

export type DumpResult =
  | { ok: true; bytes: number; seconds: number }
  | {
      ok: false
      failure: Failure
      /** one sentence */
      reason: string
      /** QEMU still writes, to a file that was removed: it has no command to stop that, so the guest has to be ended */
      writing: boolean
    }

/** Formats by preference. `raw` is the plain file; QEMU has it from 8.2 on. */
const FORMATS = ['kdump-raw-zlib', 'kdump-zlib'] as const

const POLL_MS = 100
const MIN_FREE = 64 * 2 ** 20
/** the flattened format adds a header, and 16 bytes for each piece of a page or more */
const FLATTENED_OVERHEAD = 1.01
const MIB = 2 ** 20

/** Aborts a dump. The message is one sentence. */
class DumpAborted extends Error {
  constructor(
    readonly failure: Failure,
    message: string,
  ) {
    super(message)
  }
}

/**
 * Has QEMU write the guest's memory to `path`, a plain kdump-compressed file, complete or not at all. A running guest is
 * paused meanwhile. Never throws for what QEMU or the guest does.
 */
export async function takeDump(qmp: Qmp, path: string, limits: DumpLimits): Promise<DumpResult> {
  const started = performance.now()
  const elapsed = () => (performance.now() - started) / 1000
  const target = resolve(path)
  const temporary = (suffix: string) => join(dirname(target), `.${basename(target)}.${suffix}`)
  const files = { part: temporary('part'), plain: temporary('plain'), split: temporary('split') }
  const removeFiles = async () => {
    for (const file of Object.values(files)) await rm(file, { force: true })
  }
  const state = { writing: false }
  const checkLimits = () => {
    if (limits.cancel?.aborted)
      throw new DumpAborted('cancelled', 'The run was cancelled while the dump was taken.')
    if (elapsed() > limits.deadline)
      throw new DumpAborted('deadline', `The dump was not complete after ${limits.deadline} s.`)
  }
  try {
    await removeFiles()
    await requireFreeSpace(target, 0)
    await writeDump(qmp, files.part, limits, state, checkLimits)
    const complete = await toReadableDump(files, limits, checkLimits)
    await rename(complete, target)
    return { ok: true, bytes: (await stat(target)).size, seconds: elapsed() }
  } catch (error) {
    return { ok: false, failure: failureOf(error), reason: messageOf(error), writing: state.writing }
  } finally {
    await removeFiles()
  }
}

/** Converts what QEMU wrote to `part` so that debuggers read it. Returns the one of the files that is the result. */
async function toReadableDump(
  { part, plain, split }: { part: string; plain: string; split: string },
  { maxBytes, machine }: DumpLimits,
  checkLimits: () => void,
): Promise<string> {
  let file = part
  if (await isFlattened(file)) {
    await requireFreeSpace(plain, (await stat(file)).size)
    await unflatten(file, plain, maxBytes)
    checkLimits()
    file = plain
  }
  // QEMU creates its file with mode 0400
  await chmod(file, 0o600)
  await fillInUtsname(file, machine)
  const pageSize = await wrongPageSize(file)
  if (pageSize === undefined) return file
  await requireFreeSpace(split, (await stat(file)).size)
  await rewritePageSize(file, split, pageSize, checkLimits)
  return split
}

function failureOf(error: unknown): Failure {
  if (error instanceof DumpAborted) return error.failure
  if (error instanceof BadDump) return 'broken'
  return isDiskFull(error) ? 'disk-full' : 'refused'
}

/** Has QEMU write the dump and waits for the end: QMP `dump-guest-memory` with `detach`, then `query-dump`. */
async function writeDump(
  qmp: Qmp,
  part: string,
  limits: DumpLimits,
  state: { writing: boolean },
  checkLimits: () => void,
): Promise<void> {
  const format = await bestFormat(qmp)
  await qmp.execute('dump-guest-memory', { paging: false, protocol: `file:${part}`, format, detach: true })
  state.writing = true
  for (;;) {
    const { status } = ((await qmp.execute('query-dump')) ?? {}) as { status?: string }
    if (status !== 'active') state.writing = false
    const size = await stat(part).then(
      found => found.size,
      () => 0,
    )
    if (size > limits.maxBytes * FLATTENED_OVERHEAD + MIB)
      throw new DumpAborted(
        'too-large',
        `The dump became larger than ${Math.round(limits.maxBytes / MIB)} MiB and was aborted.`,
      )
    if (status === 'completed') return
    await requireFreeSpace(part, 0)
    if (status !== 'active')
      throw new DumpAborted('refused', `QEMU aborted the dump (its status is ${status}).`)
    checkLimits()
    await pause(POLL_MS)
  }
}

/** The preferred format of those that QEMU supports (QMP `query-dump-guest-memory-capability`). */
async function bestFormat(qmp: Qmp): Promise<string> {
  const capability = (await qmp.execute('query-dump-guest-memory-capability')) as
    | { formats?: unknown }
    | undefined
  const supported = Array.isArray(capability?.formats) ? capability.formats : []
  const format = FORMATS.find(name => supported.includes(name))
  if (!format)
    throw new DumpAborted('refused', 'This QEMU cannot write compressed dumps (it was built without zlib).')
  return format
}

/** Throws DumpAborted unless the disk has room for `bytes` more. */
async function requireFreeSpace(path: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(path))
  if (bavail * bsize < bytes + MIN_FREE)
    throw new DumpAborted('disk-full', 'There is no space for the dump on the disk of the run directory.')
}
