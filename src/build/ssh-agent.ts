import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { InfraError } from '../errors.js'
import { childEnvironment } from '../host/environment.js'
import { guardGroup, killGroup, lastLines, run } from '../host/processes.js'

/** An ssh-agent that holds one key, for one run. */
export interface Agent {
  socket: string
  end(): Promise<void>
}

/** The agent's socket is waited for in steps of 50 ms. */
const MOST_TRIES = 100
const TRY_MS = 50

/**
 * Starts an ssh-agent with a private key in its memory: the key is never written to a disk, and the agent does not outlive
 * this process. Throws InfraError if the key is not an OpenSSH private key, or has a passphrase.
 */
export async function startAgent(key: string, socket: string): Promise<Agent> {
  const child = spawn('ssh-agent', ['-D', '-a', socket], {
    detached: true,
    stdio: 'ignore',
    env: childEnvironment('plain'),
  })
  child.on('error', () => {})
  const { pid } = child
  if (pid === undefined)
    throw new InfraError('ssh-agent is not installed on this machine: install the OpenSSH client.')
  child.unref()
  const dismiss = guardGroup(pid)
  const end = async () => {
    dismiss()
    await killGroup(pid)
  }
  for (let tries = 0; tries < MOST_TRIES && !existsSync(socket); tries++) await pause(TRY_MS)
  try {
    await addKey(key, socket)
  } catch (error) {
    await end()
    throw error
  }
  return { socket, end }
}

async function addKey(key: string, socket: string): Promise<void> {
  const added = await run({
    file: 'ssh-add',
    args: ['-q', '-'],
    env: { SSH_AUTH_SOCK: socket, SSH_ASKPASS_REQUIRE: 'never' },
    // the format ends with a newline, which inputs lose
    input: `${key.replaceAll('\r', '').trimEnd()}\n`,
    deadline: 30,
  })
  if (added.status === 0) return
  throw new InfraError(
    'build-host-key is not a usable private key: give an OpenSSH key without a passphrase.',
    lastLines(added.stderr, 1),
  )
}
