import type { Stage } from '../result.js'

/** Runs one stage of a run: announced, timed, summed up in a line. */
export type RunStage = <T>(
  name: Stage,
  title: string,
  work: () => Promise<T>,
  sum: (made: T) => string,
) => Promise<T>
