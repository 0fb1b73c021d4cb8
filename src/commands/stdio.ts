import type { Terminal } from '../boot/terminal.js'

/** Standard streams of kc: results go to standard output, everything else to standard error. */

/** The terminal that kc was started on, if both its input and its output are on it. */
export function ownTerminal(): Terminal | undefined {
  const { stdin, stdout } = process
  return stdin.isTTY && stdout.isTTY ? { input: stdin, output: stdout } : undefined
}

/** Prints a result, as it is, to standard output. */
export function print(text: string): void {
  process.stdout.write(text)
}

/** Prints one line to standard error. */
export function printStatus(line: string): void {
  process.stderr.write(`${line}\n`)
}
