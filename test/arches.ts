import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ArchName, archOf } from '../src/arch.js'
import { sha256 } from '../src/host/hash.js'
import { CACHE, type Ended, kc, SCRATCH, SMALL_KERNEL } from './kc.js'

/**
 * Architectures whose kernels are built small and whose roots have what a shell needs: Debian's own where the release
 * that the tests' machines run has one, otherwise a busybox that is cross-compiled here.
 */
export const SMALL_ARCHES = ['riscv64', 's390x', 'ppc64el'] as const
export type SmallArch = (typeof SMALL_ARCHES)[number]

/** Debian's source of busybox. */
const BUSYBOX = {
  url: 'http://deb.debian.org/debian/pool/main/b/busybox/busybox_1.35.0.orig.tar.bz2',
  sha256: 'faeeb244c35a348a334f4a59e44626ee870fb07b6884d68c10ae8bc19f83a694',
}
const MIRROR = 'http://deb.debian.org/debian'

export const SMALL_CACHE = join(CACHE, 'small')

const rootOf = (arch: SmallArch) => join(SCRATCH, `${arch}-root`)

/** The kernel of that architecture and the root for it, as kc's words. */
export const smallKernel = (arch: SmallArch): string[] => [
  ...SMALL_KERNEL,
  ...['--arch', arch, '--root', rootOf(arch)],
]

/** Boots the kernel of that architecture, which global-setup built. */
export async function smallGuest(arch: SmallArch, args: readonly string[]): Promise<Ended> {
  return await kc([...smallKernel(arch), '-s', ...args], { env: { KERNELCRAFT_CACHE: SMALL_CACHE } })
}

/** Makes the root, if it is not there. */
export async function makeRoot(arch: SmallArch): Promise<void> {
  const directory = rootOf(arch)
  if (arch === 'riscv64') await unlessThere(directory, () => makeBusyboxRoot(arch, directory))
  else await makeDebianRoot(arch, directory, '--suite', 'bookworm', '--mirror', MIRROR)
}

/** Makes a root with `kc root create` and these words, if it is not there. */
export async function makeDebianRoot(arch: ArchName, directory: string, ...words: string[]): Promise<void> {
  await unlessThere(directory, async () => {
    const made = await kc(['root', 'create', '--arch', arch, ...words, directory])
    if (made.status !== 0) throw new Error(`kc root create --arch ${arch}: ${made.stderr}`)
  })
}

async function unlessThere(directory: string, make: () => Promise<void>): Promise<void> {
  if (existsSync(join(directory, 'bin', 'sh'))) return
  rmSync(directory, { recursive: true, force: true })
  await make()
}

async function makeBusyboxRoot(arch: ArchName, directory: string): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), 'kernelcraft-busybox-'))
  const answer = await fetch(BUSYBOX.url)
  const packed = Buffer.from(await answer.arrayBuffer())
  if (sha256(packed) !== BUSYBOX.sha256)
    throw new Error(`${BUSYBOX.url} is not what it was: ${answer.status}`)
  writeFileSync(join(work, 'busybox.tar.bz2'), packed)
  execFileSync('tar', ['-C', work, '--strip-components=1', '-xjf', join(work, 'busybox.tar.bz2')])
  const make = (...words: string[]) =>
    execFileSync('make', ['-C', work, '-s', `CROSS_COMPILE=${archOf(arch).triplet}-`, ...words], {
      stdio: 'pipe',
    })
  make('defconfig')
  appendFileSync(join(work, '.config'), 'CONFIG_STATIC=y\n# CONFIG_TC is not set\n')
  const draft = `${directory}.draft`
  make('-j2', `CONFIG_PREFIX=${draft}`, 'install')
  for (const name of ['dev', 'etc', 'proc', 'root', 'run', 'sys', 'tmp'])
    mkdirSync(join(draft, name), { recursive: true })
  writeFileSync(join(draft, 'etc', 'passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
  writeFileSync(join(draft, 'etc', 'group'), 'root:x:0:\n')
  renameSync(draft, directory)
  rmSync(work, { recursive: true })
}
