import { readdirSync, readFileSync } from 'node:fs'

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

/** A process named so that a recycled PID is not taken for it. */
export interface ProcessId {
  pid: number
  start: string
}

export function processId(pid: number): ProcessId {
  return { pid, start: startTime(pid) ?? '' }
}

export function isAlive(id: ProcessId): boolean {
  return startTime(id.pid) === id.start && id.start !== ''
}

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
