import { InfraError } from '../errors.js'
import { lastLines } from '../host/processes.js'
import type { Ssh } from './ssh.js'

const LOCK_SECONDS = 3600
/** a week: longer than any run */
const HOLD_SECONDS = 604800

/** `$1` is ~/.kernelcraft, `$2` how long to wait for the lock, `$3` how long to hold it, in seconds. */
const LOCK =
  'exec 9> "$1/.git/kernelcraft.lock"; flock -n 9 || { echo wait; flock -w "$2" 9 || exit 1; }; echo held; exec sleep "$3"'

/**
 * Locks ~/.kernelcraft of a build host for this run: by a process on the host that holds the lock for as long as it is
 * connected. Returns a function that unlocks. Throws InfraError if another run does not release the lock in an hour.
 */
export async function lockRemote(
  ssh: Ssh,
  home: string,
  report: (line: string) => void,
  cancel?: AbortSignal,
): Promise<() => void> {
  const unlocked = new AbortController()
  const unlock = () => unlocked.abort('the run')
  cancel?.addEventListener('abort', unlock, { once: true })
  return await new Promise((resolve, reject) => {
    const onLine = (line: string) => {
      if (line === 'wait') report(`Another run builds on ${ssh.host}: waiting for it.`)
      if (line === 'held') resolve(unlock)
    }
    const args = [home, String(LOCK_SECONDS), String(HOLD_SECONDS)]
    ssh.run(LOCK, args, { cancel: unlocked.signal, deadline: HOLD_SECONDS, onLine }).then(
      // without effect once the lock was held
      end =>
        reject(
          new InfraError(
            `Another run has been building on ${ssh.host} for an hour, or flock is missing there.`,
            lastLines(end.stderr, 2),
          ),
        ),
      error => reject(error),
    )
  })
}
