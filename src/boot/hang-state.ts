import { appendFile, writeFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import type { Arch } from '../arch.js'
import type { Log } from '../log.js'
import { connectSocket, type Qmp } from './qmp.js'

/** A guest whose deadline has passed, and where its state is written. */
export interface HangContext {
  qmp: Qmp
  /** connects to the socket of the serial line's character device, `console`, which takes one connection at a time */
  openLine: () => Promise<Socket | undefined>
  /** what is sent before a sysrq key */
  sysrq: Arch['sysrq']
  /** bytes that the console has printed so far */
  consoleSize: () => number
  /** true once the guest has ended or the run is cancelled */
  stopped: () => boolean
  /** file for the registers of all CPUs */
  registers: string
  log: Log
}

/**
 * Sysrq keys in the order in which they are sent (Documentation/admin-guide/sysrq.rst): stacks of all CPUs, blocked
 * tasks, all tasks, memory. Each with the seconds that its reply may take.
 */
const SYSRQ_KEYS: readonly (readonly [key: string, maxSeconds: number])[] = [
  ['l', 5],
  ['w', 5],
  ['t', 15],
  ['m', 3],
]
/** a guest that prints nothing for so long after the first key is unresponsive */
const SYSRQ_TIMEOUT_SECONDS = 4
/** a reply has ended when nothing was printed for so long */
const QUIET_SECONDS = 0.5
const NMI_TIMEOUT_SECONDS = 2
const NMI_MAX_SECONDS = 5
const POLL_MS = 20

/**
 * Collects what a guest that hangs is doing, before anything is killed: sysrq over the serial line, and the registers of
 * all CPUs from QEMU. The kernel's replies are in the console log; the whole takes half a minute at most. Returns false
 * if the guest does not respond to sysrq. Never throws: what is not available is left out.
 */
export async function collectHangState(context: HangContext): Promise<boolean> {
  const responsive = await sendAllSysrq(context)
  await saveRegisters(context)
  return responsive
}

/**
 * Injects an NMI into a guest that does not respond to sysrq. The guest may die of it (unknown_nmi_panic): its memory has
 * to be dumped before. Never throws.
 */
export async function injectNmi(context: HangContext): Promise<void> {
  context.log.info('The guest does not respond to sysrq: injecting an NMI.')
  try {
    const before = context.consoleSize()
    await context.qmp.execute('inject-nmi', {}, 3)
    await waitForReply(context, before, { timeout: NMI_TIMEOUT_SECONDS, max: NMI_MAX_SECONDS })
  } catch (error) {
    context.log.detail(`NMI: ${error}`)
  }
}

/** Connects to the serial line. What the guest prints is in the log file; here it would only fill the socket. */
export async function openSerialLine(path: string, stop: () => boolean): Promise<Socket | undefined> {
  const line = await connectSocket(path, stop)
  line?.resume()
  line?.on('error', () => {})
  return line
}

/** Sends the keys until the first stays without a reply; false then. */
async function sendAllSysrq(context: HangContext): Promise<boolean> {
  let line: Socket | undefined
  let responsive = false
  try {
    await context.qmp.execute('query-status', {}, 3)
    line = await context.openLine()
    if (!line) return false
    for (const [key, max] of SYSRQ_KEYS) {
      const before = context.consoleSize()
      await sendSysrq(context, line, key)
      if (await waitForReply(context, before, { timeout: SYSRQ_TIMEOUT_SECONDS, max })) responsive = true
      if (!responsive) return false
    }
  } catch (error) {
    context.log.detail(`sysrq: ${error}`)
    return false
  } finally {
    line?.destroy()
  }
  return responsive
}

/** A break (CONFIG_MAGIC_SYSRQ_SERIAL), or what replaces it on this serial line, followed by the key. */
async function sendSysrq({ qmp, sysrq }: HangContext, line: Socket, key: string): Promise<void> {
  if (sysrq === 'break') await qmp.execute('chardev-send-break', { id: 'console' }, 3)
  line.write(sysrq === 'break' ? key : `${sysrq}${key}`)
}

/**
 * Waits until the console prints more than the `before` bytes, `timeout` seconds at most, and then until it is silent,
 * `max` seconds at most after the call. False if nothing was printed.
 */
async function waitForReply(
  context: HangContext,
  before: number,
  { timeout, max }: { timeout: number; max: number },
): Promise<boolean> {
  const start = performance.now()
  const seconds = () => (performance.now() - start) / 1000
  while (context.consoleSize() === before) {
    if (seconds() > timeout || context.stopped()) return false
    await pause(POLL_MS)
  }
  let last = context.consoleSize()
  let quietSince = seconds()
  while (seconds() < max && seconds() - quietSince < QUIET_SECONDS && !context.stopped()) {
    await pause(POLL_MS)
    if (context.consoleSize() !== last) {
      last = context.consoleSize()
      quietSince = seconds()
    }
  }
  return true
}

async function saveRegisters({ qmp, registers, log }: HangContext): Promise<void> {
  try {
    const text = await qmp.execute('human-monitor-command', { 'command-line': 'info registers -a' }, 10)
    await writeFile(registers, String(text).replaceAll('\r', ''))
  } catch (error) {
    log.detail(`registers: ${error}`)
    await appendFile(registers, `QEMU did not return the registers: ${error}\n`).catch(() => {})
  }
}
