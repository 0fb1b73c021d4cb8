import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { InfraError } from '../errors.js'
import { childEnvironment } from '../host/environment.js'
import { guardGroup, killGroup, lastLines, run } from '../host/processes.js'

/** An ssh-agent of our own, which holds one key. */
export interface Agent {
  socket: string
  end(): Promise<void>
}

/**
 * Starts an ssh-agent with a private key in its memory: the key is never written to a disk, and gone with the agent, which
 * does not outlive us. Throws InfraError if it is no key, or one with a passphrase.
 */
export async function startAgent(key: string, socket: string): Promise<Agent> {
  const child = spawn('ssh-agent', ['-D', '-a', socket], {
    detached: true,
    stdio: 'ignore',
    env: childEnvironment('plain'),
  })
  child.on('error', () => {})
  const { pid } = child
  if (pid === undefined) throw new InfraError('ssh-agent is not installed here: install the OpenSSH client.')
  child.unref()
  const dismiss = guardGroup(pid)
  const end = async () => {
    dismiss()
    await killGroup(pid)
  }
  for (let tries = 0; tries < 100 && !existsSync(socket); tries++) await pause(50)
  const added = await run({
    file: 'ssh-add',
    args: ['-q', '-'],
    env: { SSH_AUTH_SOCK: socket, SSH_ASKPASS_REQUIRE: 'never' },
    // the format ends with a newline, which inputs lose
    input: `${key.replaceAll('\r', '').trimEnd()}\n`,
    deadline: 30,
  })
  if (added.status !== 0) {
    await end()
    throw new InfraError(
      'build-host-key is no private key that can be used: give an OpenSSH key without a passphrase.',
      lastLines(added.stderr, 1),
    )
  }
  return { socket, end }
}
