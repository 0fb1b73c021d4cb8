import stringArgv from 'string-argv'
import { InputError } from '../errors.js'

/** What a dkms.conf says, as far as one module for one kernel needs it (dkms(8), DKMS.CONF). */
export interface Dkms {
  package: string
  version: string
  /** the command that builds, as words in which variables are not replaced yet; absent where it is DKMS's own */
  make?: readonly string[]
  /** what is built, and where in the build directory it then lies */
  built: readonly { name: string; location: string }[]
}

const ASSIGNMENT = /^\s*([A-Z_]+)(?:\[(\d+)\])?=(?:"([^"]*)"|'([^']*)'|(\S*))\s*(?:#.*)?$/
/** directives that run scripts of the package's own, or change its sources */
const SCRIPTS = ['PRE_BUILD', 'POST_BUILD', 'PATCH', 'CLASS_PATH']
/** what only a shell understands: nothing here is given to one */
const SHELL = /[;&|<>`\n]|\$\(/

/**
 * Parses a dkms.conf, which DKMS itself gives to bash: plain assignments alone are understood. Throws InputError for
 * what cannot be done without a shell. `origin` is how the file is named to a person.
 */
export function parseDkms(text: string, origin: string): Dkms {
  const values = new Map<string, string>()
  for (const line of text.replaceAll('\\\n', ' ').split('\n')) {
    const [, name, index = '0', ...quoted] = ASSIGNMENT.exec(line) ?? []
    const value = quoted.find(word => word !== undefined)
    if (name !== undefined && value !== undefined) values.set(`${name}[${index}]`, value)
  }
  const value = (name: string, index = 0) => values.get(`${name}[${index}]`)
  const script = SCRIPTS.find(name => value(name))
  if (script)
    throw new InputError(`${origin} has ${script}, which is not run here: do it in a step before this one.`)
  const name = value('PACKAGE_NAME')
  const version = value('PACKAGE_VERSION')
  if (!isWord(name) || !isWord(version))
    throw new InputError(`${origin} says no PACKAGE_NAME or PACKAGE_VERSION that could be a directory.`)
  const make = value('MAKE')
  if (make !== undefined && (SHELL.test(make) || !/^\s*'?make\b/.test(make)))
    throw new InputError(`${origin}: MAKE[0] is ${JSON.stringify(make)}; only one call of make is run here.`)
  const indices = [...values.keys()].flatMap(key => {
    const index = /^BUILT_MODULE_NAME\[(\d+)\]$/.exec(key)?.[1]
    return index === undefined ? [] : [Number(index)]
  })
  const built = indices
    .sort((a, b) => a - b)
    .map(index => ({
      name: expand(value('BUILT_MODULE_NAME', index) ?? '', { PACKAGE_NAME: name }),
      location: value('BUILT_MODULE_LOCATION', index) ?? '',
    }))
  return {
    package: name,
    version,
    ...(make === undefined ? {} : { make: stringArgv(make) }),
    // a package that says nothing builds one module of its own name
    built: built.length > 0 ? built : [{ name, location: value('BUILT_MODULE_LOCATION') ?? '' }],
  }
}

/** A word that is safe as a directory. */
const isWord = (word: string | undefined): word is string => /^[\w.+~-]+$/.test(word ?? '') && word !== '..'

/** Puts values in the place of `$name` and `${name}`; a variable that is unknown becomes nothing, as in a shell. */
export function expand(text: string, variables: Readonly<Record<string, string>>): string {
  return text.replace(/\$(?:\{(\w+)\}|(\w+))/g, (_, braced, plain) => variables[braced ?? plain] ?? '')
}
