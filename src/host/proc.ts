import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** Facts about other processes from /proc, see proc(5). */

/** The process's start time in clock ticks since boot (field 22 of /proc/PID/stat); undefined if it does not exist. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // the command name may hold spaces and parentheses, so count from the last one
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}

/** Identifies a process even if its PID is used again, or used in another container. */
export interface ProcessId {
  pid: number
  start: string
  /** the machine's boot_id (random(4)) */
  boot: string
  /** PID namespace of `pid` (pid_namespaces(7)) */
  namespace: string
  /** when this was recorded, in milliseconds since 1970 */
  noted: number
}

/** A process in another PID namespace cannot be looked at, and counts as alive for so long: longer than any job. */
const ASSUMED_ALIVE_MS = 12 * 3600_000

const bootId = () => readOr('', () => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim())
const pidNamespace = () => readOr('', () => readlinkSync('/proc/self/ns/pid'))

function readOr(fallback: string, read: () => string): string {
  try {
    return read()
  } catch {
    return fallback
  }
}

/** The identity of a running process. */
export function processId(pid: number): ProcessId {
  const [boot, namespace] = [bootId(), pidNamespace()]
  return { pid, start: startTime(pid) ?? '', boot, namespace, noted: Date.now() }
}

/**
 * True if the process exists, as far as this process can tell: none of another boot does, and one of another PID
 * namespace (a container that shares a directory with this one) is assumed to for half a day.
 */
export function isAlive({ pid, start, boot, namespace, noted }: ProcessId): boolean {
  if (start === '' || boot !== bootId()) return false
  if (namespace !== pidNamespace()) return Date.now() - noted < ASSUMED_ALIVE_MS
  return startTime(pid) === start
}

/** A suffix for names that no other process has, on this machine or in one of its containers. */
export const uniqueSuffix = (): string => `${pidNamespace().replace(/\D/g, '')}-${process.pid}`

/** PIDs of all processes with `NAME=value` in their environment, as far as this user may read it. */
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

/** Sends a signal. Returns true if it was sent; a process that does not exist or is another user's is not an error. */
export function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, name)
    return true
  } catch {
    return false
  }
}
