import { resolve } from 'node:path'
import { cancelOn } from '../host/signals.js'
import type { Log } from '../log.js'
import { terminalLog } from '../report/terminal.js'
import type { RawOptions } from '../request/options.js'
import type { Changes, Checkout } from '../source/checkout.js'

/** Common part of `kc -i` and `kc -x`, the only code that changes files of the user's repository, or its HEAD. */
export interface CheckoutContext {
  /** the directory of --directory, absolute */
  directory: string
  /** discard uncommitted changes */
  force: boolean
  log: Log
  cancel?: AbortSignal
  /** writes git's own progress, where standard error is a terminal */
  show?: (progress: Buffer) => void
}

export function checkoutContext(raw: RawOptions, verbose: boolean): CheckoutContext {
  return {
    directory: resolve(typeof raw.path === 'string' ? raw.path : '.'),
    force: raw.force === 'true',
    log: terminalLog({ verbose, env: process.env }),
    cancel: cancelOn('SIGINT', 'SIGTERM', 'SIGHUP'),
    ...(process.stderr.isTTY ? { show: (progress: Buffer) => process.stderr.write(progress) } : {}),
  }
}

/** Lists what is about to be discarded. */
export function logDiscarded(checkout: Checkout, changes: Changes, log: Log): void {
  const lines = Object.entries(changes).flatMap(([kind, files]: [string, string[]]) =>
    files.map(file => `${kind.padEnd(9)}  ${file}`),
  )
  if (lines.length === 0) return
  log.info(`discarded from ${checkout.top}:`)
  for (const line of lines) log.info(`  ${line}`)
}
