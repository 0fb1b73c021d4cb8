/**
 * The arguments of build-host-exec-prefix as the beginning of a command of a POSIX shell. Each stays one argument whatever
 * it contains; only `$NAME` and `${NAME}` are expanded, on the build host. Assignments at the beginning are passed to
 * env(1).
 */
export function prefixText(args: readonly string[]): string {
  if (args.length === 0) return ''
  const env = /^[A-Za-z_]\w*=/.test(args[0] ?? '') ? ['env'] : []
  return `${[...env, ...args.map(doubleQuote)].join(' ')} `
}

function doubleQuote(arg: string): string {
  const pieces = arg.split(/(\$(?:\{[A-Za-z_]\w*\}|[A-Za-z_]\w*))/)
  // odd pieces are the variables
  return `"${pieces.map((piece, index) => (index % 2 === 1 ? piece : piece.replace(/[\\"$`]/g, '\\$&'))).join('')}"`
}
