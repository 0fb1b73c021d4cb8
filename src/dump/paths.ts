import { posix } from 'node:path'

/** A file that is in every kernel: what comes before its name in the debug information comes before all names. */
const ANCHOR = 'init/main.c'

/** What comes before the names of a tree's files in the debug information. */
export interface TreeRoot {
  /** an absolute path on the machine that built it, or `../`, or empty */
  prefix: string
  /** from the output directory to the tree: objects from ccache may name a tree at another path */
  step?: string
}

/** The root, from the debug information's name of the file with start_kernel. */
export function treeRoot(startKernelFile: string): TreeRoot {
  if (!startKernelFile.endsWith(ANCHOR)) return { prefix: '' }
  const before = startKernelFile.slice(0, -ANCHOR.length)
  return { prefix: before === '' ? '' : posix.normalize(before), step: /\/[^/]+\/\.\.\/$/.exec(before)?.[0] }
}

/** A file's name in the tree (`kernel/panic.c`). A file outside of the tree, such as an external module's, keeps its path. */
export function treeRelative(file: string, root: TreeRoot): string {
  const path = posix.normalize(file)
  if (root.prefix && path.startsWith(root.prefix)) return path.slice(root.prefix.length)
  const step = root.step === undefined ? -1 : file.indexOf(root.step)
  if (root.step !== undefined && step >= 0) return posix.normalize(file.slice(step + root.step.length))
  return path.replace(/^(\.\.\/)+/, '')
}
