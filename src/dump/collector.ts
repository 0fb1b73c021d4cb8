import { join } from 'node:path'
import { archOf, noVmcoreinfo } from '../arch.js'
import type { Qmp } from '../boot/qmp.js'
import type { DumpReason } from '../boot/supervise.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import { FILES } from '../run-directory.js'
import { type DumpResult, takeDump } from './take-dump.js'

/** The deadline of a dump in seconds: a step's time limit has to leave time for the upload afterwards. */
const DUMP_SECONDS = 120

/** The events of which each value of `vmcore` takes a dump. */
const REASONS: Record<Request['vmcore'], readonly DumpReason[]> = {
  never: [],
  'on-failure': ['panic', 'hang'],
  always: ['panic', 'hang', 'splat'],
}

export interface VmcoreCollector {
  /** Dumps the guest's memory if the request wants a dump of this event; false if QEMU is still writing it. */
  collect(qmp: Qmp, reason: DumpReason): Promise<boolean>
  /** the result of the last dump; a successful dump is not replaced by a failed one */
  dump(): DumpResult | undefined
}

/** Dumps the guest's memory into the run directory at the events that the request names (option `vmcore`). */
export function vmcoreCollector(
  request: Request,
  runDirectory: string,
  log: Log,
  cancel?: AbortSignal,
): VmcoreCollector {
  const arch = archOf(request.arch)
  let dump: DumpResult | undefined
  return {
    dump: () => dump,
    async collect(qmp, reason) {
      if (!REASONS[request.vmcore].includes(reason)) return true
      if (!arch.vmcoreinfo) {
        log.info(`No vmcore is taken: ${noVmcoreinfo(request.arch)}`)
        return true
      }
      log.info("Dumping the guest's memory.")
      const result = await takeDump(qmp, join(runDirectory, FILES.vmcore), {
        maxBytes: request.vmcoreMaxBytes,
        deadline: DUMP_SECONDS,
        machine: arch.machine,
        ...(cancel ? { cancel } : {}),
      })
      // the dump of a splat is still valid if the later one of a panic failed
      if (result.ok || !dump?.ok) dump = result
      if (!result.ok) log.warning(`There is no vmcore of the ${reason}: ${result.reason}`)
      return result.ok || !result.writing
    },
  }
}
