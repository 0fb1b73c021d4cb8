import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { kc, SHARED, scratch } from '../kc.js'
import { kernelFor, kernelWords } from '../kernels.js'
import { startAgent, startBuildServer } from '../sshd.js'

it('--build-host-exec-prefix is a chroot', async () => {
  await kernelFor('tiny')
  const server = await startBuildServer()
  const agent = startAgent(server.keyFile)
  // Debian of its own, with a compiler; the home directory is mounted there, as schroot does
  const root = join(scratch('build-root'), 'root')
  const tools =
    'gcc,make,flex,bison,bc,libelf-dev,libssl-dev,libc6-dev,perl-base,perl,kmod,ccache,rsync,python3-minimal'
  const made = await kc(['root', 'create', '--include', tools, root])
  expect(made.status, made.stderr).toBe(0)
  const mounts = [server.home, join(SHARED, 'ccache'), '/proc', '/dev']
  for (const path of mounts) {
    mkdirSync(join(root, path), { recursive: true })
    execFileSync('mount', ['--bind', path, join(root, path)])
  }
  try {
    const inside = `chroot '${root}' env -C '${join(server.home, '.kernelcraft')}' HOME='${server.home}'`
    const end = await kc(
      [
        ...[...kernelWords('tiny'), '--build-host', server.destination, '--accel', 'tcg'],
        ...['--build-host-known-hosts', server.knownHost, '--build-host-exec-prefix', inside],
        ...['--kernel-cache', 'false', '-e', 'uname -r'],
      ],
      { env: agent.env },
    )
    expect([end.status, end.result?.kernel?.builtOn], end.stderr).toEqual([0, server.destination])
  } finally {
    for (const path of mounts.reverse()) spawnSync('umount', ['--lazy', join(root, path)])
    agent.close()
    server.close()
  }
})
