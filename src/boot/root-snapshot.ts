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
 *   covered before the root is exported. The guest's root user cannot take the covers off: they lie outside of the guest.
 * - `user-namespace`: the same without root rights; files of other users look as if they were nobody's (user_namespaces(7)).
 * - `guest`: the guest's init covers them. Enough against a test that looks around, not against one that means harm.
 */
export type RootSnapshotKind = 'namespace' | 'user-namespace' | 'guest'

export interface RootSnapshot {
  kind: RootSnapshotKind
  /** what virtme-run exports */
  root: string
  /** command and arguments to put before virtme-run's */
  wrapper: readonly string[]
  /** paths for the guest's init to cover; empty if that is done already */
  guestMasks: readonly string[]
}

/**
 * Runs in the new namespace: arguments are ROOT EXPORT EMPTY, pairs of COVER PATH, `--`, and the command. Paths are
 * arguments, never part of the script.
 */
const ENTER = `
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

async function works(command: readonly string[]): Promise<boolean> {
  const [file = '', ...args] = command
  return (await run({ file, args: [...args, 'true'], deadline: 20 })).status === 0
}

/** The strongest way that this machine permits. */
async function strongest(
  inCi: boolean,
  root: string,
): Promise<{ kind: RootSnapshotKind; enter: readonly string[] }> {
  const enter = ['unshare', '--mount', '--propagation', 'private', '--']
  if (process.getuid?.() === 0) {
    if (await works(enter)) return { kind: 'namespace', enter }
  } else {
    // runners often have sudo without a password; rights are given back before QEMU starts
    const user = String(process.getuid?.())
    const group = String(process.getgid?.())
    const back = ['setpriv', `--reuid=${user}`, `--regid=${group}`, '--init-groups', '--']
    if (inCi && (await works(['sudo', '-n', ...enter, ...back]))) {
      return { kind: 'namespace', enter: ['sudo', '-n', ...enter] }
    }
    // at a desk the kernel is one's own, and files should look as they are
    const own = ['unshare', '--user', '--map-root-user', '--mount', '--propagation', 'private', '--']
    // mount(8) is set-user-ID and would give its rights away; the guest's init has to have one that is not
    if (inCi && existsSync(join(root, 'bin', 'busybox')) && (await works(own)))
      return { kind: 'user-namespace', enter: own }
  }
  return { kind: 'guest', enter: [] }
}

/** Prepares the copy-on-write snapshot's lower half: what of the host the guest may read. */
export async function prepareRootSnapshot(
  request: Request,
  runDirectory: string,
  env: NodeJS.ProcessEnv,
): Promise<RootSnapshot> {
  const root = realpathSync(request.root)
  const secrets = secretPaths({ env, checkout: request.path })
    .map(path => relative(root, path))
    .filter(path => path !== '' && !path.startsWith('..'))
  const { kind, enter } = await strongest(env.GITHUB_ACTIONS === 'true', request.root)
  if (kind === 'guest') {
    return {
      kind,
      root: request.root,
      wrapper: [],
      guestMasks: [...secrets, 'etc/shadow', 'etc/gshadow'].map(path => `/${path}`),
    }
  }
  const covers = join(runDirectory, 'covers')
  const exported = join(runDirectory, 'root')
  const [emptyDir, emptyFile] = [join(covers, 'empty'), join(covers, 'empty-file')]
  await mkdir(emptyDir, { recursive: true })
  await mkdir(exported, { recursive: true })
  await writeFile(emptyFile, '')
  const pairs = secrets.flatMap(path => [emptyFile, path])
  for (const name of ['shadow', 'gshadow', 'shadow-', 'gshadow-']) {
    const shadow = await readFile(join(request.root, 'etc', name), 'utf8').catch(() => undefined)
    if (shadow === undefined) continue
    await writeFile(join(covers, name), withoutHashes(shadow), { mode: 0o600 })
    pairs.push(join(covers, name), `etc/${name}`)
  }
  const back =
    enter[0] === 'sudo'
      ? [
          'setpriv',
          `--reuid=${process.getuid?.()}`,
          `--regid=${process.getgid?.()}`,
          '--init-groups',
          '--',
          'env',
          `${RUN_VARIABLE}=${runDirectory}`,
          `HOME=${homedir()}`,
        ]
      : []
  return {
    kind,
    root: exported,
    wrapper: [
      ...enter,
      'sh',
      '-c',
      ENTER,
      'kernelcraft',
      request.root,
      exported,
      emptyDir,
      ...pairs,
      '--',
      ...back,
    ],
    guestMasks: [],
  }
}
