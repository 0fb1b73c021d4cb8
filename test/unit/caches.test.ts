import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { type CacheOffer, cacheEntryPath, type RemoteCaches } from '../../src/build/remote-caches.js'
import { githubCaches, saveOffers } from '../../src/github/caches.js'
import { ANSWERS, type ResultsService, startResultsService } from '../harness/results.js'

/** GitHub's client and a service, without a kernel: what is stored is a file. */

let service: ResultsService
let home: string
let caches: RemoteCaches | undefined
const offers: CacheOffer[] = ['a', 'b'].map(digit => ({ kind: 'kernel', key: digit.repeat(64) }))

beforeAll(async () => {
  service = await startResultsService()
  home = mkdtempSync(join(tmpdir(), 'kernelcraft-caches-'))
  for (const [name, value] of Object.entries({
    ACTIONS_RESULTS_URL: service.url,
    ACTIONS_RUNTIME_TOKEN: service.token,
    ACTIONS_CACHE_SERVICE_V2: 'True',
    GITHUB_SERVER_URL: 'https://github.com',
    KERNELCRAFT_CACHE: join(home, 'cache'),
    RUNNER_TEMP: home,
  }))
    vi.stubEnv(name, value)
  // while the machine has no caches of its own
  caches = githubCaches(process.env, '', () => {})
})
afterAll(async () => {
  vi.unstubAllEnvs()
  rmSync(home, { recursive: true, force: true })
  await service.close()
})
beforeEach(() => {
  service.caches.length = 0
  for (const { kind, key } of offers) {
    mkdirSync(cacheEntryPath(kind, key), { recursive: true })
    writeFileSync(join(cacheEntryPath(kind, key), 'image'), key)
  }
})

/** What `work` writes to the job log. */
async function logOf(work: () => Promise<unknown>): Promise<string> {
  let log = ''
  const { write } = process.stdout
  process.stdout.write = ((chunk: string | Uint8Array) => {
    log += chunk
    return true
  }) as typeof write
  try {
    await work()
  } finally {
    process.stdout.write = write
  }
  return log
}

const ANNOTATION = /^::(?:warning|error)/m

describe("GitHub's cache", () => {
  it('gets what is offered, once', async () => {
    await logOf(() => saveOffers(offers))
    expect(service.caches.map(({ finalized }) => finalized)).toEqual([true, true])
    const again = await logOf(() => saveOffers(offers))
    expect(again.match(/already exists/g)).toHaveLength(2)
    expect(service.caches).toHaveLength(2)
  })

  it('that may only be read is a line of information, and nothing more is packed for it', async () => {
    service.readOnly = true
    const log = await logOf(() => saveOffers(offers))
    service.readOnly = false
    expect(log).not.toMatch(ANNOTATION)
    expect(log).toContain('This run may only read caches, so nothing is saved.')
    expect(log.match(/kernel cache: /g)).toHaveLength(1)
    expect(service.caches).toEqual([])
  })

  it('in trouble is a line of information, in main and in post', async () => {
    service.faults = [{ on: 'any', does: ANSWERS.unreadable, times: 1000 }]
    const restored = await logOf(async () =>
      expect(await caches?.restore('kernel', 'c'.repeat(64))).toBeUndefined(),
    )
    const saved = await logOf(() => saveOffers(offers))
    service.faults = []
    expect(restored).toContain('Failed to restore')
    expect(saved).toContain('not saved')
    expect(restored + saved).not.toMatch(ANNOTATION)
  })
})
