import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { cachePath } from './paths.js'
import { isAlive, type ProcessId, processId, signal, withEnvironment } from './proc.js'
import { killGroup } from './processes.js'

/** The variable by which every process of a guest, whatever group it moved to, is known as ours. */
export const RUN_VARIABLE = 'KERNELCRAFT_RUN'

/** A guest that runs, as noted on disk, so that whoever comes after a crash of ours can end it. */
export interface RunningGuest {
  runDirectory: string
  owner: ProcessId
  leader: ProcessId
  /** QEMU's second monitor, which is free for other processes (QMP) */
  monitor: string
  /** of the kernel that the guest runs */
  vmlinux: string
  /** `uname -r` of it */
  release: string
  accel: 'kvm' | 'tcg'
  /** what it runs, in a few words */
  command: string
  /** ISO 8601 */
  since: string
}

/** What a person calls a guest: the end of its run directory's name. */
export const guestName = ({ runDirectory }: Pick<RunningGuest, 'runDirectory'>): string =>
  runDirectory.slice(Math.max(runDirectory.lastIndexOf('/'), runDirectory.lastIndexOf('-')) + 1)

function noteOf(runDirectory: string): string {
  return cachePath('running', `${runDirectory.replaceAll('/', '%')}.json`.slice(-200))
}

/** Notes a guest whose process group has `leader` as its leader. */
export function registerGuest(leader: number, known: Omit<RunningGuest, 'owner' | 'leader' | 'since'>): void {
  mkdirSync(cachePath('running'), { recursive: true })
  const guest: RunningGuest = {
    ...known,
    owner: processId(process.pid),
    leader: processId(leader),
    since: new Date().toISOString(),
  }
  writeFileSync(noteOf(known.runDirectory), JSON.stringify(guest))
}

export function unregisterGuest(runDirectory: string): void {
  rmSync(noteOf(runDirectory), { force: true })
}

/** Ends every process of the run: the group and whoever left it but still carries the run's variable. */
export async function endProcesses(runDirectory: string, leader?: ProcessId): Promise<number> {
  const strays = withEnvironment(RUN_VARIABLE, runDirectory)
  if (leader !== undefined && isAlive(leader)) await killGroup(leader.pid)
  for (const pid of withEnvironment(RUN_VARIABLE, runDirectory)) signal(pid, 'SIGKILL')
  return strays.length
}

/** The notes on disk; without a guest where a note cannot be read. */
function readNotes(): { path: string; guest?: RunningGuest }[] {
  let names: string[]
  try {
    names = readdirSync(cachePath('running'))
  } catch {
    return []
  }
  return names.map(name => {
    const path = cachePath('running', name)
    try {
      return { path, guest: JSON.parse(readFileSync(path, 'utf8')) as RunningGuest }
    } catch {
      return { path }
    }
  })
}

/** Guests of kc processes that are alive, the one that started first first. */
export function runningGuests(): RunningGuest[] {
  return readNotes()
    .flatMap(({ guest }) => (guest && isAlive(guest.owner) ? [guest] : []))
    .sort((a, b) => Number(a.owner.start) - Number(b.owner.start))
}

/**
 * Ends the guests whose kc died without ending them (SIGKILL, a lost runner).
 * Returns the run directories that were left behind.
 */
export async function reapGuests(): Promise<string[]> {
  const reaped: string[] = []
  for (const { path, guest } of readNotes()) {
    if (guest && isAlive(guest.owner)) continue
    if (guest) {
      if ((await endProcesses(guest.runDirectory, guest.leader)) > 0) reaped.push(guest.runDirectory)
      rmSync(dirname(guest.monitor), { recursive: true, force: true })
    }
    rmSync(path, { force: true })
  }
  return reaped
}
