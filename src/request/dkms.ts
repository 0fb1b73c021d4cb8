import stringArgv from 'string-argv'
import { InputError } from '../errors.js'

/** The contents of a dkms.conf, as far as building for one kernel needs them (dkms(8), DKMS.CONF). */
export interface Dkms {
  package: string
  version: string
  /** the build command as arguments, variables not expanded yet; absent for DKMS's default */
  make?: readonly string[]
  /** the modules that are built, and their directories below the build directory */
  built: readonly { name: string; location: string }[]
}

const ASSIGNMENT = /^\s*([A-Z_]+)(?:\[(\d+)\])?=(?:"([^"]*)"|'([^']*)'|(\S*))\s*(?:#.*)?$/
/** directives that run scripts of the package, or change its sources */
const SCRIPTS = ['PRE_BUILD', 'POST_BUILD', 'PATCH', 'CLASS_PATH']
/** syntax that needs a shell, which is never started here */
const SHELL_SYNTAX = /[;&|<>`\n]|\$\(/

/**
 * Parses a dkms.conf, which DKMS itself sources with bash: only plain assignments are supported. Throws InputError for
 * what would need a shell. `origin` names the file in messages.
 */
export function parseDkms(text: string, origin: string): Dkms {
  const values = new Map<string, string>()
  for (const line of text.replaceAll('\\\n', ' ').split('\n')) {
    const [, name, index = '0', ...quoted] = ASSIGNMENT.exec(line) ?? []
    const value = quoted.find(text => text !== undefined)
    if (name !== undefined && value !== undefined) values.set(`${name}[${index}]`, value)
  }
  const value = (name: string, index = 0) => values.get(`${name}[${index}]`)
  const script = SCRIPTS.find(name => value(name))
  if (script)
    throw new InputError(`${origin} has ${script}, which is not run here: run it in an earlier step.`)
  const name = value('PACKAGE_NAME')
  const version = value('PACKAGE_VERSION')
  if (!isDirectoryName(name) || !isDirectoryName(version))
    throw new InputError(
      `${origin} has no PACKAGE_NAME or PACKAGE_VERSION that is valid as a directory name.`,
    )
  const make = value('MAKE')
  if (make !== undefined && (SHELL_SYNTAX.test(make) || !/^\s*'?make\b/.test(make)))
    throw new InputError(`${origin}: MAKE[0] is ${JSON.stringify(make)}; only one call of make is supported.`)
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
    // without BUILT_MODULE_NAME a package builds one module of its own name
    built: built.length > 0 ? built : [{ name, location: value('BUILT_MODULE_LOCATION') ?? '' }],
  }
}

/** True if the text is safe as the name of a directory. */
const isDirectoryName = (text: string | undefined): text is string =>
  /^[\w.+~-]+$/.test(text ?? '') && text !== '..'

/** Expands `$name` and `${name}`; an unknown variable expands to nothing, as in a shell. */
export function expand(text: string, variables: Readonly<Record<string, string>>): string {
  return text.replace(/\$(?:\{(\w+)\}|(\w+))/g, (_, braced, plain) => variables[braced ?? plain] ?? '')
}
