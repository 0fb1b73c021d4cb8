#!/usr/bin/env node
import { CommanderError } from 'commander'
import { runProgram } from './commands/program.js'
import { InputError, messageOf, StageError } from './errors.js'
import { EXIT_INVALID_INPUT, EXIT_STATUS } from './result.js'

/** Prints an error of the program, and returns the exit status that it has. */
function reportError(error: unknown): number {
  if (error instanceof CommanderError) {
    // --help and --version
    if (error.exitCode === 0) return 0
    process.stderr.write(`kc: ${error.message.replace(/^error: /, '')}\n`)
    return EXIT_INVALID_INPUT
  }
  process.stderr.write(`kc: ${messageOf(error)}\n`)
  if (error instanceof InputError) return EXIT_INVALID_INPUT
  if (!(error instanceof StageError)) return EXIT_STATUS['infra-error']
  for (const line of error.details) process.stderr.write(`    ${line}\n`)
  return EXIT_STATUS[error.verdict]
}

// a reader that closes its end (`kc ... | head`) is not an error
process.stdout.on('error', () => {})
const status = await runProgram(process.argv.slice(2)).catch(reportError)
// open handles, such as a terminal's input, must not keep kc from exiting; output is flushed first
process.exitCode = status
await new Promise(resolve => process.stdout.write('', resolve))
process.exit(status)
