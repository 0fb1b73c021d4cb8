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
}

type Message = Reply & Partial<QmpEvent> & { id?: number }

/** A connection to QEMU's monitor (QMP, docs/interop/qmp-spec). */
export interface Qmp {
  /** Returns the command's result. Throws if it fails, or if QEMU does not reply within `seconds` (default 20). */
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

/** Connects to a socket that may not exist yet; undefined if `stop` returns true first. */
export async function connectSocket(path: string, stop: () => boolean): Promise<Socket | undefined> {
  while (!stop()) {
    const socket = await connectOnce(path)
    if (socket) return socket
    await pause(20)
  }
  return undefined
}

/** Calls back for each message: a JSON object a line. What is not JSON is ignored. */
function onMessage(socket: Socket, callback: (message: Message) => void): void {
  let rest = ''
  socket.setEncoding('utf8')
  socket.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      const message = parseMessage(line)
      if (message) callback(message)
    }
  })
}

function parseMessage(line: string): Message | undefined {
  try {
    return line.trim() === '' ? undefined : JSON.parse(line)
  } catch {
    return undefined
  }
}

/**
 * Starts QMP over a connected socket; `onEvent` gets every event from the handshake on. Throws if QEMU does not complete
 * the handshake; the socket is then closed.
 */
export async function startQmp(socket: Socket, onEvent: (event: QmpEvent) => void): Promise<Qmp> {
  /** by the number of the command */
  const waiting = new Map<number, (reply: Reply) => void>()
  let lastId = 0
  onMessage(socket, ({ event, data, id, ...result }) => {
    if (event) onEvent({ event, data })
    else if (id !== undefined) {
      waiting.get(id)?.(result)
      waiting.delete(id)
    }
  })
  const fail = () => {
    for (const reply of waiting.values()) reply({ error: { desc: 'QEMU closed its monitor' } })
    waiting.clear()
  }
  socket.on('error', fail)
  socket.on('close', fail)

  const execute = (command: string, args: Record<string, unknown> = {}, seconds = 20) =>
    new Promise<unknown>((resolve, reject) => {
      const id = ++lastId
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
  try {
    await execute('qmp_capabilities')
  } catch (error) {
    socket.destroy()
    throw error
  }
  return { execute, close: () => socket.destroy() }
}
