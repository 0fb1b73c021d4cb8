import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { InfraError } from '../errors.js'
import { type Command, describeEnd, type Finished, lastLines, run } from '../host/processes.js'
import { shellQuote } from '../host/shell-quote.js'
import type { BuildHostRequest } from '../request/request.js'
import { type Agent, startAgent } from './ssh-agent.js'

/** ssh's own status for a connection that was not made, or was lost (ssh(1), EXIT STATUS). */
const SSH_FAILED = 255

/** What ssh says of a connection that fails, and what a person can do about it. */
const CONNECTION: readonly (readonly [RegExp, (host: string) => string])[] = [
  [
    /Host key verification failed|No \S+ host key is known/,
    host =>
      `The host key of ${host} is not known here, or is another one than it was: compare it, and run \`ssh ${host}\` once or give build-host-known-hosts.`,
  ],
  [
    /Permission denied \(/,
    host =>
      `${host} lets nobody in with the keys that are here: check the user's name and authorized_keys there.`,
  ],
  [/Could not resolve hostname/, host => `${host} is no name of a machine that can be found from here.`],
  [
    /Connection (?:refused|timed out)|No route to host|Network is unreachable/,
    host => `${host} does not answer on its ssh port.`,
  ],
]

/**
 * Runs words as they are, and ends them with all that they started when the connection ends: what comes over stdin is
 * nothing, but its end is the end of ssh here. One line, for login shells that are not POSIX.
 */
const LIFELINE =
  'exec 3<&0; (exec >/dev/null 2>&1; cat <&3; trap "" TERM; kill -s TERM 0; sleep 2; kill -s KILL 0) & watch=$!; ' +
  '"$@" 3<&- </dev/null; status=$?; kill $watch 2>/dev/null; exit $status'

/** A machine that is reached by ssh, over one connection for all commands. */
export interface Ssh {
  /** as it was asked for */
  host: string
  /**
   * Runs a script of a POSIX shell there, with words as its arguments; it ends with the connection. Throws InfraError
   * where the connection fails; the script's own failure is returned.
   */
  run(script: string, words?: readonly string[], call?: RemoteCall): Promise<Finished>
  /** The same, with its standard output in a file here. */
  download(file: string, script: string, words?: readonly string[], call?: RemoteCall): Promise<Finished>
  /** What git is to use for its connections. */
  gitEnvironment(): NodeJS.ProcessEnv
  close(): Promise<void>
}

export type RemoteCall = Pick<Command, 'cancel' | 'deadline' | 'onLine' | 'onData' | 'input' | 'keep'>

/** Connects to the build host. Nothing is asked on the way; the first command shows whether it can be reached. */
export async function openSsh(request: BuildHostRequest): Promise<Ssh> {
  const { destination: host, key, knownHosts } = request
  // the path of a socket has 108 bytes at most (unix(7))
  const directory = await mkdtemp(join(tmpdir(), 'kcssh-'))
  let agent: Agent | undefined
  const options = [
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
  try {
    if (knownHosts.length > 0) {
      const file = join(directory, 'known_hosts')
      await writeFile(file, knownHosts.map(line => `${line}\n`).join(''), { mode: 0o600 })
      options.push(
        `UserKnownHostsFile=${file}`,
        'GlobalKnownHostsFile=/dev/null',
        'StrictHostKeyChecking=yes',
      )
    }
    if (key !== undefined) {
      agent = await startAgent(key, join(directory, 'agent'))
      options.push(`IdentityAgent=${agent.socket}`)
    }
  } catch (error) {
    await rm(directory, { recursive: true, force: true })
    throw error
  }
  const words = options.flatMap(option => ['-o', option])
  const remote = (script: string, args: readonly string[], lifeline: boolean) => {
    const inner = ['sh', '-c', script, 'kernelcraft', ...args]
    const all = lifeline ? ['sh', '-c', LIFELINE, 'kernelcraft', ...inner] : inner
    return [...words, '--', host, all.map(shellQuote).join(' ')]
  }
  const call = async (
    file: string,
    args: readonly string[],
    { input, ...more }: RemoteCall,
  ): Promise<Finished> => {
    const end = await run({
      file,
      args,
      environment: 'network',
      // an open pipe: its end, whatever ends us, is the end of what runs there
      ...(input === undefined ? { holdInput: true } : { input }),
      ...more,
    })
    if (end.startError) throw new InfraError('ssh is not installed here: install the OpenSSH client.')
    if (end.status === SSH_FAILED) throw connectionError(host, end)
    return end
  }
  return {
    host,
    run: (script, args = [], more = {}) => call('ssh', remote(script, args, more.input === undefined), more),
    download: (file, script, args = [], more = {}) =>
      call('sh', ['-c', 'exec ssh "$@" > "$0"', file, ...remote(script, args, true)], more),
    gitEnvironment: () => ({ GIT_SSH_COMMAND: ['ssh', ...words].map(shellQuote).join(' ') }),
    async close() {
      await run({ file: 'ssh', args: [...words, '-O', 'exit', '--', host], deadline: 10 })
      await agent?.end()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** A connection that failed, in one sentence; also of a git that used it. */
export function connectionError(host: string, end: Pick<Finished, 'stderr'>): InfraError {
  const [, sentence] = CONNECTION.find(([pattern]) => pattern.test(end.stderr)) ?? []
  const words = lastLines(end.stderr, 3)
  return new InfraError(sentence?.(host) ?? `The connection to ${host} was lost.`, words)
}

/** Throws InfraError unless the command succeeded; a full disk over there has a sentence of its own. */
export function mustSucceed(ssh: Ssh, what: string, end: Finished): Finished {
  if (end.status === 0) return end
  if (/No space left on device|Disk quota exceeded/.test(end.stderr))
    throw new InfraError(`The disk of ${ssh.host} is full: make room for ~/.kernelcraft there.`)
  throw new InfraError(`${what} failed on ${ssh.host}: ${describeEnd('it', end)}.`, lastLines(end.stderr, 5))
}
