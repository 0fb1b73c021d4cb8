/**
 * The words of build-host-exec-prefix as the beginning of a line of a POSIX shell. Each stays one word whatever is in it;
 * only `$NAME` and `${NAME}` are replaced, by that machine's values. Assignments at the beginning are given to env(1).
 */
export function prefixText(words: readonly string[]): string {
  if (words.length === 0) return ''
  const env = /^[A-Za-z_]\w*=/.test(words[0] ?? '') ? ['env'] : []
  return `${[...env, ...words.map(doubleQuote)].join(' ')} `
}

function doubleQuote(word: string): string {
  const pieces = word.split(/(\$(?:\{[A-Za-z_]\w*\}|[A-Za-z_]\w*))/)
  // odd pieces are the variables
  return `"${pieces.map((piece, index) => (index % 2 === 1 ? piece : piece.replace(/[\\"$`]/g, '\\$&'))).join('')}"`
}
