import { closeSync, fstatSync, openSync, readSync } from 'node:fs'

/** The last bytes of a file as text; empty if it is not there. */
export function tailOf(path: string, bytes: number): string {
  try {
    const fd = openSync(path, 'r')
    try {
      const { size } = fstatSync(fd)
      const length = Math.min(size, bytes)
      const buffer = Buffer.alloc(length)
      readSync(fd, buffer, 0, length, size - length)
      return buffer.toString('utf8')
    } finally {
      closeSync(fd)
    }
  } catch {
    return ''
  }
}

/** Text of the guest as a code block that nothing in it can close, without control characters. */
export function codeBlock(text: string, lines: number, most = 64 * 1024): string {
  const clean = text
    .replace(/\r\n?/g, '\n')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours and cursor movements are what has to go
    .replace(/\x1b\[[0-9;?]*[A-Za-z]/g, '')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: so has whatever else a terminal would act on
    .replace(/[\x00-\x08\x0b-\x1f\x7f]/g, '�')
    .slice(-most)
    .split('\n')
    .slice(-lines - 1)
    .join('\n')
    .trimEnd()
  const longest = Math.max(2, ...[...clean.matchAll(/`+/g)].map(run => run[0].length))
  const fence = '`'.repeat(longest + 1)
  return `${fence}text\n${clean}\n${fence}\n`
}

/** Text inside a line of Markdown or a table cell. */
export function inline(text: string): string {
  return text
    .replace(/\s+/g, ' ')
    .replace(/[\\`*_{}[\]<>|#@!~$]/g, char => `\\${char}`)
    .slice(0, 500)
}

/** A table of two columns; rows whose value is empty are left out, and so is a table without rows. */
export function table(head: string, rows: readonly (readonly [string, string])[]): string {
  const filled = rows.filter(([, value]) => value !== '')
  if (filled.length === 0) return ''
  // an empty cell alone would be drawn as an empty row
  return [`| | ${head} |`, '|---|---|', ...filled.map(([name, value]) => `| ${name} | ${value} |`)].join('\n')
}

/** Lines behind a fold; nothing if there are none. */
export function details(title: string, text: string, lines: number, open = false): string {
  if (text.trim() === '') return ''
  return `<details${open ? ' open' : ''}><summary>${title}</summary>\n\n${codeBlock(text, lines, 16 * 1024)}\n</details>\n`
}
