import { guestName, type RunningGuest, runningGuests } from '../host/registry.js'
import { seconds } from '../report/summary.js'
import { print } from './stdio.js'
import type { VerbOptions } from './verbs.js'

/** `kc ps`: the running guests. */
export async function psCommand({ json }: VerbOptions): Promise<number> {
  const guests = listGuests()
  print(json ? `${JSON.stringify({ guests })}\n` : psText(guests))
  return 0
}

/** A guest as `kc ps` lists it. */
interface ListedGuest {
  /** the name that kc -d and kc attach take */
  name: string
  /** of the kc process that runs it */
  pid: number
  release: string
  accel: RunningGuest['accel']
  /** ISO 8601 */
  since: string
  command: string
  runDirectory: string
}

/** The running guests, in the order in which they started. */
const listGuests = (): ListedGuest[] =>
  runningGuests().map(guest => {
    const { owner, release, accel, since, command, runDirectory } = guest
    return { name: guestName(guest), pid: owner.pid, release, accel, since, command, runDirectory }
  })

/** A table of guests; a sentence if none runs. */
function psText(guests: readonly ListedGuest[], now = Date.now()): string {
  if (guests.length === 0) return 'No guest of kc is running.\n'
  const rows = guests.map(({ name, pid, release, accel, since, command = '', runDirectory }) => [
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
