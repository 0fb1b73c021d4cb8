import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, isAbsolute, join, relative, resolve } from 'node:path'
import { InputError } from '../errors.js'
import { type Dkms, parseDkms } from './dkms.js'

/** A directory with the source of one or more external modules. */
export interface ModuleSource {
  /** absolute */
  directory: string
  /** as it was typed */
  requested: string
  /** its dkms.conf; absent for a directory of plain Kbuild */
  dkms?: Dkms
}

/** A directory to build as external modules. Throws InputError if it has no build description. */
export function parseModuleSource(requested: string, cwd: string): ModuleSource {
  const directory = resolve(cwd, requested)
  const shown = JSON.stringify(requested)
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory())
    throw new InputError(`modules: ${shown} is not a directory.`, 'modules')
  const names = readdirSync(directory)
  if (names.includes('dkms.conf')) {
    const origin = `modules: ${join(requested, 'dkms.conf')}`
    return {
      directory,
      requested,
      dkms: parseDkms(readFileSync(join(directory, 'dkms.conf'), 'utf8'), origin),
    }
  }
  if (names.includes('Kbuild') || names.includes('Makefile')) return { directory, requested }
  throw new InputError(
    `modules: ${shown} has neither Kbuild, Makefile nor dkms.conf: name the directory whose Makefile has obj-m.`,
    'modules',
  )
}

/** The name under which the kernel knows a module's file: dashes are underscores there (kernel's scripts/Makefile.lib). */
export const moduleName = (file: string): string =>
  basename(file)
    .replace(/\.k?o(?:\.\w+)?$/, '')
    .replaceAll('-', '_')

/** A path for messages: relative to `cwd` if it lies below it, else as it is. */
export function displayPath(path: string, cwd: string): string {
  if (!isAbsolute(path)) return path
  const below = relative(cwd, path)
  return below === '' || below.startsWith('..') ? path : below
}

/** Module files that a build produced, in the order of its modules.order, else sorted by name. */
export function builtFiles(directory: string): string[] {
  const order = join(directory, 'modules.order')
  if (existsSync(order)) {
    // of objects (.o) since 6.3; paths are relative to the directory or absolute
    const files = readFileSync(order, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map(line => resolve(directory, line.replace(/\.o$/, '.ko')))
      .filter(path => existsSync(path))
    if (files.length > 0) return files
  }
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ko'))
    .sort()
    .map(name => join(directory, name))
}
