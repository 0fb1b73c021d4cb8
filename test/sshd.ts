import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { DISTRO_REPOSITORY, SHARED, scratch, TEST_CACHE } from './cache.js'

/** An sshd on this machine, and a user there who builds. */
export interface BuildServer {
  /** what --build-host is given */
  destination: string
  /** a line of known_hosts(5) */
  knownHost: string
  /** the user's private key, as text and as file */
  key: string
  keyFile: string
  /** the user's home directory, with what was pushed and built there */
  home: string
  /** ends every connection, as a machine does that goes down */
  cut(): void
  close(): void
}

/** An ssh-agent with that key, as on a developer's machine. */
export function startAgent(keyFile: string): {
  env: Record<string, string>
  add(file: string): void
  close(): void
} {
  const printed = execFileSync('ssh-agent', ['-s'], { encoding: 'utf8' })
  const env = Object.fromEntries(
    [...printed.matchAll(/^(SSH_\w+)=([^;]+);/gm)].map(([, name = '', value = '']) => [name, value]),
  )
  const add = (file: string) =>
    void execFileSync('ssh-add', ['-q', file], { env: { ...process.env, ...env }, stdio: 'pipe' })
  add(keyFile)
  return {
    env,
    add,
    close: () => void execFileSync('ssh-agent', ['-k'], { env: { ...process.env, ...env }, stdio: 'pipe' }),
  }
}

/** A TCP port of loopback on which no program listens. */
export async function freePort(): Promise<number> {
  return await new Promise(resolve => {
    const server = createServer()
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
    })
  })
}

/**
 * Starts a real sshd on a free port of loopback. The user has root's number and a home of its own: a prefix may then be a
 * chroot, and the compiler's cache is the one of all tests. `name` tells users apart: each has one checkout. The user
 * goes when the server is closed.
 */
export async function startBuildServer(name = 'build'): Promise<BuildServer> {
  const user = `kernelcraft-${name}-${process.pid}`
  // what was pushed and built stays for the next run of the tests
  const home = join(TEST_CACHE, 'build-hosts', name)
  const place = scratch(`sshd-${name}`)
  mkdirSync(join(home, '.ssh'), { recursive: true, mode: 0o700 })
  mkdirSync(join(home, '.config', 'ccache'), { recursive: true })
  mkdirSync(place, { recursive: true, mode: 0o700 })
  mkdirSync('/run/sshd', { recursive: true })
  writeFileSync(join(home, '.config', 'ccache', 'ccache.conf'), `cache_dir = ${join(SHARED, 'ccache')}\n`)
  removeStaleUsers()
  const words = ['--non-unique', '--uid', '0', '--gid', '0', '--home-dir', home, '--shell', '/bin/sh']
  execFileSync('useradd', [...words, '--no-create-home', '--password', '*', user])
  seedObjects(join(home, '.kernelcraft'))
  for (const name of ['host', 'user']) {
    const file = join(place, name)
    if (!existsSync(file))
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', file])
  }
  writeFileSync(join(home, '.ssh', 'authorized_keys'), readFileSync(join(place, 'user.pub')), { mode: 0o600 })
  const port = await freePort()
  const settings = [
    ['Port', port],
    ['ListenAddress', '127.0.0.1'],
    ['HostKey', join(place, 'host')],
    ['PidFile', 'none'],
    ['UsePAM', 'no'],
    ['PasswordAuthentication', 'no'],
    ['PermitRootLogin', 'prohibit-password'],
    ['StrictModes', 'no'],
  ]
  const config = join(place, 'sshd_config')
  writeFileSync(config, settings.map(([name, value]) => `${name} ${value}\n`).join(''))
  const sshd: ChildProcess = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', config], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const listening = new Promise<void>((resolve, reject) => {
    sshd.stderr?.on('data', (chunk: Buffer) => {
      if (chunk.includes('listening')) resolve()
    })
    sshd.on('exit', code => reject(new Error(`sshd ended with ${code}`)))
  })
  await Promise.race([listening, pause(10_000)])
  const [type = '', blob = ''] = readFileSync(join(place, 'host.pub'), 'utf8').split(' ')
  const ofConnections = (signal: string) => {
    try {
      execFileSync('pkill', [`-${signal}`, '-P', String(sshd.pid)])
    } catch {
      // there is none
    }
  }
  return {
    destination: `ssh://${user}@127.0.0.1:${port}`,
    knownHost: `[127.0.0.1]:${port} ${type} ${blob}`,
    key: readFileSync(join(place, 'user'), 'utf8'),
    keyFile: join(place, 'user'),
    home,
    cut: () => ofConnections('KILL'),
    close() {
      ofConnections('KILL')
      sshd.kill('SIGKILL')
      removeUser(user)
    },
  }
}

// --force: the user's number is root's, who is logged in and has processes
const removeUser = (user: string) => execFileSync('userdel', ['--force', user], { stdio: 'pipe' })

/** Removes the users of tests that were killed. */
function removeStaleUsers(): void {
  const users = readFileSync('/etc/passwd', 'utf8').matchAll(/^(kernelcraft-\w+-(\d+)):/gm)
  for (const [, user = '', pid = ''] of users) if (!existsSync(`/proc/${pid}`)) removeUser(user)
}

/** A repository that has the distribution's tree already, so that a push of it sends a commit and not eighty thousand files. */
function seedObjects(directory: string): void {
  if (existsSync(join(directory, '.git'))) return
  execFileSync('git', ['init', '--quiet', directory])
  const info = join(directory, '.git', 'objects', 'info')
  mkdirSync(info, { recursive: true })
  writeFileSync(join(info, 'alternates'), `${join(DISTRO_REPOSITORY, 'objects')}\n`)
}
