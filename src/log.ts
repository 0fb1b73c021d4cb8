import type { Diagnostic, Stage } from './result.js'

/** How far a build is: objects done, and of about how many where that is known. */
export interface Progress {
  done: number
  total?: number
  what: string
}

/** Progress in words, for a line of a terminal or a job log. */
export function describeProgress({ done, total, what }: Progress): string {
  return total
    ? `${Math.floor((100 * done) / total)} % (${done} of about ${total}) ${what}`
    : `${done} done, ${what}`
}

/**
 * Whom the pipeline tells what it is doing. A terminal and a job log each have their own; rooms never print.
 */
export interface Log {
  /** a stage begins; `title` says what is about to happen */
  stage(stage: Stage, title: string): void
  /** the stage has ended, with one line that says what came of it */
  stageEnd(stage: Stage, summary: string): void
  info(message: string): void
  warning(message: string): void
  /** a place in the source that a compiler, or the kernel itself, complained about */
  diagnostic(diagnostic: Diagnostic, by?: 'Compiler' | 'Kernel'): void
  progress(progress: Progress): void
  /** a line of a tool that we run, for those who want to see all */
  detail(line: string): void
  /** bytes that the guest wrote: never to be taken for anything of ours */
  guest(stream: 'stdout' | 'stderr' | 'console', chunk: Buffer): void
}
