import { existsSync, realpathSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { errorAt, type JsonNode, membersOf, readJsonFile, textOf } from '../host/json-file.js'
import { isBundled } from './bundled-fragments.js'
import { CONFIG_BASES, OPTIONS, type Option, type RawOptions } from './options.js'
import { KNOWN_TREES, parseTrees, type Trees, urlFault } from './trees.js'

/**
 * `.kernelcraft.json` at the top of a checkout: trees and defaults of a project, `{trees: {...}, defaults: {...}}`.
 * In a pull request the file is untrusted, as the kernel is. So it may configure the kernel and the guest only: no path or
 * command of the host, nothing that makes a failure pass, no other repository under the name of a built-in tree.
 */
export interface Project {
  file: string
  trees: Trees
  defaults: RawOptions
  /** line of each default */
  lines: Readonly<Record<string, number>>
}

const PROJECT_FILE = '.kernelcraft.json'

/** The options that it may set defaults for. */
export const projectOptions = () => OPTIONS.filter(option => option.project)

/** The top of the checkout that a directory is in. */
function topOf(path: string): string | undefined {
  for (let directory = path; ; directory = dirname(directory)) {
    if (existsSync(join(directory, '.git'))) return directory
    if (directory === dirname(directory)) return undefined
  }
}

/** The project of the checkout that `path` is in; undefined if it has no such file. Throws InputError. */
export function readProject(path: string): Project | undefined {
  const top = topOf(path)
  const file = top && join(top, PROJECT_FILE)
  const root = file ? readJsonFile(file) : undefined
  if (!top || !file || !root) return undefined
  const members = membersOf(root, PROJECT_FILE, ['trees', 'defaults'])
  const [trees, defaults] = [members.get('trees'), members.get('defaults')]
  const allowed = projectOptions()
  const names = allowed.map(({ name }) => name)
  const entries = defaults ? [...membersOf(defaults, 'defaults', names)] : []
  return {
    file,
    trees: trees ? projectTrees(trees) : {},
    defaults: Object.fromEntries(
      entries.map(([name, node]) => [
        name,
        parseDefault(
          allowed.find(option => option.name === name),
          node,
          top,
        ),
      ]),
    ),
    lines: Object.fromEntries(entries.map(([name, { line }]) => [name, line])),
  }
}

/** Options on top of a project's defaults: a value replaces the default, values of a list follow it. */
export function withDefaults(raw: RawOptions, defaults: RawOptions): RawOptions {
  const list = (value: RawOptions[string]) => (typeof value === 'string' ? [value] : (value ?? []))
  return {
    ...defaults,
    ...raw,
    ...Object.fromEntries(
      OPTIONS.filter(({ name, kind }) => kind === 'list' && defaults[name] !== undefined).map(({ name }) => [
        name,
        [...list(defaults[name]), ...list(raw[name])],
      ]),
    ),
  }
}

function projectTrees(trees: JsonNode): Trees {
  for (const [name, node] of membersOf(trees, 'trees')) {
    if (Object.hasOwn(KNOWN_TREES, name))
      throw errorAt(node, `"${name}" is a built-in tree: choose another name`)
  }
  return parseTrees(
    trees,
    url =>
      urlFault(url) ??
      (/^(https?|git|ssh):\/\//.test(url) ? undefined : 'a project can name https, git and ssh URLs only'),
  )
}

/** The value of a default as the user would type it; a list where the option is one. */
function parseDefault(option: Option | undefined, node: JsonNode, top: string): string | string[] {
  const { name = '', kind } = option ?? {}
  const textFrom = (value: JsonNode) =>
    typeof value.value === 'number' || typeof value.value === 'boolean'
      ? String(value.value)
      : resolveFile(name, textOf(value, name), value, top)
  return kind === 'list' ? (node.items ?? [node]).map(textFrom) : textFrom(node)
}

/** Options whose value may be a file of the checkout, and whether a value is a name instead. */
const FILE_OPTIONS: Readonly<Record<string, (value: string) => boolean>> = {
  config: isBundled,
  'config-base': value => (CONFIG_BASES as readonly string[]).includes(value),
}

/** A fragment or configuration of the checkout as an absolute path; any other value as it is. */
function resolveFile(name: string, value: string, at: JsonNode, top: string): string {
  if (FILE_OPTIONS[name]?.(value) ?? true) return value
  const path = resolve(top, value)
  if (!existsSync(path) || !statSync(path).isFile())
    throw errorAt(at, `${name}: "${value}" is not a file of the checkout: name one relative to its top`)
  // the target of a symbolic link has to be in the checkout as well
  if (/^\.\.(\/|$)/.test(relative(realpathSync(top), realpathSync(path))))
    throw errorAt(at, `${name}: "${value}" lies outside of the checkout: copy it into it`)
  return path
}
