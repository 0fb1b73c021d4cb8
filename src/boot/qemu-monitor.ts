import type { Log } from '../log.js'
import type { Outcome } from './outcome.js'
import { connectSocket, type Qmp, type QmpEvent, startQmp } from './qmp.js'
import type { VirtmeProcess } from './virtme-process.js'

/** Our connection to QEMU's monitor, and what QEMU reports over it. Times are seconds since virtme-run's start. */
export class QemuMonitor {
  /** undefined until QEMU answers */
  qmp: Qmp | undefined
  /** when QEMU accepted the connection */
  connectedAt: number | undefined
  panickedAt: number | undefined
  /** when the guest ended itself: QEMU then pauses until `quit` (-action shutdown=pause) */
  endedAt: number | undefined
  private readonly connecting: Promise<void>
  private abandoned = false

  constructor(
    path: string,
    private readonly virtme: VirtmeProcess,
    private readonly outcome: Outcome,
    log: Log,
  ) {
    this.connecting = this.connect(path).catch(error => log.detail(`monitor: ${error}`))
  }

  /** Stops waiting for a QEMU that does not answer yet. */
  abandon(): void {
    this.abandoned = true
  }

  async close(): Promise<void> {
    this.abandon()
    await this.connecting
    this.qmp?.close()
  }

  private async connect(path: string): Promise<void> {
    const socket = await connectSocket(path, () => this.virtme.exited || this.abandoned)
    if (!socket) return
    this.connectedAt = this.virtme.seconds()
    this.qmp = await startQmp(socket, event => this.onEvent(event))
  }

  private onEvent({ event, data }: QmpEvent): void {
    const { outcome, virtme } = this
    if (event === 'GUEST_PANICKED') {
      // sysrq and the NMI that a guest gets after its deadline may make it panic
      if (!outcome.expired) outcome.panicked = true
      this.panickedAt ??= virtme.seconds()
    }
    if (event === 'SHUTDOWN' && typeof data?.reason === 'string') {
      outcome.shutdown ??= data.reason
      this.endedAt ??= virtme.seconds()
    }
  }
}
