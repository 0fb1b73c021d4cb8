/** Seconds that one restore, save or upload may take; the job's time is worth more than a cache. */
const SECONDS = { restore: 300, save: 900, upload: 900 } as const

/** Sets the limit of every kind, for services that are known to be slower or faster. */
const VARIABLE = 'KERNELCRAFT_SERVICE_SECONDS'

/** A request to one of GitHub's services that took longer than its limit. */
export class ServiceTimeout extends Error {}

/**
 * Waits for work with one of GitHub's services up to a limit: the clients' own deadlines add up to a quarter of an hour
 * for a service that accepts a connection and sends nothing. Throws ServiceTimeout after that; the work may go on until
 * the step ends, and nothing waits for it.
 */
export async function withTimeout<T>(kind: keyof typeof SECONDS, work: () => Promise<T>): Promise<T> {
  const configured = Number(process.env[VARIABLE])
  const seconds = configured > 0 ? configured : SECONDS[kind]
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new ServiceTimeout(`the service did not respond within ${seconds} s`)),
      seconds * 1000,
    )
  })
  const working = work()
  // an error after the timeout must not become an unhandled rejection
  working.catch(() => {})
  try {
    return await Promise.race([working, timeout])
  } finally {
    clearTimeout(timer)
  }
}
