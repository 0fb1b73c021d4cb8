import { randomUUID } from 'node:crypto'
import { isAbsolute, join } from 'node:path'
import * as core from '@actions/core'
import { describeProgress, type Log } from '../log.js'
import type { Diagnostic } from '../result.js'

/** GitHub shows ten annotations of each level for a step, and the last error is the verdict's. */
const MAX_ERRORS = 9
const MAX_WARNINGS = 10
const PROGRESS_INTERVAL_MS = 30_000

export interface JobLog extends Log {
  /** Ends the open group. */
  close(): void
  /** Sets where in the repository the kernel tree is; until then annotations name no file of the tree. */
  setTreeDirectory(path: string): void
}

/**
 * A job's log: a group for each stage, annotations for warnings and for diagnostics of the compiler and the kernel. Its
 * functions need no `this`, as those of every Log.
 */
export function jobLog(): JobLog {
  const untrusted = untrustedOutput()
  let groupOpen = false
  let treeDirectory: string | undefined
  let errors = 0
  let warnings = 0
  let lastProgress = 0

  const close = () => {
    untrusted.end()
    if (groupOpen) core.endGroup()
    groupOpen = false
  }
  const info = (message: string) => {
    untrusted.end()
    core.info(message)
  }

  return {
    close,
    info,
    setTreeDirectory(path) {
      treeDirectory = path
    },
    stage(_stage, title) {
      close()
      core.startGroup(title)
      groupOpen = true
      lastProgress = performance.now()
    },
    stageEnd(_stage, summary) {
      close()
      core.info(summary)
    },
    warning(message) {
      untrusted.end()
      if (warnings++ < MAX_WARNINGS) core.warning(message)
      else core.info(message)
    },
    diagnostic(diagnostic, by = 'Compiler') {
      untrusted.end()
      if (errors++ < MAX_ERRORS) annotate(diagnostic, by, treeDirectory)
      else core.info(diagnosticText(diagnostic))
    },
    progress(progress) {
      const now = performance.now()
      if (now - lastProgress < PROGRESS_INTERVAL_MS) return
      lastProgress = now
      info(describeProgress(progress))
    },
    // make runs the tree's own code: its lines are no more trusted than the guest's
    detail: line => untrusted.write(`${line}\n`),
    guest: (_stream, chunk) => untrusted.write(chunk),
  }
}

/**
 * Writes output that KernelCraft did not produce (the guest's console, make's lines) between stop-commands markers: a
 * line of it that looks like a workflow command is only text.
 */
function untrustedOutput(): { write(chunk: string | Buffer): void; end(): void } {
  let token: string | undefined
  let atLineStart = true
  return {
    write(chunk) {
      if (chunk.length === 0) return
      if (token === undefined) {
        token = `kernelcraft-${randomUUID()}`
        process.stdout.write(`::stop-commands::${token}\n`)
      }
      process.stdout.write(chunk)
      atLineStart = chunk.at(-1) === (typeof chunk === 'string' ? '\n' : 0x0a)
    },
    /** Workflow commands work again. A last line without a newline is ended first: a command begins a line. */
    end() {
      if (token === undefined) return
      process.stdout.write(`${atLineStart ? '' : '\n'}::${token}::\n`)
      token = undefined
    },
  }
}

const diagnosticText = ({ file, line, message }: Diagnostic) => `${file}:${line}: ${message}`

/** An error annotation, at a line of a file where the repository has that file. */
function annotate(diagnostic: Diagnostic, title: string, treeDirectory: string | undefined): void {
  const { line, column, message } = diagnostic
  const file = annotationPath(diagnostic, treeDirectory)
  if (file === undefined) core.error(diagnosticText(diagnostic), { title })
  else core.error(message, { file, startLine: line, ...(column ? { startColumn: column } : {}), title })
}

/** Path of a diagnostic's file in the repository; undefined if it is not in the repository. */
function annotationPath({ file, external = false }: Diagnostic, treeDirectory?: string): string | undefined {
  if (external) return treeDirectory === undefined && isAbsolute(file) ? undefined : file
  return treeDirectory === undefined ? undefined : join(treeDirectory, file)
}
