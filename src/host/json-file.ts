import { readFileSync } from 'node:fs'
import { distance } from 'fastest-levenshtein'
import { type Node, type ParseError, parseTree, printParseErrorCode } from 'jsonc-parser'
import { InputError, messageOf } from '../errors.js'

/** A value of a JSON file that the user wrote, with its position. */
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

/** What is wrong and what to do, for the parser's errors that have a better description than their names. */
const HINTS: Readonly<Record<string, string>> = {
  InvalidSymbol: 'this is not JSON: put text in double quotes',
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

/** An error at a line of a file: `FILE:LINE: SENTENCE`. */
export function errorAt({ file, line }: Pick<JsonNode, 'file' | 'line'>, sentence: string): InputError {
  return new InputError(`${file}:${line}: ${sentence}.`)
}

/**
 * Parses JSON that the user wrote. Throws InputError with the line and a hint for what is not JSON, and for a name that
 * one object has twice, of which JSON.parse would silently drop the first.
 */
export function parseJson(text: string, file: string): JsonNode {
  const errors: ParseError[] = []
  const root = parseTree(text, errors, { disallowComments: true, allowTrailingComma: false })
  const lineOf = (offset: number) => text.slice(0, offset).split('\n').length
  const [error] = errors
  if (error || !root) {
    const code = error ? printParseErrorCode(error.error) : 'ValueExpected'
    // what is missing at the end of the file is reported in the last line with text
    const offset = Math.min(error?.offset ?? 0, text.trimEnd().length)
    throw errorAt({ file, line: lineOf(offset) }, HINTS[code] ?? `this is not JSON (${code}): correct it`)
  }
  const locate = (node: Node, offset = node.offset): JsonNode => {
    const located: JsonNode = { file, line: lineOf(offset), value: node.value }
    const children = node.children ?? []
    if (node.type === 'array') return { ...located, items: children.map(child => locate(child)) }
    if (node.type !== 'object') return located
    const members = new Map<string, JsonNode>()
    for (const { children: [name, value] = [] } of children) {
      if (!name || !value) continue
      const duplicate = members.get(name.value)
      const member = locate(value, name.offset)
      if (duplicate)
        throw errorAt(member, `"${name.value}" already exists in line ${duplicate.line}: keep one of the two`)
      members.set(name.value, member)
    }
    return { ...located, members }
  }
  return locate(root)
}

/** Reads and parses a JSON file that the user wrote; undefined if it does not exist. Throws InputError. */
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

/** The members of an object, which may only have these names (any if none are given). Throws InputError. */
export function membersOf(
  node: JsonNode,
  what: string,
  names?: readonly string[],
): ReadonlyMap<string, JsonNode> {
  if (!node.members) throw errorAt(node, `${what} is not an object: write { ... }`)
  for (const [name, member] of names ? node.members : []) {
    if (names?.includes(name)) continue
    const near = names?.find(known => distance(known, name.toLowerCase()) <= 2)
    throw errorAt(
      member,
      `${what} has no "${name}"${near ? `, did you mean "${near}"` : ''}: it takes ${names?.join(', ')}`,
    )
  }
  return node.members
}

/** The text of a node, neither empty nor with control characters. Throws InputError. */
export function textOf(node: JsonNode, what: string): string {
  const { value } = node
  if (typeof value !== 'string' || value.trim() === '')
    throw errorAt(node, `${what} is not a text: write "..."`)
  if ([...value].some(char => char < ' ')) throw errorAt(node, `${what} has a control character: remove it`)
  return value
}
