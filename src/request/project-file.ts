import { existsSync, realpathSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { errorAt, type JsonNode, membersOf, readJsonFile, textOf } from '../host/json-file.js'
import { isBundled } from './bundled-fragments.js'
import { OPTIONS, type Option, type RawOptions } from './options.js'
import { KNOWN_TREES, parseTrees, type Trees, urlFault } from './trees.js'

/**
 * `.kernelcraft.json` at the top of a checkout: trees and defaults of a project, `{trees: {...}, defaults: {...}}`.
 * In a pull request it is the pull request's word. So it may say what the kernel and the guest are like, which are the
 * pull request's as well, and nothing else: no place or command of the host, nothing that makes a failure pass, no
 * tree that another one is known by.
 */
export interface Project {
  file: string
  trees: Trees
  defaults: RawOptions
  /** where each default stands */
  lines: Readonly<Record<string, number>>
}

const PROJECT_FILE = '.kernelcraft.json'

/** The options that it may have defaults of. */
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
  const spot = file ? readJsonFile(file) : undefined
  if (!top || !file || !spot) return undefined
  const members = membersOf(spot, PROJECT_FILE, ['trees', 'defaults'])
  const [trees, defaults] = [members.get('trees'), members.get('defaults')]
  const known = projectOptions()
  const asked = defaults
    ? [
        ...membersOf(
          defaults,
          'defaults',
          known.map(({ name }) => name),
        ),
      ]
    : []
  return {
    file,
    trees: trees ? projectTrees(trees) : {},
    defaults: Object.fromEntries(
      asked.map(([name, at]) => [
        name,
        defaultOf(
          known.find(option => option.name === name),
          at,
          top,
        ),
      ]),
    ),
    lines: Object.fromEntries(asked.map(([name, at]) => [name, at.line])),
  }
}

/** What was asked for on top of a project's defaults: a value replaces, what can be repeated comes after. */
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

function projectTrees(spot: JsonNode): Trees {
  for (const [name, at] of membersOf(spot, 'trees')) {
    if (Object.hasOwn(KNOWN_TREES, name))
      throw errorAt(at, `"${name}" is a tree that everybody knows: call yours otherwise`)
  }
  return parseTrees(
    spot,
    url =>
      urlFault(url) ??
      (/^(https?|git|ssh):\/\//.test(url) ? undefined : 'a project can name https, git and ssh URLs only'),
  )
}

function defaultOf(option: Option | undefined, at: JsonNode, top: string): string | string[] {
  const { name = '', kind } = option ?? {}
  const plain = (spot: JsonNode) =>
    typeof spot.value === 'number' || typeof spot.value === 'boolean'
      ? String(spot.value)
      : fileOf(name, textOf(spot, name), spot, top)
  if (kind !== 'list') return plain(at)
  return (at.items ?? [at]).map(plain)
}

/** A fragment or configuration of the checkout by its absolute path; other values, and names of ours, as they are. */
function fileOf(name: string, value: string, at: JsonNode, top: string): string {
  const ours = name === 'config' ? isBundled(value) : /^(minimal|virtme|defconfig|current)$/.test(value)
  if (ours || (name !== 'config' && name !== 'config-base')) return value
  const path = resolve(top, value)
  if (!existsSync(path) || !statSync(path).isFile())
    throw errorAt(at, `${name}: "${value}" is no file of the checkout: name one relative to its top`)
  // what a link points to as well
  if (/^\.\.(\/|$)/.test(relative(realpathSync(top), realpathSync(path))))
    throw errorAt(at, `${name}: "${value}" lies outside of the checkout: copy it into it`)
  return path
}
