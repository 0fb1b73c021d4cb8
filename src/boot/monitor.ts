import { InfraError } from '../errors.js'
import { isAlive } from '../host/proc.js'
import type { RunningGuest } from '../host/registry.js'
import { connectSocket, type Qmp, startQmp } from './qmp.js'

const TIMEOUT_SECONDS = 30

/** Connects to the monitor of a guest that another kc runs. Throws InfraError if it does not answer. */
export async function connectMonitor(guest: RunningGuest): Promise<Qmp> {
  // a guest that has just been started does not have one yet
  const deadline = Date.now() + TIMEOUT_SECONDS * 1000
  const socket = await connectSocket(guest.monitor, () => Date.now() > deadline || !isAlive(guest.owner))
  if (!socket) throw new InfraError(`QEMU's monitor at ${guest.monitor} does not answer.`)
  return await startQmp(socket, () => {})
}
