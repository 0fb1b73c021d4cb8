import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, isAbsolute, join, relative, resolve } from 'node:path'
import { InputError } from '../errors.js'
import { type Dkms, parseDkms } from './dkms.js'

/** A directory with the source of one or more external modules. */
export interface ModuleSource {
  /** absolute */
  directory: string
  /** as it was requested for */
  requested: string
  /** what DKMS would do; absent for a directory of plain Kbuild */
  dkms?: Dkms
}

/** Looks at a directory that is to be built as external modules. Throws InputError if it is none. */
export function parseModuleSource(requested: string, cwd: string): ModuleSource {
  const directory = resolve(cwd, requested)
  const shown = JSON.stringify(requested)
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory())
    throw new InputError(`modules: ${shown} is no directory.`)
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
  )
}

/** The name under which the kernel knows a module's file: dashes are underscores there (kernel's scripts/Makefile.lib). */
export const moduleName = (file: string): string =>
  basename(file)
    .replace(/\.k?o(?:\.\w+)?$/, '')
    .replaceAll('-', '_')

/** How a place below a directory is called by somebody who stands in `cwd`: relative if it lies below that, too. */
export function displayPath(path: string, cwd: string): string {
  if (!isAbsolute(path)) return path
  const below = relative(cwd, path)
  return below === '' || below.startsWith('..') ? path : below
}

/** Module files that a build left, in the order of its modules.order, or else by name. */
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
