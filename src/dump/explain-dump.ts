import { appendFile, readFile, rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { asset } from '../host/assets.js'
import { describeEnd, lastLines, run } from '../host/processes.js'
import { findDrgn } from '../host/virtme.js'
import { drgnArguments, HOW_TO_GET } from './debuggers.js'

/** A frame of a stack, as drgn found it. */
export interface DumpFrame {
  function: string
  /** relative to the source tree; null where the debug information has none */
  file: string | null
  line: number | null
  inlined: boolean
}

export interface DumpTask {
  pid: number
  comm: string
  cpu: number
  /** the innermost frame first; empty for a task in user space */
  stack: DumpFrame[]
}

/** The JSON that scripts/explain.py writes. Names come from the guest and may contain any characters. */
export interface DumpFacts {
  release?: string
  /** the line of the panic */
  message?: string | null
  /** null where the kernel had not panicked; `fault` is the index of the frame with the fault */
  crashed: (DumpTask & { fault: number }) | null
  /** the task that every CPU ran */
  cpus: (DumpTask & { idle: boolean })[]
  /** tasks in uninterruptible sleep; `seconds` since they last ran */
  blocked: (DumpTask & {
    seconds: number | null
    waits: {
      kind: 'mutex' | 'ww_mutex' | 'rwsem' | 'completion' | 'folio'
      /** its symbol, or its address without one */
      lock: string
      address: string
      owner: { pid: number; comm: string } | null
    } | null
  })[]
  /** cycles of tasks, as lists of PIDs, of which each waits for the next one */
  deadlocks: number[][]
  /** parts of the dump that could not be read */
  failed: { part: string; reason: string }[]
}

export type Explained =
  | {
      ok: true
      facts: DumpFacts
      /** false if drgn did not end in time: the text is incomplete then, and says so */
      complete: boolean
      seconds: number
    }
  | {
      ok: false
      /** one sentence */
      reason: string
    }

export interface ExplainRequest {
  vmcore: string
  vmlinux: string
  /** a directory with lib/modules/RELEASE, for the debug information of loaded modules */
  modules?: string
  /** the text file to write: crash.txt */
  output: string
  /** seconds; 120 if absent */
  deadline?: number
  cancel?: AbortSignal
}

/** Explains a dump with drgn. Never throws because of the dump's contents, only if it is cancelled. */
export async function explainDump(request: ExplainRequest): Promise<Explained> {
  const drgn = await findDrgn()
  if (!drgn) return { ok: false, reason: `drgn is not installed: ${HOW_TO_GET}` }
  const began = performance.now()
  const output = resolve(request.output)
  const json = `${output}.json`
  const modules = request.modules === undefined ? [] : [resolve(request.modules)]
  try {
    const end = await run({
      file: drgn,
      args: drgnArguments(request.vmcore, request.vmlinux, asset('dump/scripts/explain.py'), [
        output,
        json,
        ...modules,
      ]),
      env: { PYTHONDONTWRITEBYTECODE: '1' },
      deadline: request.deadline ?? 120,
      cancel: request.cancel,
    })
    const seconds = (performance.now() - began) / 1000
    const complete = end.status === 0
    const facts = await readFile(json, 'utf8').then(
      text => JSON.parse(text) as DumpFacts,
      () => undefined,
    )
    if (!complete && facts) await appendFile(output, `\n(${describeEnd('drgn', end)}.)\n`)
    if (facts) return { ok: true, facts, complete, seconds }
    const [why = describeEnd('drgn', end)] = end.timedOut ? [] : lastLines(end.stderr, 1)
    return { ok: false, reason: `drgn could not explain the dump: ${why}.` }
  } finally {
    await rm(json, { force: true })
  }
}
