import { attach } from '../boot/attach.js'
import { cancelOn } from '../host/signals.js'
import { ownTerminal, printStatus } from './stdio.js'
import type { VerbOptions } from './verbs.js'

/** `kc attach [NAME]`: another shell in a running guest, the only one if no name is given. */
export async function attachCommand(_: VerbOptions, guest: string): Promise<number> {
  const options = {
    ...(guest ? { guest } : {}),
    terminal: ownTerminal(),
    type: process.env.TERM,
    colours: process.env.COLORTERM,
    cancel: cancelOn('SIGINT', 'SIGTERM', 'SIGHUP'),
  }
  return await attach(options, printStatus)
}
