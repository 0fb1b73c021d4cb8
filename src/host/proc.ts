import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** What /proc says of other processes; see proc(5). */

/** The process's start time in clock ticks since boot (field 22 of /proc/PID/stat); undefined if it is gone. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // the command name may hold spaces and parentheses, so count from the last one
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}

/** A process named so that neither a recycled PID nor the same number in another container is taken for it. */
export interface ProcessId {
  pid: number
  start: string
  /** of the machine's start (random(4), boot_id) */
  boot: string
  /** PID namespace in which the number holds (pid_namespaces(7)) */
  namespace: string
  /** when it was noted, in milliseconds since 1970 */
  noted: number
}

/** What cannot be looked at any more, in another PID namespace, is taken to be there for so long: longer than any job. */
const UNSEEN_MS = 12 * 3600_000

const bootId = () => readOr('', () => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim())
const pidNamespace = () => readOr('', () => readlinkSync('/proc/self/ns/pid'))

function readOr(otherwise: string, read: () => string): string {
  try {
    return read()
  } catch {
    return otherwise
  }
}

export function processId(pid: number): ProcessId {
  const [boot, namespace] = [bootId(), pidNamespace()]
  return { pid, start: startTime(pid) ?? '', boot, namespace, noted: Date.now() }
}

/**
 * Whether that process lives, as far as can be seen from here: none of another boot does, and one of another PID
 * namespace, a container that shares a directory with this one, is believed to for half a day.
 */
export function isAlive({ pid, start, boot, namespace, noted }: ProcessId): boolean {
  if (start === '' || boot !== bootId()) return false
  if (namespace !== pidNamespace()) return Date.now() - noted < UNSEEN_MS
  return startTime(pid) === start
}

/** A word that no other process has, on this machine or in a container of it. */
export const uniqueSuffix = (): string => `${pidNamespace().replace(/\D/g, '')}-${process.pid}`

/** PIDs of all processes whose environment holds exactly `NAME=value`. Those of others cannot be read and are left out. */
export function withEnvironment(name: string, value: string): number[] {
  const wanted = `\0${name}=${value}\0`
  return readdirSync('/proc')
    .filter(entry => /^\d+$/.test(entry))
    .map(Number)
    .filter(pid => {
      try {
        return `\0${readFileSync(`/proc/${pid}/environ`, 'latin1')}`.includes(wanted)
      } catch {
        return false
      }
    })
}

/** Sends a signal; a process that is gone or not ours is no error. True if it was sent. */
export function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, name)
    return true
  } catch {
    return false
  }
}
