import { writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { distance } from 'fastest-levenshtein'
import { SourceError } from '../errors.js'
import { errorAt, type JsonNode, membersOf, readJsonFile, textOf } from '../host/json-file.js'

/** A named repository: its URL, and the branch that is used when none is named. */
export interface Tree {
  /** its URL, or PACKAGE */
  repo: string
  branch?: string
  /** URLs to try in this order where `repo` cannot be reached */
  mirrors?: readonly string[]
}

export type Trees = Readonly<Record<string, Tree>>

/** The `repo` of the tree that the distribution's package linux-source installs. */
export const PACKAGE = 'package:linux-source'

const kernelOrg = (path: string) => `https://git.kernel.org/pub/scm/linux/kernel/git/${path}.git`
const googleSource = (path: string) => `https://kernel.googlesource.com/pub/scm/linux/kernel/git/${path}.git`
const ubuntu = (series: string): Tree => ({
  repo: `https://git.launchpad.net/~ubuntu-kernel/ubuntu/+source/linux/+git/${series}`,
})

/**
 * The built-in trees, over https, which passes proxies. Of Ubuntu, the series in standard support (distro-info-data,
 * November 2026).
 */
export const KNOWN_TREES: Trees = {
  mainline: {
    repo: kernelOrg('torvalds/linux'),
    branch: 'master',
    mirrors: [googleSource('torvalds/linux'), 'https://github.com/torvalds/linux.git'],
  },
  next: {
    repo: kernelOrg('next/linux-next'),
    branch: 'master',
    mirrors: [googleSource('next/linux-next')],
  },
  stable: { repo: kernelOrg('stable/linux'), mirrors: ['https://github.com/gregkh/linux.git'] },
  jammy: ubuntu('jammy'),
  noble: ubuntu('noble'),
  resolute: ubuntu('resolute'),
  stonking: ubuntu('stonking'),
  distro: { repo: PACKAGE },
}

/** The file of the user's own trees, which are added to the built-in ones and replace them. */
export const treesFile = () => join(homedir(), '.kernelcraft.conf')

const TREE_KEYS = ['repo', 'branch', 'mirrors']
const NAME = /^[A-Za-z0-9][\w+-]*(\.[\w+-]+)*$/
const BRANCH = /^\w[\w+/-]*(\.[\w+/-]+)*$/

/** Why git should not get this as a repository, as the end of a sentence; undefined if it may. */
export function urlFault(url: string): string | undefined {
  if (url.startsWith('-')) return 'a tree cannot begin with a dash'
  if ([...url].some(char => char < ' ')) return 'a tree cannot have control characters'
  if (/^[\w+.-]+::/.test(url))
    return "git's remote helpers are not used here; write an https, ssh, git or file URL"
  return undefined
}

/**
 * The trees of a JSON file, `{name: {repo, branch, mirrors}}`. `allowed` returns why a URL is refused, undefined if it is
 * not. Throws InputError with the line and how to correct it.
 */
export function parseTrees(node: JsonNode, allowed: (url: string) => string | undefined = urlFault): Trees {
  const url = (at: JsonNode, what: string) => {
    const text = textOf(at, what)
    const fault = allowed(text) ?? (isUrl(text) ? undefined : 'write a URL such as https://example.org/linux')
    if (fault) throw errorAt(at, `${what} is "${text}": ${fault}`)
    return text
  }
  return Object.fromEntries(
    [...membersOf(node, 'The file')].map(([name, at]) => {
      if (!NAME.test(name))
        throw errorAt(at, `"${name}" is not a valid name for a tree: use letters, digits and . _ + -`)
      const members = membersOf(at, `Tree "${name}"`, TREE_KEYS)
      const [repo, branch, mirrors] = TREE_KEYS.map(key => members.get(key))
      if (!repo) throw errorAt(at, `tree "${name}" has no "repo": add one with its URL`)
      if (branch && !BRANCH.test(textOf(branch, 'branch')))
        throw errorAt(
          branch,
          `"${branch.value}" is not a branch name: write it as git has it, such as master`,
        )
      if (mirrors && !mirrors.items) throw errorAt(mirrors, 'mirrors is not a list: write ["URL", ...]')
      const tree: Tree = {
        repo: repo.value === PACKAGE ? PACKAGE : url(repo, 'repo'),
        ...(branch ? { branch: String(branch.value) } : {}),
        ...(mirrors?.items ? { mirrors: mirrors.items.map(mirror => url(mirror, 'mirror')) } : {}),
      }
      return [name, tree]
    }),
  )
}

/** The trees of the user's file; none if there is no such file. */
export function userTrees(path = treesFile()): Trees {
  const node = readJsonFile(path)
  return node ? parseTrees(node) : {}
}

/** Creates the file with the built-in trees for the user to edit, unless it exists. True if it was created. */
export function makeTreesFile(path = treesFile()): boolean {
  try {
    writeFileSync(path, `${JSON.stringify(KNOWN_TREES, undefined, 2)}\n`, { flag: 'wx' })
    return true
  } catch {
    // it exists, or the home cannot be written: the built-in trees do not depend on it
    return false
  }
}

/**
 * The trees that `release` may name: the user's own, then the project's, then the built-in ones. With `local` the user's
 * file is created if it does not exist. Throws InputError for a file that is invalid.
 */
export function knownTrees(release: string | undefined, project: Trees = {}, local = false): Trees {
  if (release === undefined || isUrl(release)) return KNOWN_TREES
  if (local) makeTreesFile()
  return { ...KNOWN_TREES, ...project, ...userTrees() }
}

/** True for what can only be a URL or a path, not a tree's name. */
export function isUrl(release: string): boolean {
  return (
    /^[a-z][a-z0-9+.-]*:\/\//i.test(release) || /^[^/\s]+@[^/\s]+:/.test(release) || release.startsWith('/')
  )
}

/** The tree that `release` names, or one for a URL. Throws SourceError with the nearest name. */
export function findTree(release: string, trees: Trees = KNOWN_TREES): Tree {
  if (isUrl(release)) return { repo: release }
  const tree = Object.hasOwn(trees, release) ? trees[release] : undefined
  if (tree) return tree
  const names = Object.keys(trees)
  const near = names.find(name => distance(name, release.toLowerCase()) <= 2)
  throw new SourceError(
    `There is no tree called "${release}"${near ? `; did you mean ${near}?` : ''} (known: ${names.join(', ')}; a git URL works too).`,
  )
}
