import { guestName, type RunningGuest, runningGuests } from '../host/registry.js'
import { seconds } from '../report/summary.js'

/** Guests as `kc ps` lists them, the one that started first first. */
export interface ListedGuest {
  /** what kc -d takes */
  name: string
  /** of the kc that runs it */
  pid: number
  release: string
  accel: RunningGuest['accel']
  /** ISO 8601 */
  since: string
  command: string
  runDirectory: string
}

export const listGuests = (): ListedGuest[] =>
  runningGuests().map(guest => {
    const { owner, release, accel, since, command, runDirectory } = guest
    return { name: guestName(guest), pid: owner.pid, release, accel, since, command, runDirectory }
  })

export const psJson = (guests: readonly ListedGuest[]): string => `${JSON.stringify({ guests })}\n`

/** A table for a person; nothing but a sentence if no guest runs. */
export function psText(guests: readonly ListedGuest[], now = Date.now()): string {
  if (guests.length === 0) return 'No guest of kc runs here.\n'
  const rows = guests.map(({ name, pid, release, accel, since, command, runDirectory }) => [
    name,
    String(pid),
    release,
    accel,
    seconds((now - Date.parse(since)) / 1000),
    command,
    runDirectory,
  ])
  const all = [['NAME', 'PID', 'KERNEL', 'ACCEL', 'FOR', 'COMMANDS', 'RESULTS'], ...rows]
  const widths = all[0]?.map((_, column) => Math.max(...all.map(row => row[column]?.length ?? 0))) ?? []
  return all
    .map(
      row =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('')
}
