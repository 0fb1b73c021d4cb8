import type { Log } from '../log.js'
import type { Qmp } from './qmp.js'
import type { Terminal } from './terminal.js'

/** Why a guest's memory is dumped. */
export type DumpReason = 'panic' | 'hang' | 'splat'

export interface SupervisorOptions {
  /** command and arguments that are put before virtme-run, see root-snapshot.ts */
  wrapper: readonly string[]
  log: Log
  cancel?: AbortSignal
  terminal?: Terminal
  /** of the guest's kernel, for other processes that dump it */
  vmlinux: string
  /** `uname -r` of the kernel */
  release: string
  /** gets everything that the console prints; returns true once the kernel has reported a bug for the first time */
  onConsole(chunk: Buffer): boolean
  onStdout(chunk: Buffer): void
  /** dumps the guest's memory if the run's settings ask for it; never throws. False if QEMU is stuck in the dump */
  dump(qmp: Qmp, reason: DumpReason): Promise<boolean>
}
