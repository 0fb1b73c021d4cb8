import { existsSync, realpathSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, relative } from 'node:path'
import { run } from '../host/processes.js'
import { RUN_VARIABLE } from '../host/registry.js'
import type { Request } from '../request/request.js'
import { secretPaths, withoutHashes } from './secrets.js'

/**
 * How the host's secrets are kept from the guest.
 *
 * - `namespace`: QEMU runs in a mount namespace of its own in which secrets, /proc, /sys, /dev and /run of the host are
 *   covered before the root is exported. The guest's root user cannot uncover them: the covers are outside of the guest.
 * - `user-namespace`: the same without root privileges; files of other users appear to belong to nobody
 *   (user_namespaces(7)).
 * - `guest`: the guest's init covers them. Enough against a test that reads what it finds, not against a malicious one.
 */
export type RootSnapshotKind = 'namespace' | 'user-namespace' | 'guest'

export interface RootSnapshot {
  kind: RootSnapshotKind
  /** directory that virtme-run exports */
  root: string
  /** command and arguments that are put before virtme-run's */
  wrapper: readonly string[]
  /** absolute paths that the guest's init covers; empty if they are covered already */
  guestMasks: readonly string[]
}

/**
 * Runs in the new namespace: arguments are ROOT EXPORT EMPTY, pairs of COVER PATH, `--`, and the command. Paths are
 * arguments, never part of the script.
 */
const ENTER_SCRIPT = `
set -e
root=$1 export=$2 empty=$3; shift 3
mount --rbind "$root" "$export"
for dir in proc sys dev run; do
  [ -d "$export/$dir" ] && mount -t tmpfs -o mode=755,size=64k kernelcraft "$export/$dir"
done
while [ "$1" != -- ]; do
  if [ -d "$export/$2" ]; then mount --bind "$empty" "$export/$2"
  elif [ -e "$export/$2" ]; then mount --bind "$1" "$export/$2"
  fi
  shift 2
done
shift
exec "$@"
`

/** Files whose password hashes are replaced. */
const SHADOW_FILES = ['shadow', 'gshadow', 'shadow-', 'gshadow-']

/** Prepares the lower half of the copy-on-write snapshot: what of the host the guest may read. */
export async function prepareRootSnapshot(
  request: Request,
  runDirectory: string,
  env: NodeJS.ProcessEnv,
): Promise<RootSnapshot> {
  const root = realpathSync(request.root)
  const secrets = secretPaths({ env, checkout: request.path })
    .map(path => relative(root, path))
    .filter(path => path !== '' && !path.startsWith('..'))
  const { kind, enter } = await strongestMethod(env.GITHUB_ACTIONS === 'true', request.root)
  if (kind === 'guest') {
    return {
      kind,
      root: request.root,
      wrapper: [],
      guestMasks: [...secrets, 'etc/shadow', 'etc/gshadow'].map(path => `/${path}`),
    }
  }
  const exported = join(runDirectory, 'root')
  await mkdir(exported, { recursive: true })
  const { emptyDirectory, pairs } = await writeCovers(request.root, join(runDirectory, 'covers'), secrets)
  const script = ['sh', '-c', ENTER_SCRIPT, 'kernelcraft', request.root, exported, emptyDirectory, ...pairs]
  const drop = enter[0] === 'sudo' ? dropPrivileges(runDirectory) : []
  return { kind, root: exported, wrapper: [...enter, ...script, '--', ...drop], guestMasks: [] }
}

/** The strongest method that this machine permits, and the command that enters its namespaces. */
async function strongestMethod(
  inCi: boolean,
  root: string,
): Promise<{ kind: RootSnapshotKind; enter: readonly string[] }> {
  const enter = ['unshare', '--mount', '--propagation', 'private', '--']
  if (process.getuid?.() === 0) {
    if (await succeeds(enter)) return { kind: 'namespace', enter }
  } else {
    // runners often have sudo without a password; privileges are dropped before QEMU starts
    if (inCi && (await succeeds(['sudo', '-n', ...enter, ...becomeUser()]))) {
      return { kind: 'namespace', enter: ['sudo', '-n', ...enter] }
    }
    // outside of CI the kernel under test is the user's own, and the owners of files should stay as they are
    const own = ['unshare', '--user', '--map-root-user', '--mount', '--propagation', 'private', '--']
    // mount(8) is set-user-ID and would drop its privileges; the guest's init needs one that is not
    if (inCi && existsSync(join(root, 'bin', 'busybox')) && (await succeeds(own)))
      return { kind: 'user-namespace', enter: own }
  }
  return { kind: 'guest', enter: [] }
}

async function succeeds(command: readonly string[]): Promise<boolean> {
  const [file = '', ...args] = command
  return (await run({ file, args: [...args, 'true'], deadline: 20 })).status === 0
}

/** Command that continues as the user who runs this process. */
const becomeUser = (): string[] => [
  'setpriv',
  `--reuid=${process.getuid?.()}`,
  `--regid=${process.getgid?.()}`,
  '--init-groups',
  '--',
]

/** Undoes sudo; sudo also resets the environment, in which the run's variable marks the guest's processes. */
const dropPrivileges = (runDirectory: string): string[] => [
  ...becomeUser(),
  'env',
  `${RUN_VARIABLE}=${runDirectory}`,
  `HOME=${homedir()}`,
]

/** Writes what is mounted over secrets. `pairs` are COVER PATH COVER PATH ..., paths relative to the root. */
async function writeCovers(
  root: string,
  directory: string,
  secrets: readonly string[],
): Promise<{ emptyDirectory: string; pairs: string[] }> {
  const [emptyDirectory, emptyFile] = [join(directory, 'empty'), join(directory, 'empty-file')]
  await mkdir(emptyDirectory, { recursive: true })
  await writeFile(emptyFile, '')
  const pairs = secrets.flatMap(path => [emptyFile, path])
  for (const name of SHADOW_FILES) {
    const shadow = await readFile(join(root, 'etc', name), 'utf8').catch(() => undefined)
    if (shadow === undefined) continue
    await writeFile(join(directory, name), withoutHashes(shadow), { mode: 0o600 })
    pairs.push(join(directory, name), `etc/${name}`)
  }
  return { emptyDirectory, pairs }
}
