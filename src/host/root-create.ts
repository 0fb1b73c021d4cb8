import { existsSync } from 'node:fs'
import { copyFile, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type ArchName, archOf, hostArch, isNative } from '../arch.js'
import { InputError, SourceError } from '../errors.js'
import { readAptSources, readDistribution, sourceLines } from './apt-sources.js'
import { describeEnd, type Finished, lastLines, run } from './processes.js'
import { requireTools } from './tools.js'

export interface RootOptions {
  arch: ArchName
  directory: string
  /** of Debian or Ubuntu; this machine's own if absent */
  suite?: string
  /** URL of the archive; that of this machine's apt sources if absent */
  mirror?: string
  /** packages beside the essential ones */
  include: readonly string[]
}

export interface CreatedRoot {
  directory: string
  suite: string
  /** false if packages were only unpacked: their scripts need a machine that runs this architecture */
  configured: boolean
}

/** Packages beside the essential ones that tests usually need; busybox makes the root boot twice as fast. */
const USUAL_PACKAGES = ['bash', 'busybox-static', 'kmod', 'procps', 'iproute2', 'mount', 'util-linux']

/** mmdebstrap's hooks that make /bin a link to /usr/bin, as installed systems have it. */
const MERGED_USR = '/usr/share/mmdebstrap/hooks/merged-usr'

const DEADLINE_SECONDS = 3600

/**
 * Creates a root file system of Debian or Ubuntu in `directory`, with mmdebstrap. Without root rights its files belong to
 * the user. Where this machine cannot run the architecture's programs, packages are only unpacked, and what their scripts
 * would have created and every program expects (users, groups, awk) is created here. Without a mirror, packages come from
 * the archive that this machine's apt has for the suite, else from the one that mmdebstrap chooses. Throws InputError,
 * InfraError where mmdebstrap is missing, and SourceError for what the archive does not have.
 */
export async function createRoot(
  options: RootOptions,
  onLine: (line: string) => void,
  cancel?: AbortSignal,
): Promise<CreatedRoot> {
  const { arch } = options
  const directory = resolve(options.directory)
  await checkRootOptions(options, directory)
  await requireTools(['root'], arch, 'kc root')
  const suite = options.suite ?? (await ownSuite())
  const configured = isNative(arch) || (await hasBinfmt(archOf(arch).qemu))
  const args = mmdebstrapArgs({ ...options, configured })
  const sources = options.mirror ? [options.mirror] : await ownSources(suite, arch)
  await withDirectory(directory, async () => {
    const end = await runMmdebstrap({ args, suite, directory, sources }, onLine, cancel)
    if (end.status !== 0) throw mmdebstrapError(end, suite, arch)
    if (!configured) await completeUnpacked(directory)
  })
  return { directory, suite, configured }
}

/** Throws InputError for a directory with files in it, and for what mmdebstrap could take for an option. */
async function checkRootOptions(
  { suite, mirror, include, ...options }: RootOptions,
  path: string,
): Promise<void> {
  if (existsSync(path) && (await readdir(path).catch(() => [''])).length > 0)
    throw new InputError(
      `${JSON.stringify(options.directory)} already exists and is not empty: name a new directory.`,
    )
  for (const value of [suite, ...include, mirror])
    if (value !== undefined && !/^[\w?~(][^\s,]*$/.test(value))
      throw new InputError(`${JSON.stringify(value)} is not the name of a suite, package or mirror.`)
}

const isRoot = () => process.getuid?.() === 0

function mmdebstrapArgs({ arch, include, configured }: RootOptions & { configured: boolean }): string[] {
  return [
    `--variant=${configured ? 'minbase' : 'extract'}`,
    `--architectures=${archOf(arch).debian}`,
    ...(configured ? [] : ['--include=?essential']),
    `--include=${[...USUAL_PACKAGES, ...include].join(',')}`,
    ...(existsSync(MERGED_USR) ? [`--hook-dir=${MERGED_USR}`] : []),
    `--format=${isRoot() ? 'directory' : 'tar'}`,
  ]
}

/** This machine's apt sources for a suite; empty where it has none, and mmdebstrap chooses an archive. */
async function ownSources(suite: string, arch: ArchName): Promise<string[]> {
  const own = hostArch()
  const distribution = own && (await readDistribution(archOf(own).debian))
  return distribution ? sourceLines(await readAptSources(), distribution, suite, archOf(arch).debian) : []
}

/** Runs mmdebstrap; its output is the directory. `sources` are URLs or one-line entries of sources.list(5). */
async function runMmdebstrap(
  {
    args,
    suite,
    directory,
    sources,
  }: Record<'suite' | 'directory', string> & Record<'args' | 'sources', string[]>,
  onLine: (line: string) => void,
  cancel?: AbortSignal,
): Promise<Finished> {
  const command = isRoot()
    ? { file: 'mmdebstrap', args: [...args, suite, directory, ...sources] }
    : { file: 'sh', args: ['-c', UNPACK, 'kernelcraft', directory, ...args, suite, '-', ...sources] }
  return await run({
    ...command,
    environment: 'network',
    deadline: DEADLINE_SECONDS,
    onLine,
    ...(cancel ? { cancel } : {}),
  })
}

/**
 * Unpacks mmdebstrap's archive without its owners, since a root with files that the user may not read could not be
 * exported, and without device nodes. Fails where mmdebstrap fails.
 */
const UNPACK = `
directory=$1; shift
{ mmdebstrap "$@" || echo failed > "$directory/.failed"; } |
  tar -C "$directory" --no-same-owner --exclude='./dev/*' -x
status=$?
if [ -e "$directory/.failed" ]; then rm "$directory/.failed"; exit 1; fi
exit $status
`

function mmdebstrapError(end: Finished, suite: string, arch: ArchName): SourceError {
  const [reason = describeEnd('mmdebstrap', end)] = lastLines(end.stderr, 20).filter(line => /^E:/.test(line))
  const { firstSuite } = archOf(arch)
  const hint =
    firstSuite === undefined || firstSuite === suite ? '' : ` Debian has ${arch} since ${firstSuite}.`
  return new SourceError(
    `A root of ${suite} for ${arch} could not be created: ${reason.replace(/^E: /, '')}${hint}`,
    lastLines(end.stderr, 6),
  )
}

/** Creates a directory for `work`; where that fails, removes what it left and the directories created for it. */
async function withDirectory(directory: string, work: () => Promise<void>): Promise<void> {
  const outermost = await mkdir(directory, { recursive: true })
  let done = false
  try {
    await work()
    done = true
  } finally {
    // an incomplete root is of no use, and the next attempt needs an empty directory
    if (!done) await removeCreated(directory, outermost)
  }
}

async function removeCreated(directory: string, outermost: string | undefined): Promise<void> {
  if (outermost !== undefined) return await rm(outermost, { recursive: true, force: true })
  for (const name of await readdir(directory))
    await rm(join(directory, name), { recursive: true, force: true })
}

/** VERSION_CODENAME of os-release(5). */
async function ownSuite(): Promise<string> {
  const text = await readFile('/etc/os-release', 'utf8').catch(() => '')
  const suite = /^VERSION_CODENAME="?([\w-]+)/m.exec(text)?.[1]
  if (suite && /^ID(?:_LIKE)?="?.*\b(?:debian|ubuntu)\b/m.test(text)) return suite
  throw new InputError('This machine runs neither Debian nor Ubuntu: name a suite, such as --suite stable.')
}

/** True if the kernel runs programs of that machine with an emulator (Documentation/admin-guide/binfmt-misc.rst). */
async function hasBinfmt(qemu: string): Promise<boolean> {
  const text = await readFile(`/proc/sys/fs/binfmt_misc/qemu-${qemu}`, 'utf8').catch(() => '')
  return text.startsWith('enabled')
}

/** Creates what the scripts of base-passwd, netbase and mawk would have, as far as programs need it. */
async function completeUnpacked(root: string): Promise<void> {
  for (const name of ['passwd', 'group']) {
    const target = join(root, 'etc', name)
    if (!existsSync(target)) await copyFile(join(root, 'usr/share/base-passwd', `${name}.master`), target)
  }
  const hosts = join(root, 'etc', 'hosts')
  if (!existsSync(hosts)) await writeFile(hosts, '127.0.0.1 localhost\n::1 localhost\n')
  const awk = join(root, 'usr/bin/awk')
  if (!existsSync(awk) && existsSync(join(root, 'usr/bin/mawk'))) await symlink('mawk', awk)
  await mkdir(join(root, 'root'), { recursive: true })
}
