/**
 * Whether a pattern, in which `*` stands for any characters and none, fits all of a text. The part before each `*` is
 * looked for where it occurs first, which finds a match if there is one: time grows with the product of both lengths at
 * most, whatever the guest has put into a title (a regular expression with `.*` for each star does not promise that).
 */
export function matchesWildcard(pattern: string, text: string): boolean {
  const [first = '', ...rest] = pattern.split('*')
  const last = rest.pop()
  if (last === undefined) return text === pattern
  if (!text.startsWith(first)) return false
  let at = first.length
  for (const part of rest) {
    const found = text.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return text.length - last.length >= at && text.endsWith(last)
}
