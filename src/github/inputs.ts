import { distance } from 'fastest-levenshtein'
import { InputError } from '../errors.js'
import { optionsOf, type RawOptions } from '../request/options.js'

/** The name of an input's variable (the runner's): upper case, blanks to underscores, dashes kept. */
const variable = (name: string) => `INPUT_${name.replaceAll(' ', '_').toUpperCase()}`

/** The action's inputs as text. Lists have one entry a line. */
export function readInputs(env: NodeJS.ProcessEnv): RawOptions {
  const raw: Record<string, string | string[]> = {}
  for (const option of optionsOf('action')) {
    const value = env[variable(option.name)]
    if (value === undefined) continue
    if (option.kind === 'list')
      raw[option.name] = value
        .split(/\r?\n/)
        .map(line => line.trim())
        .filter(Boolean)
    else if (option.name === 'run') raw.run = value
    // the runner sets inputs that are not given to an empty text; an empty suffix may be intended
    else if (value.trim() !== '' || option.name === 'localversion') raw[option.name] = value.trim()
  }
  return raw
}

/** A message for each INPUT_ variable that is not an input of the action, with the nearest name. */
export function unknownInputs(env: NodeJS.ProcessEnv): string[] {
  const known = optionsOf('action').map(option => option.name)
  return Object.keys(env)
    .filter(key => key.startsWith('INPUT_'))
    .map(key => key.slice('INPUT_'.length).toLowerCase())
    .filter(name => !known.includes(name))
    .map(name => {
      const [nearest] = known
        .map(candidate => ({ candidate, edits: distance(candidate, name) }))
        .filter(({ edits }) => edits <= Math.max(2, name.length / 3))
        .sort((a, b) => a.edits - b.edits)
      return `There is no input "${name}"${nearest ? `; did you mean ${nearest.candidate}?` : '.'}`
    })
}

/** Days as GitHub takes them, 1 to 400; undefined if empty. Throws InputError for anything else. */
export function checkRetention(name: string, value: string | undefined): string | undefined {
  if (value === undefined || value === '') return undefined
  if (!/^\d+$/.test(value) || Number(value) < 1 || Number(value) > 400) {
    throw new InputError(`${name} is ${JSON.stringify(value)}: it takes a number from 1 to 400.`)
  }
  return value
}

/** The default of an input, as in action.yml. */
export function defaultOf(name: string): string {
  return optionsOf('action').find(option => option.name === name)?.default ?? ''
}
