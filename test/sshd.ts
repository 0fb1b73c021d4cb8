import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { CACHE, SCRATCH } from './kc.js'

/** An sshd on this machine, and a user there who builds. */
export interface BuildServer {
  /** what --build-host is given */
  destination: string
  /** a line of known_hosts(5) */
  knownHost: string
  /** the user's private key, as text and as file */
  key: string
  keyFile: string
  /** the user's home directory; stays between runs, with what was pushed and built there */
  home: string
  /** ends every connection, as a machine does that goes down */
  cut(): void
  close(): void
}

/** A TCP port of loopback that nobody listens on. */
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
 * chroot, and the compiler's cache is the one of all tests. `name` tells users apart: each has one checkout, which the
 * next run of the tests finds built.
 */
export async function startBuildServer(name = 'build'): Promise<BuildServer> {
  const user = `kernelcraft-${name}`
  const home = join(SCRATCH, `${name}-home`)
  const place = join(SCRATCH, `sshd-${name}-${process.pid}`)
  mkdirSync(join(home, '.ssh'), { recursive: true, mode: 0o700 })
  mkdirSync(join(home, '.config', 'ccache'), { recursive: true })
  mkdirSync(place, { recursive: true, mode: 0o700 })
  mkdirSync('/run/sshd', { recursive: true })
  writeFileSync(join(home, '.config', 'ccache', 'ccache.conf'), `cache_dir = ${join(CACHE, 'ccache')}\n`)
  const known = readFileSync('/etc/passwd', 'utf8').includes(`${user}:`)
  const words = ['--non-unique', '--uid', '0', '--gid', '0', '--home-dir', home, '--shell', '/bin/sh']
  if (!known) execFileSync('useradd', [...words, '--no-create-home', '--password', '*', user])
  else execFileSync('usermod', ['--home', home, user])
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
    },
  }
}
