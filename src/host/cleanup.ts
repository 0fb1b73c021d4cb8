/** What has to be undone when a run ends, whichever way it ends. */
export interface Cleanup {
  /** Adds work; what was added last is done first. */
  defer(work: () => Promise<void> | void): void
  /** Does all of it, each once. One that fails does not keep the others from being done; the first error is thrown. */
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
