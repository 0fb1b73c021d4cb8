import type { Diagnostic, Stage } from './result.js'

/** Progress of a build: objects done, and an estimate of their total where there is one. */
export interface Progress {
  done: number
  total?: number
  what: string
}

/** Progress as a line for a terminal or a job log. */
export function describeProgress({ done, total, what }: Progress): string {
  return total
    ? `${Math.floor((100 * done) / total)} % (${done} of about ${total}) ${what}`
    : `${done} done, ${what}`
}

/**
 * Receives the pipeline's messages; nothing else prints. A terminal and a job log have one each. Its functions are called
 * without `this`.
 */
export interface Log {
  /** a stage begins; `title` is what it does, in the imperative */
  stage(stage: Stage, title: string): void
  /** the stage has ended; `summary` is its result, in one line */
  stageEnd(stage: Stage, summary: string): void
  info(message: string): void
  warning(message: string): void
  /** a message of the compiler or the kernel about a line of the source */
  diagnostic(diagnostic: Diagnostic, by?: 'Compiler' | 'Kernel'): void
  progress(progress: Progress): void
  /** a line of output of a tool, for verbose logs; untrusted */
  detail(line: string): void
  /** output of the guest; untrusted: it must not look like output of KernelCraft */
  guest(stream: 'stdout' | 'stderr' | 'console', chunk: Buffer): void
}
