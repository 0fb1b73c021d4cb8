import { writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { distance } from 'fastest-levenshtein'
import { SourceError } from '../errors.js'
import { errorAt, type JsonNode, membersOf, readJsonFile, textOf } from '../host/json-file.js'

/** A repository that has a name: where it is, and the branch that is meant when none is named. */
export interface Tree {
  /** its URL, or PACKAGE */
  repo: string
  branch?: string
  /** URLs to try in this order where `repo` cannot be reached */
  mirrors?: readonly string[]
}

export type Trees = Readonly<Record<string, Tree>>

/** The repository of what the distribution's package linux-source has. */
export const PACKAGE = 'package:linux-source'

const kernelOrg = (path: string) => `https://git.kernel.org/pub/scm/linux/kernel/git/${path}.git`
const googleSource = (path: string) => `https://kernel.googlesource.com/pub/scm/linux/kernel/git/${path}.git`
const ubuntu = (series: string): Tree => ({
  repo: `https://git.launchpad.net/~ubuntu-kernel/ubuntu/+source/linux/+git/${series}`,
})

/**
 * The trees that everybody knows, over https, which passes proxies. Of Ubuntu, the series in standard support
 * (distro-info-data, November 2026).
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

/** Where a person's own trees are: they add to the known ones and replace them. */
export const treesFile = () => join(homedir(), '.kernelcraft.conf')

const TREE_KEYS = ['repo', 'branch', 'mirrors']
const NAME = /^[A-Za-z0-9][\w+-]*(\.[\w+-]+)*$/
const BRANCH = /^\w[\w+/-]*(\.[\w+/-]+)*$/

/** Why git should not be given this as a repository, as the end of a sentence; undefined if it may be. */
export function urlFault(url: string): string | undefined {
  if (url.startsWith('-')) return 'a tree cannot begin with a dash'
  if ([...url].some(char => char < ' ')) return 'a tree is one word'
  if (/^[\w+.-]+::/.test(url))
    return "git's remote helpers are not used here; write an https, ssh, git or file URL"
  return undefined
}

/** The trees of a file, JSON `{name: {repo, branch, mirrors}}`. Throws InputError with the line and the mend. */
export function parseTrees(spot: JsonNode, allowed: (url: string) => string | undefined = urlFault): Trees {
  const url = (at: JsonNode, what: string) => {
    const text = textOf(at, what)
    const fault = allowed(text) ?? (isUrl(text) ? undefined : 'write a URL such as https://example.org/linux')
    if (fault) throw errorAt(at, `${what} is "${text}": ${fault}`)
    return text
  }
  return Object.fromEntries(
    [...membersOf(spot, 'The file')].map(([name, at]) => {
      if (!NAME.test(name))
        throw errorAt(at, `"${name}" is no name for a tree: use letters, digits and . _ + -`)
      const members = membersOf(at, `Tree "${name}"`, TREE_KEYS)
      const [repo, branch, mirrors] = TREE_KEYS.map(key => members.get(key))
      if (!repo) throw errorAt(at, `tree "${name}" has no "repo": add one with its URL`)
      if (branch && !BRANCH.test(textOf(branch, 'branch')))
        throw errorAt(branch, `"${branch.value}" is no branch: write its name as git has it, such as master`)
      if (mirrors && !mirrors.items) throw errorAt(mirrors, 'mirrors is no list: write ["URL", ...]')
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
  const spot = readJsonFile(path)
  return spot ? parseTrees(spot) : {}
}

/** Writes the known trees there for a person to edit, unless the file is there. True if it was made. */
export function makeTreesFile(path = treesFile()): boolean {
  try {
    writeFileSync(path, `${JSON.stringify(KNOWN_TREES, undefined, 2)}\n`, { flag: 'wx' })
    return true
  } catch {
    // it is there, or this home cannot be written: the trees are known all the same
    return false
  }
}

/** True for what can only be a URL or a path, not a tree's name. */
export function isUrl(release: string): boolean {
  return (
    /^[a-z][a-z0-9+.-]*:\/\//i.test(release) || /^[^/\s]+@[^/\s]+:/.test(release) || release.startsWith('/')
  )
}

/** The tree that `release` names, or a nameless one for a URL. Throws SourceError with the nearest name. */
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
