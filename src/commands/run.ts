import { realpathSync } from 'node:fs'
import { createRunDirectory } from '../host/new-run-directory.js'
import { cancelOn } from '../host/signals.js'
import { runPipeline } from '../pipeline.js'
import { repeatCommand } from '../report/repeat-command.js'
import { terminalLog, terminalResult } from '../report/terminal.js'
import type { RawOptions } from '../request/options.js'
import { parseRequest } from '../request/parse.js'
import { EXIT_STATUS } from '../result.js'
import { ownTerminal } from './stdio.js'

/** kc without a verb: one run, whose verdict is the exit status. `argv` is the command after `--`. */
export async function runCommand(
  raw: RawOptions,
  argv: readonly string[] = [],
  verbose = false,
): Promise<number> {
  const { env } = process
  const cwd = process.cwd()
  const terminal = ownTerminal()
  const request = parseRequest(raw, { cwd, env, argv, terminal: terminal !== undefined, local: true })
  const runDirectory = await createRunDirectory(request.runDirectory)
  const log = terminalLog({ verbose, env })
  log.info(`results: ${runDirectory}`)
  const result = await runPipeline(
    request,
    {
      runDirectory,
      directory: realpathSync(cwd),
      env,
      repeat: sha => repeatCommand(raw, sha, argv),
      // a cancelled run still stops the guest and writes its result
      cancel: cancelOn('SIGINT', 'SIGTERM', 'SIGHUP'),
      ...(request.command.kind === 'shell' ? { terminal } : {}),
    },
    log,
  )
  process.stderr.write(terminalResult(result, env))
  return EXIT_STATUS[result.verdict]
}
