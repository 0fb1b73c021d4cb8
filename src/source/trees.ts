import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { distance } from 'fastest-levenshtein'
import { InputError, messageOf, SourceError } from '../errors.js'

/** A repository that has a name: where it is, and the branch that is meant when none is named. */
export interface Tree {
  repo: string
  branch?: string
}

const KERNEL_ORG = 'https://git.kernel.org/pub/scm/linux/kernel/git'

/** The trees that everybody knows; `~/.kernelcraft.conf` adds to them and replaces them. */
export const KNOWN_TREES: Readonly<Record<string, Tree>> = {
  mainline: { repo: `${KERNEL_ORG}/torvalds/linux.git`, branch: 'master' },
  next: { repo: `${KERNEL_ORG}/next/linux-next.git`, branch: 'master' },
  stable: { repo: `${KERNEL_ORG}/stable/linux.git` },
}

export const DISTRO = 'distro'

/** Trees of the user's file, JSON `{name: {repo, branch}}`; none if there is no such file. */
export function userTrees(path = join(homedir(), '.kernelcraft.conf')): Record<string, Tree> {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    return {}
  }
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    throw new InputError(`${path} is not JSON: ${messageOf(error)}.`)
  }
  for (const [name, tree] of Object.entries(parsed as Record<string, Partial<Tree> | null>)) {
    if (typeof tree?.repo !== 'string') throw new InputError(`${path}: tree "${name}" has no "repo".`)
  }
  return parsed as Record<string, Tree>
}

/** True for what can only be a URL or a path, not a tree's name. */
export function isUrl(release: string): boolean {
  return (
    /^[a-z][a-z0-9+.-]*:\/\//i.test(release) || /^[^/\s]+@[^/\s]+:/.test(release) || release.startsWith('/')
  )
}

/** The tree that `release` names, or a nameless one for a URL. Throws SourceError with the nearest name. */
export function findTree(release: string): Tree {
  if (isUrl(release)) return { repo: release }
  const trees = { ...KNOWN_TREES, ...userTrees() }
  const tree = trees[release]
  if (tree && Object.hasOwn(trees, release)) return tree
  const names = [...Object.keys(trees), DISTRO]
  const near = names.find(name => distance(name, release.toLowerCase()) <= 2)
  throw new SourceError(
    `There is no tree called "${release}"${near ? `; did you mean ${near}?` : ''} (known: ${names.join(', ')}; a git URL works too).`,
  )
}
