import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { releaseLock, takeLock } from '../../src/host/lock.js'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'kernelcraft-locks-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** Another process that holds a lock, as a KernelCraft that was started before; it prints a line once it has it. */
async function holder(path: string): Promise<ChildProcess> {
  const script = 'exec 3>"$1"; flock -n 3; echo holder >&3; echo held; exec sleep 600'
  const child = spawn('sh', ['-c', script, 'holder', path], { stdio: ['ignore', 'pipe', 'inherit'] })
  if (child.stdout) await once(child.stdout, 'data')
  return child
}

describe('a lock', () => {
  it('is held once, and is free again after its release', async () => {
    const path = join(directory, 'once')
    expect(await takeLock(path)).toBe('free')
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ pid: process.pid })
    expect(await takeLock(path)).toBeUndefined()
    await releaseLock(path)
    expect(existsSync(path)).toBe(false)
    expect(await takeLock(path)).toBe('free')
    await releaseLock(path)
  })

  it('of a process that was killed is taken over by one of many', async () => {
    const path = join(directory, 'killed')
    const child = await holder(path)
    try {
      expect(await takeLock(path)).toBeUndefined()
    } finally {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    const taken = await Promise.all(Array.from({ length: 8 }, () => takeLock(path)))
    expect(taken.filter(Boolean)).toEqual(['abandoned'])
    await releaseLock(path)
  })

  it('that another process has taken meanwhile is not released', async () => {
    const path = join(directory, 'replaced')
    expect(await takeLock(path)).toBe('free')
    rmSync(path)
    writeFileSync(path, 'another')
    await releaseLock(path)
    expect(readFileSync(path, 'utf8')).toBe('another')
    await releaseLock(path)
  })

  it('cannot be taken where its directory does not exist', async () => {
    await expect(takeLock(join(directory, 'none', 'lock'))).rejects.toThrow('ENOENT')
  })
})
