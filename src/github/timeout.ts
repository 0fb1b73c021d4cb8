/** Seconds that one restore, save or upload may take; the job's time is worth more than a cache. */
const SECONDS = { restore: 300, save: 900, upload: 900 } as const

/** Says the limit for every kind, for services that are known to be slower, or quicker. */
const VARIABLE = 'KERNELCRAFT_SERVICE_SECONDS'

/** A service that took longer than anybody waits. */
export class ServiceTimeout extends Error {}

/**
 * Waits for work with one of GitHub's services, but not for ever: the clients' own deadlines add up to a quarter of an
 * hour for a service that accepts a connection and says nothing. Throws Silent when the time is over; what was begun
 * may go on until the step ends, and nothing waits for it.
 */
export async function withTimeout<T>(kind: keyof typeof SECONDS, work: () => Promise<T>): Promise<T> {
  const told = Number(process.env[VARIABLE])
  const seconds = told > 0 ? told : SECONDS[kind]
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new ServiceTimeout(`the service did not answer within ${seconds} s`)),
      seconds * 1000,
    )
  })
  const begun = work()
  // an error that comes when nobody listens any more is no error of the step
  begun.catch(() => {})
  try {
    return await Promise.race([begun, late])
  } finally {
    clearTimeout(timer)
  }
}
