import type { LoadedModule, Outcome } from './outcome.js'

const MOST_WORDS = 300
const MOST_LEAK_LINES = 4000

/** Words of the guest's programs, fit to be printed in one line. */
const plainWords = (words: readonly string[]) =>
  words
    .join(' ')
    .replaceAll(/[^\x20-\x7e]/g, '?')
    .slice(0, MOST_WORDS)

/**
 * What the guest's init says on its control port, a line at a time (boot/guest/init.sh), put into `outcome`. `seconds`
 * is the time since virtme-run's start. Returns true for the word that the commands have ended while their streams are
 * still open.
 */
export function parseControlLine(line: string, outcome: Outcome, seconds: number): boolean {
  const [word, value = '', ...rest] = line.split(' ')
  const { timestamps } = outcome
  const module = (): LoadedModule => {
    outcome.modules[value] ??= { loaded: false, sections: {} }
    return outcome.modules[value]
  }
  switch (word) {
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
      module().trouble ??= plainWords(rest)
      break
    case 'section': {
      const [section = '', address = ''] = rest
      if (/^0x[0-9a-f]{1,16}$/.test(address)) module().sections[section] = address
      break
    }
    case 'leak':
      if (outcome.leaks.length < MOST_LEAK_LINES)
        outcome.leaks.push(line.slice('leak '.length).slice(0, MOST_WORDS))
      break
    case 'ended':
    case 'status':
      if (!/^\d{1,3}$/.test(value)) break
      // the first word on it counts
      outcome.status ??= Number(value)
      if (word === 'ended') return true
      timestamps.status ??= seconds
  }
  return false
}
