import { existsSync } from 'node:fs'
import { copyFile, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type ArchName, archOf, isNative } from '../arch.js'
import { InputError, SourceError } from '../errors.js'
import { describeEnd, type Finished, lastLines, run } from './processes.js'
import { requireTools } from './tools.js'

export interface RootOptions {
  arch: ArchName
  directory: string
  /** of Debian or Ubuntu; this machine's own if absent */
  suite?: string
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

/** What tests want of a root beside the essential packages; busybox boots it twice as fast. */
const USUAL = ['bash', 'busybox-static', 'kmod', 'procps', 'iproute2', 'mount', 'util-linux']

/** Where mmdebstrap has the hooks that make /bin a link to /usr/bin, as installed systems have it. */
const MERGED_USR = '/usr/share/mmdebstrap/hooks/merged-usr'

const DEADLINE_SECONDS = 3600

/**
 * Makes a root file system of Debian or Ubuntu in `directory`, with mmdebstrap, and without root rights where there are
 * none: files then belong to the user. Where this machine cannot run the architecture's programs, packages are unpacked
 * and what their scripts would have made and every program expects (users, groups, awk) is made here. Throws InputError,
 * InfraError where mmdebstrap is missing, SourceError for what the archive does not have.
 */
export async function createRoot(
  wanted: RootOptions,
  onLine: (line: string) => void,
  cancel?: AbortSignal,
): Promise<CreatedRoot> {
  const directory = resolve(wanted.directory)
  if (existsSync(directory) && (await readdir(directory).catch(() => [''])).length > 0)
    throw new InputError(
      `${JSON.stringify(wanted.directory)} is there already and not empty: name a new directory.`,
    )
  for (const word of [wanted.suite ?? 'x', ...wanted.include, wanted.mirror ?? 'x'])
    if (!/^[\w?~(][^\s,]*$/.test(word))
      throw new InputError(`${JSON.stringify(word)} is no name of a suite, package or mirror.`)
  await requireTools(['root'], wanted.arch, 'kc root')
  const suite = wanted.suite ?? (await ownSuite())
  const configured = isNative(wanted.arch) || (await hasBinfmt(archOf(wanted.arch).qemu))
  const asRoot = process.getuid?.() === 0
  const args = [
    `--variant=${configured ? 'minbase' : 'extract'}`,
    `--architectures=${archOf(wanted.arch).debian}`,
    ...(configured ? [] : ['--include=?essential']),
    `--include=${[...USUAL, ...wanted.include].join(',')}`,
    ...(existsSync(MERGED_USR) ? [`--hook-dir=${MERGED_USR}`] : []),
    `--format=${asRoot ? 'directory' : 'tar'}`,
    suite,
    asRoot ? directory : '-',
    ...(wanted.mirror ? [wanted.mirror] : []),
  ]
  const first = await mkdir(directory, { recursive: true })
  // what is made as other users' is taken over: a root whose files its owner may not read could not be exported
  const [file, words] = asRoot
    ? ['mmdebstrap', args]
    : ['sh', ['-c', TAKE_OVER, 'kernelcraft', directory, ...args]]
  let end: Finished | undefined
  try {
    end = await run({
      file,
      args: words,
      environment: 'network',
      deadline: DEADLINE_SECONDS,
      onLine,
      ...(cancel ? { cancel } : {}),
    })
  } finally {
    // half a root is none, and would be in the way of the next try
    if (end?.status !== 0) await removeMade(directory, first)
  }
  if (end.status !== 0) {
    const [why = describeEnd('mmdebstrap', end)] = lastLines(end.stderr, 20).filter(line => /^E:/.test(line))
    const { firstSuite } = archOf(wanted.arch)
    const hint =
      firstSuite === undefined || firstSuite === suite
        ? ''
        : ` Debian has ${wanted.arch} since ${firstSuite}.`
    throw new SourceError(
      `A root of ${suite} for ${wanted.arch} could not be made: ${why.replace(/^E: /, '')}${hint}`,
      lastLines(end.stderr, 6),
    )
  }
  if (!configured) await makeUsable(directory)
  return { directory, suite, configured }
}

/** Removes what was made in a directory, and the directories that were made for it, of which `first` is the outermost. */
async function removeMade(directory: string, first: string | undefined): Promise<void> {
  if (first !== undefined) return await rm(first, { recursive: true, force: true })
  for (const name of await readdir(directory))
    await rm(join(directory, name), { recursive: true, force: true })
}

/** Unpacks what mmdebstrap packs, without device nodes; its arguments are arguments, and its failure counts. */
const TAKE_OVER = `
directory=$1; shift
{ mmdebstrap "$@" || echo failed > "$directory/.failed"; } |
  tar -C "$directory" --no-same-owner --exclude='./dev/*' -x
status=$?
if [ -e "$directory/.failed" ]; then rm "$directory/.failed"; exit 1; fi
exit $status
`

/** VERSION_CODENAME of os-release(5). */
async function ownSuite(): Promise<string> {
  const text = await readFile('/etc/os-release', 'utf8').catch(() => '')
  const suite = /^VERSION_CODENAME="?([\w-]+)/m.exec(text)?.[1]
  if (suite && /^ID(?:_LIKE)?="?.*\b(?:debian|ubuntu)\b/m.test(text)) return suite
  throw new InputError('This machine runs neither Debian nor Ubuntu: name a suite, such as --suite stable.')
}

/** True if the kernel hands programs of that machine to an emulator (Documentation/admin-guide/binfmt-misc.rst). */
async function hasBinfmt(qemu: string): Promise<boolean> {
  const text = await readFile(`/proc/sys/fs/binfmt_misc/qemu-${qemu}`, 'utf8').catch(() => '')
  return text.startsWith('enabled')
}

/** What the scripts of base-passwd, netbase and mawk leave behind, as far as programs cannot do without. */
async function makeUsable(root: string): Promise<void> {
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
