import type { Diagnostic } from '../result.js'

const COMPILER = /^(\S[^:\n]*?):(\d+):(?:(\d+):)? (?:fatal )?error: (.*)$/
const LINKER =
  /^(?:\S*ld(?:\.\w+)?: )?(\S+?):(?:\(\S+\):|(\d+):) (undefined reference to .*|multiple definition of .*)$/
const MAKE = /^make(?:\[\d+\])?: \*\*\* (.*)$/
const MODPOST = /^ERROR: modpost: (.*)$/

/** Path of a source file relative to the tree; a build in O= prints it absolute or as `../...`. */
export function treePath(path: string, tree: string): string {
  const inside = path.startsWith(`${tree}/`) ? path.slice(tree.length + 1) : path
  return inside.replace(/^(?:\.\.?\/)+/, '')
}

/** Parses the compiler's or linker's diagnostic in a line of make's output; undefined if there is none. */
export function parseDiagnostic(line: string, tree: string): Diagnostic | undefined {
  const compiler = COMPILER.exec(line)
  if (compiler?.[1] && compiler[4] !== undefined) {
    return {
      file: treePath(compiler[1], tree),
      line: Number(compiler[2]),
      ...(compiler[3] ? { column: Number(compiler[3]) } : {}),
      message: compiler[4],
    }
  }
  const linker = LINKER.exec(line)
  if (linker?.[1] && linker[3])
    return { file: treePath(linker[1], tree), line: Number(linker[2] ?? 1), message: linker[3] }
  return undefined
}

/** True for a line about why make stopped, which is shown where there is no diagnostic. */
export function isFatal(line: string): boolean {
  return MAKE.test(line) || MODPOST.test(line) || /undefined (?:reference|symbol)/.test(line)
}

/** Parses a short line of Kbuild: the step, such as `CC` or `LD`, and its target. */
export function parseStep(line: string): { verb: string; what: string } | undefined {
  const step = /^ {2}([A-Z][A-Z0-9_]*)(?: \[[MU]\])? +(\S.*)$/.exec(line)
  return step?.[1] && step[2] ? { verb: step[1], what: step[2] } : undefined
}
