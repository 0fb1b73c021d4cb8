import type { Diagnostic, Verdict } from './result.js'

/**
 * An error with the verdict of the pipeline's stage that failed. The message is one sentence for the user; `details` are
 * lines of output (of a compiler, git, QEMU).
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

/** Invalid input, found before any work: exit status 2, no verdict. */
export class InputError extends Error {
  override name = 'InputError'

  constructor(
    message: string,
    /** the option whose value is invalid, where it is known */
    readonly option?: string,
  ) {
    super(message)
  }
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

/** A failure of the machine or of KernelCraft, never of the kernel under test. */
export class InfraError extends StageError {
  constructor(message: string, details?: readonly string[]) {
    super('infra-error', message, details)
  }
}

/** Cancelled by a signal or a cancelled job. */
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
