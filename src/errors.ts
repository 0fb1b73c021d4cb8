import type { Diagnostic, Verdict } from './result.js'

/**
 * An error that says which stage of the pipeline failed, so that the verdict follows from it.
 * The message is one sentence for a person; `details` are further lines (a compiler's, git's, QEMU's).
 */
export class StageError extends Error {
  constructor(
    readonly verdict: Verdict,
    message: string,
    readonly details: readonly string[] = [],
  ) {
    super(message)
    this.name = new.target.name
  }
}

/** What was asked for makes no sense: found before any work, exit status 2, no verdict. */
export class InputError extends Error {
  override name = 'InputError'
}

export class SourceError extends StageError {
  constructor(message: string, details?: readonly string[]) {
    super('source-failed', message, details)
  }
}

export class ConfigError extends StageError {
  constructor(message: string, details?: readonly string[]) {
    super('config-failed', message, details)
  }
}

export class BuildError extends StageError {
  constructor(
    message: string,
    details?: readonly string[],
    readonly diagnostics: readonly Diagnostic[] = [],
  ) {
    super('build-failed', message, details)
  }
}

/** The machine's or our own trouble; never the kernel's. */
export class InfraError extends StageError {
  constructor(message: string, details?: readonly string[]) {
    super('infra-error', message, details)
  }
}

/** Stopped from outside (a signal, a cancelled job). */
export class Cancelled extends StageError {
  constructor(by = 'a signal') {
    super('cancelled', `The run was stopped by ${by}.`)
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** True for the error of a full disk or an exceeded quota (errno ENOSPC, EDQUOT). */
export function isDiskFull(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code
  return code === 'ENOSPC' || code === 'EDQUOT'
}
