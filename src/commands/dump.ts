import { dumpRunningGuest } from '../dump/running-guest.js'
import { cancelOn } from '../host/signals.js'
import { printStatus } from './stdio.js'

/** `kc -d [NAME]` and `kc --dump-file FILE`: dumps a running guest, the only one if no name is given. */
export async function dumpCommand(guest: unknown, file: unknown): Promise<number> {
  const options = {
    ...(typeof guest === 'string' ? { run: guest } : {}),
    ...(typeof file === 'string' ? { file } : {}),
    // SIGINT is the debugger's
    cancel: cancelOn('SIGTERM', 'SIGHUP'),
  }
  return await dumpRunningGuest(options, printStatus)
}
