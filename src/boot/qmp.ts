import { createConnection, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'

/** An event of QEMU, e.g. GUEST_PANICKED or SHUTDOWN (QEMU's qapi/run-state.json). */
export interface QmpEvent {
  event: string
  data?: Record<string, unknown>
}

interface Reply {
  return?: unknown
  error?: { desc: string }
  id?: number
}

/** A connection to QEMU's machine protocol (docs/interop/qmp-spec). */
export interface Qmp {
  execute(command: string, args?: Record<string, unknown>, seconds?: number): Promise<unknown>
  close(): void
}

function connectOnce(path: string): Promise<Socket | undefined> {
  return new Promise(resolve => {
    const socket = createConnection(path)
    socket.once('connect', () => resolve(socket))
    socket.once('error', () => resolve(undefined))
  })
}

/** Connects to a socket that may not be there yet; undefined if `stop` says so first. */
export async function connectSocket(path: string, stop: () => boolean): Promise<Socket | undefined> {
  while (!stop()) {
    const socket = await connectOnce(path)
    if (socket) return socket
    await pause(20)
  }
  return undefined
}

/** Speaks QMP over a connected socket; `onEvent` gets every event from the handshake on. */
export async function startQmp(socket: Socket, onEvent: (event: QmpEvent) => void): Promise<Qmp> {
  const waiting = new Map<number, (reply: Reply) => void>()
  let rest = ''
  let next = 0
  socket.setEncoding('utf8')
  socket.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line.trim() === '') continue
      let message: Reply & Partial<QmpEvent>
      try {
        message = JSON.parse(line)
      } catch {
        continue
      }
      if (message.event) onEvent({ event: message.event, data: message.data })
      else if (message.id !== undefined) {
        waiting.get(message.id)?.(message)
        waiting.delete(message.id)
      }
    }
  })
  const fail = () => {
    for (const answer of waiting.values()) answer({ error: { desc: 'QEMU closed its monitor' } })
    waiting.clear()
  }
  socket.on('error', fail)
  socket.on('close', fail)

  const execute = (command: string, args: Record<string, unknown> = {}, seconds = 20) =>
    new Promise<unknown>((resolve, reject) => {
      const id = ++next
      const timer = setTimeout(() => {
        waiting.delete(id)
        reject(new Error(`QEMU did not answer ${command} in ${seconds} s`))
      }, seconds * 1000)
      waiting.set(id, reply => {
        clearTimeout(timer)
        if (reply.error) reject(new Error(`${command}: ${reply.error.desc}`))
        else resolve(reply.return)
      })
      socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`)
      if (socket.destroyed) fail()
    })
  await execute('qmp_capabilities')
  return { execute, close: () => socket.destroy() }
}
