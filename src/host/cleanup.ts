/** A stack of cleanup functions for the end of a run, in whatever way it ends. */
export interface Cleanup {
  /** Adds a function; the last one added is called first. */
  defer(work: () => Promise<void> | void): void
  /** Calls all functions, each once, also after one of them failed; then throws the first error. */
  run(): Promise<void>
}

export function cleanupStack(): Cleanup {
  const stack: (() => Promise<void> | void)[] = []
  return {
    defer: work => void stack.push(work),
    async run() {
      const errors: unknown[] = []
      for (let work = stack.pop(); work; work = stack.pop()) {
        try {
          await work()
        } catch (error) {
          errors.push(error)
        }
      }
      if (errors.length > 0) throw errors[0]
    },
  }
}
