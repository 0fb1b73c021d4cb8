import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { cachePath } from './paths.js'
import { isAlive, type ProcessId, processId, signal, withEnvironment } from './proc.js'
import { killGroup } from './processes.js'

/** Environment variable with the run directory, by which all processes of a guest are found, whatever their group is. */
export const RUN_VARIABLE = 'KERNELCRAFT_RUN'

/** The record of a running guest on disk, with which a later process can end it if this one is killed. */
export interface RunningGuest {
  runDirectory: string
  /** the kc that runs it */
  owner: ProcessId
  /** of the process group of virtme-run and QEMU */
  leader: ProcessId
  /** socket of QEMU's second monitor (QMP), which other processes may use */
  monitor: string
  /** path of the guest kernel's vmlinux */
  vmlinux: string
  /** `uname -r` of the guest */
  release: string
  accel: 'kvm' | 'tcg'
  /** a short form of the command that it runs */
  command: string
  /** when it was started, ISO 8601 */
  since: string
}

/** A guest's name in kc's commands: the end of its run directory's name. */
export const guestName = ({ runDirectory }: Pick<RunningGuest, 'runDirectory'>): string =>
  runDirectory.slice(Math.max(runDirectory.lastIndexOf('/'), runDirectory.lastIndexOf('-')) + 1)

function recordPath(runDirectory: string): string {
  return cachePath('running', `${runDirectory.replaceAll('/', '%')}.json`.slice(-200))
}

/** Writes the record of a guest; `leader` is the PID of its process group's leader. */
export function registerGuest(leader: number, facts: Omit<RunningGuest, 'owner' | 'leader' | 'since'>): void {
  mkdirSync(cachePath('running'), { recursive: true })
  const guest: RunningGuest = {
    ...facts,
    owner: processId(process.pid),
    leader: processId(leader),
    since: new Date().toISOString(),
  }
  writeFileSync(recordPath(facts.runDirectory), JSON.stringify(guest))
}

/** Removes the record of a guest; none is not an error. */
export function unregisterGuest(runDirectory: string): void {
  rmSync(recordPath(runDirectory), { force: true })
}

/**
 * Kills every process of a run: the process group, and processes that left it but have the run's variable. Returns how
 * many had the variable.
 */
export async function endProcesses(runDirectory: string, leader?: ProcessId): Promise<number> {
  const found = withEnvironment(RUN_VARIABLE, runDirectory)
  if (leader !== undefined && isAlive(leader)) await killGroup(leader.pid)
  for (const pid of withEnvironment(RUN_VARIABLE, runDirectory)) signal(pid, 'SIGKILL')
  return found.length
}

/** The records on disk; without a guest where one cannot be read. */
function readRecords(): { path: string; guest?: RunningGuest }[] {
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

/** Guests whose kc is alive, in the order of their kc's start. */
export function runningGuests(): RunningGuest[] {
  return readRecords()
    .flatMap(({ guest }) => (guest && isAlive(guest.owner) ? [guest] : []))
    .sort((a, b) => Number(a.owner.start) - Number(b.owner.start))
}

/**
 * Ends the guests whose kc ended without ending them (SIGKILL, a lost runner).
 * Returns the run directories of those that were still running.
 */
export async function reapGuests(): Promise<string[]> {
  const reaped: string[] = []
  for (const { path, guest } of readRecords()) {
    if (guest && isAlive(guest.owner)) continue
    if (guest) {
      if ((await endProcesses(guest.runDirectory, guest.leader)) > 0) reaped.push(guest.runDirectory)
      rmSync(dirname(guest.monitor), { recursive: true, force: true })
    }
    rmSync(path, { force: true })
  }
  return reaped
}
