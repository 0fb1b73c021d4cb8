import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { linkShared, removeStaleFiles, SHARED } from '../cache.js'
import { runKc } from '../process.js'

/** Debian's packages for programs that tests talk to, beside those that `kc doctor` installs. */
const PROGRAMS: Readonly<Record<string, string>> = {
  sshd: 'openssh-server',
  tmux: 'tmux',
  zsh: 'zsh',
  fish: 'fish',
  mandoc: 'mandoc',
  pkill: 'procps',
  flock: 'util-linux',
  bzip2: 'bzip2',
  newuidmap: 'uidmap',
}

/** Files that packages without a program of their own bring. */
const FILES: Readonly<Record<string, string>> = {
  '/usr/riscv64-linux-gnu/include/stdio.h': 'libc6-dev-riscv64-cross',
  '/usr/src/linux-source-6.12.tar.xz': 'linux-source-6.12',
}

const ARCHES = ['x86_64', 'arm64', 'riscv64', 's390x', 'ppc64el']

const PATHS = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin']
const missingPackages = (nightly: boolean) => [
  ...Object.entries(PROGRAMS)
    .filter(([program]) => !PATHS.some(path => existsSync(join(path, program))))
    .map(([, name]) => name),
  ...Object.entries({
    ...FILES,
    ...(nightly ? { '/usr/src/linux-source-6.1.tar.xz': 'linux-source-6.1' } : {}),
  })
    .filter(([path]) => !existsSync(path))
    .map(([, name]) => name),
]

function install(packages: readonly string[]): void {
  if (packages.length === 0) return
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  try {
    for (const args of [['update'], ['install', '-y', '--no-install-recommends', ...packages]])
      execFileSync('apt-get', ['-q', ...args], { env, stdio: 'pipe' })
  } catch {
    throw new Error(`The tests need the packages ${packages.join(', ')}, and apt-get could not install them.`)
  }
}

/** Makes the machine able to run the tests. Kernels and roots are made when the first test asks for them. */
export default async function setup(project: { config: { name?: string } }): Promise<void> {
  const nightly = project.config.name === 'nightly'
  if (process.getuid?.() !== 0)
    throw new Error(
      'The end-to-end tests mount file systems and add users: run them as root (sudo -E npm run e2e).',
    )
  removeStaleFiles()
  install(missingPackages(nightly))
  linkShared(SHARED, [])
  for (const arch of ARCHES) {
    const end = await runKc(['doctor', '--install', '--arch', arch], { env: { KERNELCRAFT_CACHE: SHARED } })
    if (end.status !== 0) throw new Error(`kc doctor --install --arch ${arch}: ${end.stdout}${end.stderr}`)
  }
}
