import { readFileSync } from 'node:fs'
import { distance } from 'fastest-levenshtein'
import { type Node, type ParseError, parseTree, printParseErrorCode } from 'jsonc-parser'
import { InputError, messageOf } from '../errors.js'

/** A value of a JSON file that a person wrote, and where it stands. */
export interface JsonNode {
  file: string
  /** 1-based */
  line: number
  value: unknown
  /** of an object; the line of a member is that of its name */
  members?: ReadonlyMap<string, JsonNode>
  /** of an array */
  items?: readonly JsonNode[]
}

/** What is wrong and what to do, for each of the parser's errors that can be said better than its name. */
const MENDS: Readonly<Record<string, string>> = {
  InvalidSymbol: 'this is no JSON: put text in double quotes',
  PropertyNameExpected: 'a name in double quotes is missing here: add it, or remove the comma before',
  ValueExpected: 'a value is missing here: add it, or remove the comma before',
  ColonExpected: 'a colon is missing after the name: add it',
  CommaExpected: 'a comma is missing before this: add it',
  CloseBraceExpected: 'a closing } is missing: add it',
  CloseBracketExpected: 'a closing ] is missing: add it',
  EndOfFileExpected: 'there is more after the end of the object: remove it',
  InvalidCommentToken: 'this is a comment, which JSON does not have: remove it',
  UnexpectedEndOfComment: 'this is a comment, which JSON does not have: remove it',
  UnexpectedEndOfString: 'a closing double quote is missing: add it',
  InvalidCharacter: 'there is a control character in a text: write it as \\n, \\t or \\u0000',
  InvalidEscapeCharacter: 'there is a backslash that escapes nothing: write \\\\ for one',
}

/** The error of a place in a file: `FILE:LINE: SENTENCE`. */
export function errorAt({ file, line }: Pick<JsonNode, 'file' | 'line'>, sentence: string): InputError {
  return new InputError(`${file}:${line}: ${sentence}.`)
}

/**
 * Reads JSON that a person wrote. Throws InputError with the line and the mend for what is no JSON and for a name that
 * stands twice in one object, of which JSON.parse would silently drop the first.
 */
export function parseJson(text: string, file: string): JsonNode {
  const errors: ParseError[] = []
  const root = parseTree(text, errors, { disallowComments: true, allowTrailingComma: false })
  const lineOf = (offset: number) => text.slice(0, offset).split('\n').length
  const [error] = errors
  if (error || !root) {
    const code = error ? printParseErrorCode(error.error) : 'ValueExpected'
    // what is missing at the very end is missing after the last thing that is there
    const offset = Math.min(error?.offset ?? 0, text.trimEnd().length)
    throw errorAt({ file, line: lineOf(offset) }, MENDS[code] ?? `this is no JSON (${code}): mend it`)
  }
  const locate = (node: Node, offset = node.offset): JsonNode => {
    const spot: JsonNode = { file, line: lineOf(offset), value: node.value }
    const children = node.children ?? []
    if (node.type === 'array') return { ...spot, items: children.map(child => locate(child)) }
    if (node.type !== 'object') return spot
    const members = new Map<string, JsonNode>()
    for (const { children: [name, value] = [] } of children) {
      if (!name || !value) continue
      const twin = members.get(name.value)
      const here = locate(value, name.offset)
      if (twin)
        throw errorAt(here, `"${name.value}" was there before, in line ${twin.line}: keep one of the two`)
      members.set(name.value, here)
    }
    return { ...spot, members }
  }
  return locate(root)
}

/** The same for a file; undefined if there is none. */
export function readJsonFile(file: string): JsonNode | undefined {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw new InputError(`${file} cannot be read (${messageOf(error)}).`)
  }
  return parseJson(text, file)
}

/** The members of an object that may only have these names (any if none are given). Throws InputError. */
export function membersOf(
  spot: JsonNode,
  what: string,
  names?: readonly string[],
): ReadonlyMap<string, JsonNode> {
  if (!spot.members) throw errorAt(spot, `${what} is no object: write { ... }`)
  for (const [name, member] of names ? spot.members : []) {
    if (names?.includes(name)) continue
    const near = names?.find(known => distance(known, name.toLowerCase()) <= 2)
    throw errorAt(
      member,
      `${what} has no "${name}"${near ? `, did you mean "${near}"` : ''}: it takes ${names?.join(', ')}`,
    )
  }
  return spot.members
}

/** A text that is not empty and without control characters. Throws InputError. */
export function textOf(spot: JsonNode, what: string): string {
  const { value } = spot
  if (typeof value !== 'string' || value.trim() === '') throw errorAt(spot, `${what} is no text: write "..."`)
  if ([...value].some(char => char < ' ')) throw errorAt(spot, `${what} has a control character: remove it`)
  return value
}
