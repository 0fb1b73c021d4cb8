import type { LoadedModule, Outcome } from './outcome.js'

const MAX_TEXT_LENGTH = 300
const MAX_LEAK_LINES = 4000

/** Output of the guest's programs, fit to be printed in one line. */
const plainText = (fields: readonly string[]) =>
  fields
    .join(' ')
    .replaceAll(/[^\x20-\x7e]/g, '?')
    .slice(0, MAX_TEXT_LENGTH)

/**
 * Puts a line that the guest's init wrote to its control port (boot/guest/init.sh) into `outcome`. `seconds` is the time
 * since virtme-run's start. Returns true for the line that reports that the commands have ended while their streams are
 * still open.
 */
export function parseControlLine(line: string, outcome: Outcome, seconds: number): boolean {
  const [event, value = '', ...rest] = line.split(' ')
  const { timestamps } = outcome
  const module = (): LoadedModule => {
    outcome.modules[value] ??= { loaded: false, sections: {} }
    return outcome.modules[value]
  }
  switch (event) {
    case 'init':
      timestamps.init ??= seconds
      outcome.release ??= value
      break
    case 'commands':
      timestamps.commands ??= seconds
      outcome.started = true
      break
    case 'loaded':
      module().loaded = true
      break
    case 'refused':
    case 'stuck':
      module().trouble ??= plainText(rest)
      break
    case 'section': {
      const [section = '', address = ''] = rest
      if (/^0x[0-9a-f]{1,16}$/.test(address)) module().sections[section] = address
      break
    }
    case 'leak':
      if (outcome.leaks.length < MAX_LEAK_LINES)
        outcome.leaks.push(line.slice('leak '.length).slice(0, MAX_TEXT_LENGTH))
      break
    case 'ended':
    case 'status':
      if (!/^\d{1,3}$/.test(value)) break
      // the first report of it counts
      outcome.status ??= Number(value)
      if (event === 'ended') return true
      timestamps.status ??= seconds
  }
  return false
}
