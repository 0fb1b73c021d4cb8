import { chmod, rename, rm, stat, statfs } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Qmp } from '../boot/qmp.js'
import { isDiskFull, messageOf } from '../errors.js'
import { BadDump, isFlattened, unflatten } from './flatten.js'
import { fillInUtsname } from './kdump.js'
import { rewritePageSize, wrongPageSize } from './page-size.js'

export interface DumpLimits {
  /** the largest dump in bytes that is worth keeping */
  maxBytes: number
  /** seconds for everything, from the order to the whole file */
  deadline: number
  cancel?: AbortSignal
  /** the guest's machine as uname -m prints it */
  machine: string
}

/** Why there is no dump. `refused`: QEMU said no; `broken`: what it wrote is no dump. */
export type Failure = 'too-large' | 'disk-full' | 'deadline' | 'cancelled' | 'refused' | 'broken'

export type DumpResult =
  | { ok: true; bytes: number; seconds: number }
  | {
      ok: false
      failure: Failure
      /** one sentence */
      reason: string
      /** QEMU still writes, to a file without a name: it has no command to stop that, so the guest has to be ended */
      writing: boolean
    }

/** The first one that QEMU offers. `raw` is the plain file at once, from QEMU 8.2 on. */
const FORMATS = ['kdump-raw-zlib', 'kdump-zlib'] as const

const POLL_MS = 100
const LEAST_FREE = 64 * 2 ** 20
/** what the flattened format adds: a head, and 16 bytes for each piece of a page or more */
const FLATTENED_SHARE = 1.01
const MIB = 2 ** 20

/** Ends the taking of a dump, with the sentence for it. */
class GivenUp extends Error {
  constructor(
    readonly failure: Failure,
    message: string,
  ) {
    super(message)
  }
}

/**
 * Has QEMU write the guest's memory to `path`, a plain kdump-compressed file, whole or not at all. A running guest
 * stands still meanwhile and then runs on. Never throws for what QEMU or the guest did.
 */
export async function takeDump(qmp: Qmp, path: string, limits: DumpLimits): Promise<DumpResult> {
  const began = performance.now()
  const elapsed = () => (performance.now() - began) / 1000
  const target = resolve(path)
  const part = join(dirname(target), `.${basename(target)}.part`)
  const plain = join(dirname(target), `.${basename(target)}.plain`)
  const split = join(dirname(target), `.${basename(target)}.split`)
  const state = { writing: false }
  const watch = () => {
    if (limits.cancel?.aborted)
      throw new GivenUp('cancelled', 'The run was stopped while the dump was taken.')
    if (elapsed() > limits.deadline)
      throw new GivenUp('deadline', `The dump was not complete after ${limits.deadline} s.`)
  }
  try {
    for (const path of [part, plain, split]) await rm(path, { force: true })
    await needFree(target, 0)
    await letWrite(qmp, part, limits, state, watch)
    let whole = part
    if (await isFlattened(part)) {
      const { size } = await stat(part)
      await needFree(target, size)
      await unflatten(part, plain, limits.maxBytes)
      watch()
      whole = plain
    }
    // QEMU makes its file readable for nobody but its user, and not writable at all
    await chmod(whole, 0o600)
    await fillInUtsname(whole, limits.machine)
    const pageSize = await wrongPageSize(whole)
    if (pageSize !== undefined) {
      await needFree(target, (await stat(whole)).size)
      await rewritePageSize(whole, split, pageSize, watch)
      whole = split
    }
    await rename(whole, target)
    return { ok: true, bytes: (await stat(target)).size, seconds: elapsed() }
  } catch (error) {
    return { ok: false, failure: failureOf(error), reason: messageOf(error), writing: state.writing }
  } finally {
    for (const path of [part, plain, split]) await rm(path, { force: true })
  }
}

function failureOf(error: unknown): Failure {
  if (error instanceof GivenUp) return error.failure
  if (error instanceof BadDump) return 'broken'
  return isDiskFull(error) ? 'disk-full' : 'refused'
}

/** Gives the order and watches it to its end: QMP `dump-guest-memory` with `detach`, `query-dump`. */
async function letWrite(
  qmp: Qmp,
  part: string,
  limits: DumpLimits,
  state: { writing: boolean },
  watch: () => void,
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
    if (size > limits.maxBytes * FLATTENED_SHARE + MIB)
      throw new GivenUp(
        'too-large',
        `The dump became larger than ${Math.round(limits.maxBytes / MIB)} MiB and was given up.`,
      )
    if (status === 'completed') return
    await needFree(part, 0)
    if (status !== 'active') throw new GivenUp('refused', `QEMU gave the dump up (its status is ${status}).`)
    watch()
    await pause(POLL_MS)
  }
}

/** The format to ask for (QMP `query-dump-guest-memory-capability`). */
async function bestFormat(qmp: Qmp): Promise<string> {
  const answer = (await qmp.execute('query-dump-guest-memory-capability')) as
    | { formats?: unknown }
    | undefined
  const offered = Array.isArray(answer?.formats) ? answer.formats : []
  const format = FORMATS.find(name => offered.includes(name))
  if (!format)
    throw new GivenUp('refused', 'This QEMU writes no compressed dumps (it was built without zlib).')
  return format
}

/** Throws unless the disk has room for `bytes` more. */
async function needFree(path: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(path))
  if (bavail * bsize < bytes + LEAST_FREE)
    throw new GivenUp('disk-full', 'The disk of the run directory has no room for the dump.')
}
