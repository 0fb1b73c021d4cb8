import { randomUUID } from 'node:crypto'
import { isAbsolute, join } from 'node:path'
import * as core from '@actions/core'
import { describeProgress, type Log } from '../log.js'

/** GitHub shows ten annotations of each level for a step, and the last error is the verdict's. */
const MOST_ERRORS = 9
const MOST_WARNINGS = 10
const PROGRESS_SECONDS = 30

/**
 * A job's log: a group for each stage, annotations for warnings and compiler errors. What the guest says is written
 * between stop-commands markers, so that a line of its console that looks like a workflow command is only text.
 * `placeTree` says where in the repository the kernel tree lies; until then annotations name no file of it.
 */
export function jobLog(): Log & { close(): void; placeTree(prefix: string): void } {
  let open = false
  let tree: string | undefined
  let token: string | undefined
  let errors = 0
  let warnings = 0
  let lastProgress = 0
  let atLineStart = true

  const stop = () => {
    if (token !== undefined) return
    token = `kernelcraft-${randomUUID()}`
    process.stdout.write(`::stop-commands::${token}\n`)
    atLineStart = true
  }
  /** Before a command of ours: the guest's text ends with a line of its own. */
  const resume = () => {
    if (token === undefined) return
    process.stdout.write(`${atLineStart ? '' : '\n'}::${token}::\n`)
    token = undefined
  }
  const close = () => {
    resume()
    if (open) core.endGroup()
    open = false
  }

  return {
    close,
    placeTree(prefix) {
      tree = prefix
    },
    stage(_stage, title) {
      close()
      core.startGroup(title)
      open = true
      lastProgress = performance.now()
    },
    stageEnd(_stage, summary) {
      close()
      core.info(summary)
    },
    info(message) {
      resume()
      core.info(message)
    },
    warning(message) {
      resume()
      if (warnings++ < MOST_WARNINGS) core.warning(message)
      else core.info(message)
    },
    diagnostic({ file, line, column, message, external = false }, by = 'Compiler') {
      resume()
      if (errors++ < MOST_ERRORS) {
        const place = {
          file: external ? file : join(tree ?? '', file),
          startLine: line,
          ...(column ? { startColumn: column } : {}),
        }
        if (tree !== undefined || (external && !isAbsolute(file)))
          core.error(message, { ...place, title: by })
        else core.error(`${file}:${line}: ${message}`, { title: by })
      } else core.info(`${file}:${line}: ${message}`)
    },
    progress(progress) {
      const now = performance.now()
      if (now - lastProgress < PROGRESS_SECONDS * 1000) return
      lastProgress = now
      resume()
      core.info(describeProgress(progress))
    },
    detail(line) {
      // make runs the tree's own code, so its words are no more trusted than the guest's
      stop()
      process.stdout.write(`${line}\n`)
      atLineStart = true
    },
    guest(_stream, chunk) {
      if (chunk.length === 0) return
      stop()
      process.stdout.write(chunk)
      atLineStart = chunk[chunk.length - 1] === 0x0a
    },
  }
}
