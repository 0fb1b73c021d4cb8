import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'

/** An artifact as it arrived. */
export interface StoredArtifact {
  name: string
  /** the zip file */
  content: Buffer
  finalized: boolean
  hash?: string
  /** days until it expires */
  retentionDays?: number
}

/** A cache entry as it arrived. */
export interface StoredCache {
  key: string
  version: string
  content: Buffer
  finalized: boolean
}

/**
 * Something that goes wrong on demand. `on`: an RPC by its name, `upload` or `download` of a blob, or any request.
 *
 * - `status`: that answer, with the Twirp code and words that the service has for it
 * - `slow`: an answer that comes after so many milliseconds
 * - `stall`: a connection on which nothing ever comes
 * - `cut`: a connection that is closed in the middle, of a download after half of its bytes
 */
export interface Fault {
  on: 'any' | 'upload' | 'download' | RpcName
  does:
    | { kind: 'status'; status: number; code: string; words: string }
    | { kind: 'slow'; ms: number }
    | { kind: 'stall' }
    | { kind: 'cut' }
  times: number
}

export type RpcName =
  | 'CreateArtifact'
  | 'FinalizeArtifact'
  | 'CreateCacheEntry'
  | 'FinalizeCacheEntryUpload'
  | 'GetCacheEntryDownloadURL'

/** Answers of the service, in its own words. */
export const ANSWERS = {
  internal: { kind: 'status', status: 500, code: 'internal', words: 'a fault of the test' },
  unreadable: { kind: 'status', status: 400, code: 'malformed', words: 'a fault of the test' },
  exists: {
    kind: 'status',
    status: 409,
    code: 'already_exists',
    words: 'an entry of this name exists already',
  },
  full: {
    kind: 'status',
    status: 403,
    code: 'resource_exhausted',
    words: 'Artifact storage quota has been hit. Unable to upload any new artifacts.',
  },
} as const satisfies Record<string, Fault['does']>

/**
 * A stand-in for GitHub's results service: artifacts v4 and cache v2 over Twirp, contents as Azure block
 * blobs.
 */
export interface ResultsService {
  url: string
  artifacts: StoredArtifact[]
  caches: StoredCache[]
  /** refuse to store caches, as for a pull request from a fork */
  readOnly: boolean
  /** of the signed URLs; the client masks it */
  signature: string
  /** the token that the runner would hand to the step */
  token: string
  /** what is to go wrong; a fault is over when it has happened `times` times */
  faults: Fault[]
  close(): Promise<void>
}

async function body(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

const base64url = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** as long as a real one, since the client masks it */
const signature = randomUUID()

export async function startResultsService(): Promise<ResultsService> {
  const artifacts: StoredArtifact[] = []
  const blocks = new Map<string, Map<string, Buffer>>()
  const caches: StoredCache[] = []
  const uploads = new Map<string, { content: Buffer }>()

  const twirp = async (method: string, request: IncomingMessage, response: ServerResponse) => {
    const message = JSON.parse((await body(request)).toString())
    const answer = (value: unknown, status = 200) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
    }
    if (method === 'CreateArtifact') {
      if (artifacts.some(artifact => artifact.name === message.name && artifact.finalized)) {
        return answer(
          { code: 'already_exists', msg: 'an artifact with this name already exists on the workflow run' },
          409,
        )
      }
      const key = randomUUID()
      const artifact: StoredArtifact = { name: message.name, content: Buffer.alloc(0), finalized: false }
      if (message.expires_at)
        artifact.retentionDays = Math.round((Date.parse(message.expires_at) - Date.now()) / 86400_000)
      artifacts.push(artifact)
      uploads.set(key, artifact)
      return answer({
        ok: true,
        signed_upload_url: `${url}/devstoreaccount/artifacts/${key}?sig=${signature}`,
      })
    }
    if (method === 'FinalizeArtifact') {
      const artifact = artifacts.find(({ name, finalized }) => name === message.name && !finalized)
      if (!artifact || Number(message.size) !== artifact.content.length) return answer({ ok: false })
      artifact.finalized = true
      artifact.hash = message.hash
      return answer({ ok: true, artifact_id: String(artifacts.indexOf(artifact) + 1) })
    }
    if (method === 'CreateCacheEntry') {
      if (service.readOnly)
        return answer({ ok: false, message: 'cache write denied: the token is read-only' })
      const { key, version } = message
      if (caches.some(cache => cache.key === key && cache.version === version))
        return answer({ code: 'already_exists', msg: 'there is an entry with this key' }, 409)
      const cache: StoredCache = { key, version, content: Buffer.alloc(0), finalized: false }
      const id = randomUUID()
      caches.push(cache)
      uploads.set(id, cache)
      return answer({ ok: true, signed_upload_url: `${url}/devstoreaccount/caches/${id}?sig=${signature}` })
    }
    if (method === 'FinalizeCacheEntryUpload') {
      const cache = caches.find(({ key, version }) => key === message.key && version === message.version)
      if (!cache || Number(message.size_bytes) !== cache.content.length) return answer({ ok: false })
      cache.finalized = true
      return answer({ ok: true, entry_id: String(caches.indexOf(cache) + 1) })
    }
    if (method === 'GetCacheEntryDownloadURL') {
      const usable = caches.filter(cache => cache.finalized && cache.version === message.version).reverse()
      const prefixes: string[] = message.restore_keys ?? []
      const found =
        usable.find(({ key }) => key === message.key) ??
        prefixes.flatMap(prefix => usable.filter(({ key }) => key.startsWith(prefix)))[0]
      if (!found) return answer({ ok: false })
      const id = [...uploads].find(([, content]) => content === found)?.[0]
      return answer({
        ok: true,
        signed_download_url: `${url}/devstoreaccount/caches/${id}?sig=${signature}`,
        matched_key: found.key,
      })
    }
    return answer({ code: 'bad_route', msg: method }, 404)
  }

  /** A blob, or the part of it that was requested. */
  const give = (content: Buffer, request: IncomingMessage, response: ServerResponse) => {
    const range = /bytes=(\d+)-(\d*)/.exec(
      String(request.headers.range ?? request.headers['x-ms-range'] ?? ''),
    )
    const from = Number(range?.[1] ?? 0)
    const to = range?.[2] ? Math.min(Number(range[2]), content.length - 1) : content.length - 1
    const part = content.subarray(from, to + 1)
    response.writeHead(range ? 206 : 200, {
      'content-length': part.length,
      'accept-ranges': 'bytes',
      ...(range ? { 'content-range': `bytes ${from}-${to}/${content.length}` } : {}),
    })
    return response.end(request.method === 'HEAD' ? undefined : part)
  }

  /** Half of a blob, and the end of the connection. */
  const giveHalf = (at: URL, response: ServerResponse) => {
    const content = uploads.get(at.pathname.split('/').pop() ?? '')?.content ?? Buffer.alloc(2)
    response.writeHead(200, { 'content-length': content.length })
    response.write(content.subarray(0, content.length >> 1), () => response.destroy())
  }

  const blob = async (at: URL, request: IncomingMessage, response: ServerResponse) => {
    const key = at.pathname.split('/').pop() ?? ''
    const artifact = uploads.get(key)
    if (!artifact) return response.writeHead(404).end()
    if (request.method === 'GET' || request.method === 'HEAD')
      return give(artifact.content, request, response)
    if (request.method !== 'PUT') return response.writeHead(405).end()
    const content = await body(request)
    const mine = blocks.get(key) ?? new Map<string, Buffer>()
    blocks.set(key, mine)
    if (at.searchParams.get('comp') === 'block') mine.set(at.searchParams.get('blockid') ?? '', content)
    else if (at.searchParams.get('comp') === 'blocklist') {
      const ids = [...content.toString().matchAll(/<Latest>([^<]*)<\/Latest>/g)].map(match => match[1] ?? '')
      artifact.content = Buffer.concat(ids.map(id => mine.get(id) ?? Buffer.alloc(0)))
    } else artifact.content = content
    return response.writeHead(201, { etag: '"0"', 'last-modified': new Date().toUTCString() }).end()
  }

  const server = createServer(async (request, response) => {
    const at = new URL(request.url ?? '/', url)
    const method = /^\/twirp\/github\.actions\.results\.api\.v1\.(?:Artifact|Cache)Service\/(\w+)$/.exec(
      at.pathname,
    )?.[1]
    const what = method ?? (request.method === 'PUT' ? 'upload' : 'download')
    const fault = service.faults.find(({ on, times }) => times > 0 && (on === 'any' || on === what))
    if (fault) {
      fault.times--
      const { does } = fault
      if (does.kind === 'stall') return
      if (does.kind === 'cut') {
        if (what === 'download' && request.method === 'GET') return giveHalf(at, response)
        request.once('data', () => request.destroy())
        return
      }
      if (does.kind === 'status') {
        await body(request)
        response
          .writeHead(does.status, { 'content-type': 'application/json' })
          .end(JSON.stringify({ code: does.code, msg: does.words }))
        return
      }
      await pause(does.ms)
    }
    if (method) await twirp(method, request, response)
    else await blob(at, request, response)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const service: ResultsService = {
    url,
    artifacts,
    caches,
    readOnly: false,
    signature,
    token: `${base64url({ alg: 'none' })}.${base64url({ scp: 'Actions.Results:run-backend:job-backend', exp: 4102444800 })}.x`,
    faults: [],
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  return service
}
