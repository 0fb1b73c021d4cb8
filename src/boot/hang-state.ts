import { appendFile, writeFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import type { Arch } from '../arch.js'
import type { Log } from '../log.js'
import { connectSocket, type Qmp } from './qmp.js'

/** What is asked of a guest that has to end soon, and where the answers go. */
export interface HangContext {
  qmp: Qmp
  /** the socket of the serial line's character device, `console`; who connects has it alone */
  line: () => Promise<Socket | undefined>
  /** what goes before a sysrq key */
  sysrq: Arch['sysrq']
  /** bytes that the console has printed so far */
  printed: () => number
  /** true if there is nobody left to ask */
  over: () => boolean
  registers: string
  log: Log
}

/**
 * Sysrq keys in the order in which they are asked, with the seconds that each may take (Documentation/admin-guide/sysrq.rst):
 * stacks of all CPUs, blocked tasks, all tasks, memory.
 */
const KEYS: readonly (readonly [key: string, seconds: number])[] = [
  ['l', 5],
  ['w', 5],
  ['t', 15],
  ['m', 3],
]
/** a guest that says nothing for so long after its first key is deaf */
const DEAF_SECONDS = 4
/** an answer has ended when nothing came for so long */
const QUIET_SECONDS = 0.5
const NMI_SECONDS = 5

/** Waits for an answer to begin and to end; false if none began. */
async function answered(
  scene: HangContext,
  before: number,
  patience: number,
  most: number,
): Promise<boolean> {
  const start = performance.now()
  const seconds = () => (performance.now() - start) / 1000
  while (scene.printed() === before) {
    if (seconds() > patience || scene.over()) return false
    await pause(20)
  }
  let last = scene.printed()
  let quietSince = seconds()
  while (seconds() < most && seconds() - quietSince < QUIET_SECONDS && !scene.over()) {
    await pause(20)
    if (scene.printed() !== last) {
      last = scene.printed()
      quietSince = seconds()
    }
  }
  return true
}

/** A break (CONFIG_MAGIC_SYSRQ_SERIAL) or what stands for it on the serial line, and a key behind it: sysrq. */
async function press({ qmp, sysrq }: HangContext, line: Socket, key: string): Promise<void> {
  if (sysrq === 'break') await qmp.execute('chardev-send-break', { id: 'console' }, 3)
  line.write(sysrq === 'break' ? key : `${sysrq}${key}`)
}

/** Connects to the serial line. What the guest prints is in the log file; here it would only fill the socket. */
export async function openSerialLine(path: string, stop: () => boolean): Promise<Socket | undefined> {
  const line = await connectSocket(path, stop)
  line?.resume()
  line?.on('error', () => {})
  return line
}

/**
 * Asks a guest that hangs what it is doing, before anything is killed: sysrq over the serial line, and the registers of
 * all CPUs from QEMU. The answers are in the console log; the whole takes half a minute at most. Returns false if the
 * guest is deaf. Never throws: what cannot be had is left out.
 */
export async function collectHangState(scene: HangContext): Promise<boolean> {
  let heard = false
  try {
    await scene.qmp.execute('query-status', {}, 3)
    heard = await askKernel(scene)
  } catch (error) {
    scene.log.detail(`sysrq: ${error}`)
  }
  try {
    const registers = await scene.qmp.execute(
      'human-monitor-command',
      { 'command-line': 'info registers -a' },
      10,
    )
    await writeFile(scene.registers, String(registers).replaceAll('\r', ''))
  } catch (error) {
    scene.log.detail(`registers: ${error}`)
    await appendFile(scene.registers, `QEMU did not give them: ${error}\n`).catch(() => {})
  }
  return heard
}

/** The last question to a deaf guest, from which it may die (unknown_nmi_panic): its memory has to be taken before. */
export async function injectNmi(scene: HangContext): Promise<void> {
  scene.log.info('The guest does not answer sysrq: it gets an NMI.')
  try {
    const before = scene.printed()
    await scene.qmp.execute('inject-nmi', {}, 3)
    await answered(scene, before, 2, NMI_SECONDS)
  } catch (error) {
    scene.log.detail(`NMI: ${error}`)
  }
}

async function askKernel(scene: HangContext): Promise<boolean> {
  const line = await scene.line()
  if (!line) return false
  try {
    for (const [index, [key, most]] of KEYS.entries()) {
      const before = scene.printed()
      await press(scene, line, key)
      const heard = await answered(scene, before, DEAF_SECONDS, most)
      if (!heard && index === 0) return false
    }
    return true
  } finally {
    line.destroy()
  }
}
