/** A process that the kernel killed because it was out of memory (mm/oom_kill.c: __oom_kill_process). */
export interface OomKill {
  pid: number
  /** its name */
  process: string
  /** 1-based line of the console log */
  line: number
}

const KILL = /(?:Out of memory|Memory cgroup out of memory): Killed process (\d+) \(([^)]{1,32})\)/

/** The kill that a line of the console reports, if any. */
export function parseOomKill(text: string, line: number): OomKill | undefined {
  const match = KILL.exec(text)
  return match ? { pid: Number(match[1]), process: match[2] ?? '', line } : undefined
}
