import { tailFile } from './tail.js'
import { guestFiles } from './virtme-command.js'

/** State of one console of the guest, as its init reports it (boot/guest/init.sh). */
export interface ConsoleState {
  /** the guest's init runs */
  up: boolean
  /** a shell runs on the console */
  attached: boolean
  /** the shell on the console has ended, or could not be opened */
  detached: boolean
  /** exit status of the shell, 0 to 255 */
  status?: number
}

export interface ConsoleFollower {
  /** the state now; reads what the guest has reported since the last call */
  state(): ConsoleState
  /** forgets the shells until now */
  reset(): void
  close(): void
}

/** Follows the console with this number from now on. */
export function followConsole(runDirectory: string, number: number): ConsoleFollower {
  let current: ConsoleState = { up: false, attached: false, detached: false }
  let rest = ''
  const tail = tailFile(guestFiles(runDirectory).control, chunk => {
    const lines = (rest + chunk.toString('latin1')).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) applyLine(current, line, number)
  })
  const state = () => {
    while (tail.poll()) {
      // a guest may have reported much already
    }
    return current
  }
  const reset = () => {
    current = { up: state().up, attached: false, detached: false }
  }
  // an earlier shell may have used the console
  reset()
  return { state, reset, close: tail.close }
}

function applyLine(state: ConsoleState, line: string, number: number): void {
  const [event, console, status] = line.split(' ')
  if (event === 'init') state.up = true
  if (console !== String(number)) return
  if (event === 'attached') state.attached = true
  if (event !== 'detached') return
  state.detached = true
  if (/^\d{1,3}$/.test(status ?? '')) state.status = Number(status)
}
