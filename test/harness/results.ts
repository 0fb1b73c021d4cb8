import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** An artifact as it arrived. */
export interface StoredArtifact {
  name: string
  /** the zip file */
  content: Buffer
  finalized: boolean
  hash?: string
}

/** A stand-in for GitHub's results service: artifacts v4 over Twirp, contents as Azure block blobs. */
export interface ResultsService {
  url: string
  artifacts: StoredArtifact[]
  /** the token that the runner would hand to the step */
  token: string
  /** answer this many of the coming requests with that status */
  failWith(status: number, count: number): void
  close(): Promise<void>
}

async function body(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

const base64url = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

export async function startResultsService(): Promise<ResultsService> {
  const artifacts: StoredArtifact[] = []
  const blocks = new Map<string, Map<string, Buffer>>()
  const uploads = new Map<string, StoredArtifact>()
  let failure = { status: 0, count: 0 }

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
      artifacts.push(artifact)
      uploads.set(key, artifact)
      return answer({ ok: true, signed_upload_url: `${url}/devstoreaccount/artifacts/${key}?sig=x` })
    }
    if (method === 'FinalizeArtifact') {
      const artifact = artifacts.find(({ name, finalized }) => name === message.name && !finalized)
      if (!artifact || Number(message.size) !== artifact.content.length) return answer({ ok: false })
      artifact.finalized = true
      artifact.hash = message.hash
      return answer({ ok: true, artifact_id: String(artifacts.indexOf(artifact) + 1) })
    }
    return answer({ code: 'bad_route', msg: method }, 404)
  }

  const blob = async (at: URL, request: IncomingMessage, response: ServerResponse) => {
    const key = at.pathname.split('/').pop() ?? ''
    const artifact = uploads.get(key)
    if (request.method !== 'PUT' || !artifact) return response.writeHead(404).end()
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
    if (failure.count > 0) {
      failure.count--
      await body(request)
      response
        .writeHead(failure.status, { 'content-type': 'application/json' })
        .end('{"code":"internal","msg":"asked to fail"}')
      return
    }
    const at = new URL(request.url ?? '/', url)
    const method = /^\/twirp\/github\.actions\.results\.api\.v1\.ArtifactService\/(\w+)$/.exec(
      at.pathname,
    )?.[1]
    if (method) await twirp(method, request, response)
    else await blob(at, request, response)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url,
    artifacts,
    token: `${base64url({ alg: 'none' })}.${base64url({ scp: 'Actions.Results:run-backend:job-backend', exp: 4102444800 })}.x`,
    failWith(status, count) {
      failure = { status, count }
    },
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
