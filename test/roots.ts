import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ArchName, archOf } from '../src/arch.js'
import { locked, TEST_CACHE } from './cache.js'

/**
 * Roots of other architectures with nothing but busybox: the distribution's static one where its archive has that
 * architecture, otherwise one that is cross-compiled here. Roots by `kc root create` are tested at night.
 */
const pathOf = (arch: ArchName) => join(TEST_CACHE, 'roots', arch)

/** Upstream's source as Debian's archive has it. */
const SOURCE = {
  path: 'pool/main/b/busybox/busybox_1.35.0.orig.tar.bz2',
  sha256: 'faeeb244c35a348a334f4a59e44626ee870fb07b6884d68c10ae8bc19f83a694',
}

/** Makes the root of an architecture if it is not there, and returns its path. */
async function make(arch: ArchName): Promise<string> {
  const root = pathOf(arch)
  const exists = () => existsSync(join(root, 'bin', 'sh'))
  if (exists()) return root
  return await locked('roots', async () => {
    if (exists()) return root
    rmSync(root, { recursive: true, force: true })
    const work = mkdtempSync(join(tmpdir(), 'kernelcraft-busybox-'))
    try {
      const draft = join(work, 'root')
      mkdirSync(join(draft, 'bin'), { recursive: true })
      if (!unpackPackage(arch, work, draft)) await compile(arch, work, draft)
      complete(draft)
      mkdirSync(join(TEST_CACHE, 'roots'), { recursive: true })
      execFileSync('cp', ['-a', draft, `${root}.draft`])
      renameSync(`${root}.draft`, root)
      return root
    } finally {
      rmSync(work, { recursive: true, force: true })
    }
  })
}

/** `path` is known before the root is made. */
export const rootFor = Object.assign(make, { path: pathOf })

/** Files that programs expect, and busybox's programs by their names. */
function complete(root: string): void {
  for (const name of ['dev', 'etc', 'proc', 'root', 'run', 'sys', 'tmp', 'usr'])
    mkdirSync(join(root, name), { recursive: true })
  writeFileSync(join(root, 'etc', 'passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
  writeFileSync(join(root, 'etc', 'group'), 'root:x:0:\n')
  // the names that the busybox of this machine knows are a superset of what tests call
  for (const name of execFileSync('busybox', ['--list'], { encoding: 'utf8' }).split('\n'))
    if (name && name !== 'busybox' && !existsSync(join(root, 'bin', name)))
      symlinkSync('busybox', join(root, 'bin', name))
}

/** Unpacks busybox-static of that architecture, by the machine's own sources of packages; false if there is none. */
function unpackPackage(arch: ArchName, work: string, root: string): boolean {
  const state = join(work, 'apt')
  mkdirSync(join(state, 'state', 'lists', 'partial'), { recursive: true })
  mkdirSync(join(state, 'cache', 'archives', 'partial'), { recursive: true })
  writeFileSync(join(state, 'status'), '')
  const debian = archOf(arch).debian
  const settings = [
    `Dir::State=${join(state, 'state')}`,
    `Dir::State::status=${join(state, 'status')}`,
    `Dir::Cache=${join(state, 'cache')}`,
    `APT::Architecture=${debian}`,
    `APT::Architectures=${debian}`,
    'APT::Sandbox::User=root',
    'Acquire::Languages=none',
  ].flatMap(setting => ['-o', setting])
  const apt = (...words: string[]) =>
    spawnSync('apt-get', ['-q', ...settings, ...words], { cwd: state, encoding: 'utf8' })
  // A mirror between two states has an index that does not fit its list of hashes, and is asked again. The status of
  // the update is not looked at: one archive that fails does not matter if another has the package.
  for (let attempt = 1; ; attempt++) {
    apt('update')
    const { status, stderr } = apt('download', 'busybox-static')
    if (status === 0) break
    if (attempt < 3) continue
    if (arch === 'riscv64') return false // Debian 12 does not have this architecture
    throw new Error(`apt-get download busybox-static: ${stderr}`)
  }
  const [name = ''] = readdirSync(state).filter(file => file.endsWith('.deb'))
  execFileSync('dpkg-deb', ['-x', join(state, name), join(work, 'package')])
  const found = ['bin', 'usr/bin']
    .map(bin => join(work, 'package', bin, 'busybox'))
    .find(path => existsSync(path))
  if (!found) throw new Error(`${name} has no busybox in bin or usr/bin.`)
  execFileSync('cp', [found, join(root, 'bin', 'busybox')])
  return true
}

/** URLs of the archives that this machine's apt has packages from. */
function mirrors(): string[] {
  const format = ['--format', '$(SITE)']
  const sites = execFileSync('apt-get', ['indextargets', ...format, 'Created-By: Packages'], {
    encoding: 'utf8',
  })
  return [...new Set(sites.split('\n').filter(Boolean))]
}

async function download(): Promise<Buffer> {
  const tried: string[] = []
  for (const mirror of mirrors()) {
    const answer = await fetch(`${mirror.replace(/\/$/, '')}/${SOURCE.path}`)
    const content = Buffer.from(await answer.arrayBuffer())
    const hash = createHash('sha256').update(content).digest('hex')
    if (hash === SOURCE.sha256) return content
    tried.push(`${mirror}: status ${answer.status}`)
  }
  throw new Error(`The source of busybox is in no archive of this machine's apt sources: ${tried.join('; ')}`)
}

async function compile(arch: ArchName, work: string, root: string): Promise<void> {
  const source = join(work, 'source')
  mkdirSync(source)
  writeFileSync(join(work, 'busybox.tar.bz2'), await download())
  execFileSync('tar', ['-C', source, '--strip-components=1', '-xjf', join(work, 'busybox.tar.bz2')])
  const make = (...words: string[]) =>
    execFileSync('make', ['-C', source, '-s', `CROSS_COMPILE=${archOf(arch).triplet}-`, ...words], {
      stdio: 'pipe',
      maxBuffer: 64 * 2 ** 20,
    })
  make('defconfig')
  const config = readFileSync(join(source, '.config'), 'utf8')
  writeFileSync(
    join(source, '.config'),
    config.replace(/^CONFIG_(?:STATIC|TC)=.*\n|^# CONFIG_(?:STATIC|TC) .*\n/gm, ''),
  )
  appendFileSync(join(source, '.config'), 'CONFIG_STATIC=y\n# CONFIG_TC is not set\n')
  make('-j2', 'busybox')
  execFileSync('cp', [join(source, 'busybox'), join(root, 'bin', 'busybox')])
}
