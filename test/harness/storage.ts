import { createReadStream, createWriteStream, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join, normalize } from 'node:path'
import { pipeline } from 'node:stream/promises'

/** A remote storage for ccache over HTTP (ccache(1), HTTP storage backend), kept in a directory. */
export interface CcacheStorage {
  url: string
  /** requests since the start, by method */
  requests: Record<string, number>
  close(): Promise<void>
}

export async function startCcacheStorage(directory: string): Promise<CcacheStorage> {
  mkdirSync(directory, { recursive: true })
  const requests: Record<string, number> = {}
  let drafts = 0
  const server = createServer(async (request, response) => {
    const method = request.method ?? ''
    requests[method] = (requests[method] ?? 0) + 1
    // ccache's own layout of a directory (ccache(1), file storage): two characters, then the rest
    const path = join(directory, normalize(`/${request.url ?? ''}`))
    try {
      if (method === 'PUT') {
        const draft = `${path}.${drafts++}`
        mkdirSync(dirname(path), { recursive: true })
        await pipeline(request, createWriteStream(draft))
        renameSync(draft, path)
        response.writeHead(201).end()
      } else if (!existsSync(path)) response.writeHead(404).end()
      else if (method === 'GET') await pipeline(createReadStream(path), response.writeHead(200))
      else if (method === 'HEAD') response.writeHead(200).end()
      else if (method === 'DELETE') {
        rmSync(path)
        response.writeHead(204).end()
      } else response.writeHead(405).end()
    } catch {
      response.destroy()
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    requests,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
