import { distance } from 'fastest-levenshtein'
import { optionsOf, type RawOptions } from '../request/options.js'

/** How the runner names an input's variable: upper case, blanks to underscores, dashes kept. */
const variable = (name: string) => `INPUT_${name.replaceAll(' ', '_').toUpperCase()}`

/** The action's inputs as they were typed. Lists are one entry a line. */
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
    // an input that is empty is as good as not given, but for the suffix, which may be meant to be empty
    else if (value.trim() !== '' || option.name === 'localversion') raw[option.name] = value.trim()
  }
  return raw
}

/** A sentence for each INPUT_ variable that is no input of ours, with the nearest name. */
export function unknownInputs(env: NodeJS.ProcessEnv): string[] {
  const known = optionsOf('action').map(option => option.name)
  return Object.keys(env)
    .filter(key => key.startsWith('INPUT_'))
    .map(key => key.slice('INPUT_'.length).toLowerCase())
    .filter(name => !known.includes(name))
    .map(name => {
      const [near] = known
        .map(candidate => ({ candidate, far: distance(candidate, name) }))
        .filter(({ far }) => far <= Math.max(2, name.length / 3))
        .sort((a, b) => a.far - b.far)
      return `There is no input "${name}"${near ? `; did you mean ${near.candidate}?` : '.'}`
    })
}
