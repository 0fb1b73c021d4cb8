import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type FileHandle, open, rm, stat } from 'node:fs/promises'
import { InfraError, messageOf } from '../errors.js'
import { childEnvironment } from './environment.js'
import { processId } from './proc.js'

/*
 * Exclusive locks between processes, with flock(2): the kernel releases a lock when its holder ends, however it ends, so
 * there is no stale lock to detect and no race to remove one. It holds for hours without work, across a suspend of the
 * machine, and between containers that share the directory, where a PID of one means nothing in the other.
 *
 * Lock files with a heartbeat (proper-lockfile) are no replacement: a holder whose event loop stands still for longer
 * than the threshold (SIGSTOP, suspend) loses its lock while it works, and one that was killed keeps it until then.
 *
 * Node.js has no flock(). A lock belongs to the open file description, which flock(1) shares when it inherits the
 * descriptor: it takes the lock and exits, and the lock stays with this process. Node.js opens files with O_CLOEXEC, so
 * no other child keeps it.
 */

/** Open files whose locks this process holds, by path. */
const held = new Map<string, FileHandle>()

/** A lock file that is removed again and again while it is opened: more often than that, the file system is at fault. */
const MAX_TRIES = 20

/** flock(1) does not wait for the lock (-n); this limit is for a file system that does not respond. */
const TIMEOUT_MS = 30_000

/**
 * Takes the lock at `path` for this process: `free` where nothing held it, `abandoned` where its holder ended without
 * releasing it, undefined where another holder has it. Throws the file system's error where the file cannot be created,
 * and InfraError where flock(1) fails.
 */
export async function takeLock(path: string): Promise<'free' | 'abandoned' | undefined> {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const file = await openLockFile(path)
    let taken = false
    try {
      if (!(await tryFlock(file.fd, path))) return undefined
      // a holder removes the file before it releases the lock: what was opened may be a removed file
      if (!(await isAt(file, path))) continue
      const state = (await file.stat()).size > 0 ? 'abandoned' : 'free'
      // for people who look for the holder; only the lock counts
      await file.truncate()
      await file.write(JSON.stringify(processId(process.pid)))
      await held.get(path)?.close()
      held.set(path, file)
      taken = true
      return state
    } finally {
      if (!taken) await file.close()
    }
  }
  throw new InfraError(`${path} cannot be locked: the file system does not keep the file.`)
}

/** Opens the lock file. One that another user's run left behind is replaced, as far as the directory permits it. */
async function openLockFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'a+')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
    const readable = await open(path, 'r')
    try {
      // one whose holder lives is not touched
      if (await tryFlock(readable.fd, path)) await rm(path, { force: true })
    } finally {
      await readable.close()
    }
    return await open(path, 'a+')
  }
}

/** Removes the lock file and releases the lock; does nothing where this process does not hold it. */
export async function releaseLock(path: string): Promise<void> {
  const file = held.get(path)
  if (!file) return
  held.delete(path)
  try {
    if (await isAt(file, path)) await rm(path, { force: true })
  } finally {
    await file.close()
  }
}

/** Locks an open file without waiting; false if another open file description has the lock. */
async function tryFlock(fd: number, path: string): Promise<boolean> {
  const flock = spawn('flock', ['-x', '-n', '0'], {
    stdio: [fd, 'ignore', 'ignore'],
    env: childEnvironment('plain'),
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
  })
  let reason: string
  try {
    const [status, signal] = await once(flock, 'exit')
    if (status === 0) return true
    // flock(1): 1 for a lock that is held, 64 and above for errors
    if (status === 1) return false
    reason = status === null ? `flock was ended by ${signal}` : `flock exited with status ${status}`
  } catch (error) {
    reason = `${messageOf(error)}; flock is in the package util-linux`
  }
  throw new InfraError(`${path} cannot be locked (${reason}).`)
}

const unlessMissing = (error: NodeJS.ErrnoException): undefined => {
  if (error.code !== 'ENOENT') throw error
}

/** True if the path still leads to the open file. */
async function isAt(file: FileHandle, path: string): Promise<boolean> {
  const [open, found] = await Promise.all([file.stat(), stat(path).catch(unlessMissing)])
  return open.ino === found?.ino && open.dev === found.dev
}
