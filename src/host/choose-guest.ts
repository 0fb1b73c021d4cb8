import { resolve } from 'node:path'
import { InputError } from '../errors.js'
import { guestName, type RunningGuest } from './registry.js'

/**
 * Selects a guest by its name in `kc ps` or by its run directory; without either, the only one. `command` is the command
 * line before the name, for examples. Throws InputError that lists the choices.
 */
export function chooseGuest(
  guests: readonly RunningGuest[],
  wanted: string | undefined,
  command: string,
): RunningGuest {
  const choices = guests.map(guest => `\n    ${command} ${guestName(guest)}`).join('')
  if (wanted !== undefined) {
    const path = resolve(wanted)
    const found = guests.find(guest => guest.runDirectory === path || guestName(guest) === wanted)
    if (found) return found
    throw new InputError(
      `No running guest has the name or run directory ${wanted}${choices ? `; choose one of:${choices}` : '.'}`,
    )
  }
  const [only, ...more] = guests
  if (!only) throw new InputError(`There is no running guest of kc for ${command}.`)
  if (more.length > 0) throw new InputError(`${guests.length} guests are running, choose one:${choices}`)
  return only
}
