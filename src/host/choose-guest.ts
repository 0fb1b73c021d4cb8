import { resolve } from 'node:path'
import { InputError } from '../errors.js'
import { guestName, type RunningGuest } from './registry.js'

/**
 * The guest that is meant: by its name in `kc ps`, by its run directory, or the only one. `command` is what a person
 * types before the name. Throws InputError that names the choices.
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
      `No guest runs by the name or with the run directory ${wanted}${choices ? `; these do:${choices}` : '.'}`,
    )
  }
  const [only, ...more] = guests
  if (!only) throw new InputError(`No guest of kc runs here: ${command} is for one that does.`)
  if (more.length > 0) throw new InputError(`${guests.length} guests run, say which one is meant:${choices}`)
  return only
}
