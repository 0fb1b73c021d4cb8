import { posix } from 'node:path'

/** This file of the tree is in every kernel, and so tells what stands before the names of all others. */
const LANDMARK = 'init/main.c'

/** What stands before a file's name in the tree. */
export interface TreeRoot {
  /** an absolute path of the machine that built it, or `../`, or nothing */
  prefix: string
  /** from the output directory to the tree: objects out of a compiler's cache may name a tree at another path */
  step?: string
}

/** The root, from the name that the debug information has for the file of start_kernel. */
export function treeRoot(startKernelFile: string): TreeRoot {
  if (!startKernelFile.endsWith(LANDMARK)) return { prefix: '' }
  const before = startKernelFile.slice(0, -LANDMARK.length)
  return { prefix: before === '' ? '' : posix.normalize(before), step: /\/[^/]+\/\.\.\/$/.exec(before)?.[0] }
}

/** A file's name in the tree (`kernel/panic.c`); a file from elsewhere, say of a module of its own, keeps its path. */
export function treeRelative(file: string, root: TreeRoot): string {
  const path = posix.normalize(file)
  if (root.prefix && path.startsWith(root.prefix)) return path.slice(root.prefix.length)
  const step = root.step === undefined ? -1 : file.indexOf(root.step)
  if (root.step !== undefined && step >= 0) return posix.normalize(file.slice(step + root.step.length))
  return path.replace(/^(\.\.\/)+/, '')
}
