import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDiskFull } from '../errors.js'
import type { Result } from '../result.js'
import { FILES } from '../run-directory.js'
import { summarize } from './summary.js'

/** Writes result.json and summary.md. A disk that is full changes the verdict, but ends nothing. */
export async function writeResult(result: Result): Promise<void> {
  const { runDirectory } = result
  result.files = Object.fromEntries(
    Object.entries(FILES).filter(
      ([kind, name]) => kind === 'result' || kind === 'summary' || existsSync(join(runDirectory, name)),
    ),
  )
  try {
    await writeFile(join(runDirectory, FILES.summary), summarize(result))
    await writeFile(join(runDirectory, FILES.result), `${JSON.stringify(result, null, 2)}\n`)
  } catch (error) {
    if (!isDiskFull(error)) throw error
    result.verdict = 'infra-error'
    result.title = 'The disk is full: the result could not be written.'
  }
}
