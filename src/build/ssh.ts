import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { InfraError } from '../errors.js'
import { type Cleanup, cleanupStack } from '../host/cleanup.js'
import { type Command, describeEnd, type Finished, lastLines, run } from '../host/processes.js'
import { shellQuote } from '../host/shell-quote.js'
import type { BuildHostRequest } from '../request/request.js'
import { startAgent } from './ssh-agent.js'

/** ssh's own status for a connection that was not made, or was lost (ssh(1), EXIT STATUS). */
const SSH_FAILED = 255

/** Messages of ssh about a connection that failed, and what the user can do about each. */
const CONNECTION_ERRORS: readonly (readonly [RegExp, (host: string) => string])[] = [
  [
    /Host key verification failed|No \S+ host key is known/,
    host =>
      `The host key of ${host} is unknown or has changed: verify it, then run \`ssh ${host}\` once or give build-host-known-hosts.`,
  ],
  [
    /Permission denied \(/,
    host =>
      `${host} refused this user and key (permission denied): check the user's name and its authorized_keys on that machine.`,
  ],
  [/Could not resolve hostname/, host => `The host name of ${host} could not be resolved.`],
  [
    /Connection (?:refused|timed out)|No route to host|Network is unreachable/,
    host => `${host} does not answer on its ssh port.`,
  ],
]

/** Messages of a full disk or an exceeded quota. */
const DISK_FULL = /No space left on device|Disk quota exceeded/

/**
 * Runs its arguments as a command, and ends it with all processes that it started when the connection ends: nothing is
 * read from stdin but its end, which is the end of the local ssh. One line, for login shells that are not POSIX.
 */
const END_WITH_CONNECTION =
  'exec 3<&0; (exec >/dev/null 2>&1; cat <&3; trap "" TERM; kill -s TERM 0; sleep 2; kill -s KILL 0) & watch=$!; ' +
  '"$@" 3<&- </dev/null; status=$?; kill $watch 2>/dev/null; exit $status'

export type RemoteCall = Pick<Command, 'cancel' | 'deadline' | 'onLine' | 'onData' | 'input' | 'keep'>

/**
 * Connects to the build host. ssh does not prompt for anything; the first command shows whether the host can be reached.
 * Throws InfraError if the private key cannot be used.
 */
export async function openSsh({ destination, key, knownHosts }: BuildHostRequest): Promise<Ssh> {
  const cleanup = cleanupStack()
  try {
    // the path of a socket has 108 bytes at most (unix(7))
    const directory = await mkdtemp(join(tmpdir(), 'kcssh-'))
    cleanup.defer(() => rm(directory, { recursive: true, force: true }))
    const options = connectionOptions(directory)
    if (knownHosts.length > 0) options.push(...(await knownHostsOptions(directory, knownHosts)))
    if (key !== undefined) {
      const agent = await startAgent(key, join(directory, 'agent'))
      cleanup.defer(agent.end)
      options.push(`IdentityAgent=${agent.socket}`)
    }
    return new Ssh(destination, options, cleanup)
  } catch (error) {
    await cleanup.run()
    throw error
  }
}

/** Options of ssh_config(5); `directory` gets the socket of the connection. */
function connectionOptions(directory: string): string[] {
  return [
    'BatchMode=yes',
    'ConnectTimeout=20',
    // a connection that is lost is noticed within half a minute
    'ServerAliveInterval=10',
    'ServerAliveCountMax=3',
    'ControlMaster=auto',
    'ControlPersist=30',
    `ControlPath=${join(directory, 's')}`,
    'LogLevel=ERROR',
  ]
}

/** Options that accept these host keys and no others; `lines` are those of known_hosts(5). */
async function knownHostsOptions(directory: string, lines: readonly string[]): Promise<string[]> {
  const file = join(directory, 'known_hosts')
  await writeFile(file, lines.map(line => `${line}\n`).join(''), { mode: 0o600 })
  return [`UserKnownHostsFile=${file}`, 'GlobalKnownHostsFile=/dev/null', 'StrictHostKeyChecking=yes']
}

/** A machine that is reached by ssh, over one connection for all commands. */
export class Ssh {
  private readonly sshArgs: readonly string[]

  constructor(
    /** as the request names it */
    readonly host: string,
    options: readonly string[],
    private readonly cleanup: Cleanup,
  ) {
    this.sshArgs = options.flatMap(option => ['-o', option])
  }

  /**
   * Runs a script of a POSIX shell on the host, with `args` as its arguments; it ends with the connection. Throws
   * InfraError where the connection fails; the script's own failure is returned.
   */
  async run(script: string, args: readonly string[] = [], call: RemoteCall = {}): Promise<Finished> {
    return await this.call('ssh', this.remoteCommand(script, args, call.input === undefined), call)
  }

  /** The same, with its standard output written to a file of this machine. */
  async download(
    file: string,
    script: string,
    args: readonly string[] = [],
    call: RemoteCall = {},
  ): Promise<Finished> {
    const command = this.remoteCommand(script, args, true)
    return await this.call('sh', ['-c', 'exec ssh "$@" > "$0"', file, ...command], call)
  }

  /** Environment with which git uses the same connection. */
  gitEnvironment(): NodeJS.ProcessEnv {
    return { GIT_SSH_COMMAND: ['ssh', ...this.sshArgs].map(shellQuote).join(' ') }
  }

  async close(): Promise<void> {
    await run({ file: 'ssh', args: [...this.sshArgs, '-O', 'exit', '--', this.host], deadline: 10 })
    await this.cleanup.run()
  }

  private remoteCommand(script: string, args: readonly string[], endWithConnection: boolean): string[] {
    const command = ['sh', '-c', script, 'kernelcraft', ...args]
    const all = endWithConnection ? ['sh', '-c', END_WITH_CONNECTION, 'kernelcraft', ...command] : command
    return [...this.sshArgs, '--', this.host, all.map(shellQuote).join(' ')]
  }

  private async call(file: string, args: readonly string[], call: RemoteCall): Promise<Finished> {
    const { input, ...more } = call
    const end = await run({
      file,
      args,
      environment: 'network',
      // An open pipe, which ends with this process however it ends: then the remote command ends as well.
      ...(input === undefined ? { holdInput: true } : { input }),
      ...more,
    })
    if (end.startError)
      throw new InfraError('ssh is not installed on this machine: install the OpenSSH client.')
    if (end.status === SSH_FAILED) throw connectionError(this.host, end)
    return end
  }
}

/** A connection that failed, in one sentence; also the connection of a git that used it. */
export function connectionError(host: string, end: Pick<Finished, 'stderr'>): InfraError {
  const [, sentence] = CONNECTION_ERRORS.find(([pattern]) => pattern.test(end.stderr)) ?? []
  return new InfraError(sentence?.(host) ?? `The connection to ${host} was lost.`, lastLines(end.stderr, 3))
}

/** Throws InfraError if a command that failed on the host met a full disk. */
export function checkRemoteDisk(host: string, end: Pick<Finished, 'stderr'>): void {
  if (DISK_FULL.test(end.stderr))
    throw new InfraError(`The disk of ${host} is full: make room for ~/.kernelcraft there.`)
}

/** Throws InfraError unless the command succeeded. `what` names the command and begins the sentence. */
export function mustSucceed({ host }: Ssh, what: string, end: Finished): Finished {
  if (end.status === 0) return end
  checkRemoteDisk(host, end)
  throw new InfraError(`${what} failed on ${host}: ${describeEnd('it', end)}.`, lastLines(end.stderr, 5))
}
