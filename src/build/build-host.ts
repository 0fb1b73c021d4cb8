import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type ArchName, archOf, findArch } from '../arch.js'
import { InfraError, SourceError } from '../errors.js'
import { asset } from '../host/assets.js'
import { hashFile, sha256 } from '../host/hash.js'
import { describeEnd, type Finished, lastLines, run } from '../host/processes.js'
import type { BuildHostRequest } from '../request/request.js'
import { tryGit } from '../source/git.js'
import { prefixText } from './exec-prefix.js'
import type { MakeCall } from './make.js'
import { connectionError, mustSucceed, openSsh, type Ssh } from './ssh.js'
import { OTHER_TOOLS, TARGET_TOOLS, type Toolchain } from './toolchain.js'

/** A machine that builds: a repository and build directories of ours in its ~/.kernelcraft. */
export interface BuildHost {
  host: string
  /** absolute path of ~/.kernelcraft there */
  home: string
  /** prefix of the compilers there for the architecture that was asked for */
  cross: string
  toolchain: Toolchain
  ccache: boolean
  /** pushes a commit there, whatever was there before, and checks it out */
  checkOut(gitDir: string, sha: string, cancel?: AbortSignal): Promise<void>
  /** runs make in the checkout, behind the prefix, with all CPUs */
  make(args: readonly string[], env: NodeJS.ProcessEnv, call: MakeCall): Promise<Finished>
  /** writes a file; its path is relative to home, its directory is made */
  write(path: string, text: string): Promise<void>
  /** a file's text; undefined if there is none */
  read(path: string): Promise<string | undefined>
  /** fetches files and directories, each checked by hash; `from` is a directory relative to home */
  fetch(from: string, paths: readonly string[], to: string, cancel?: AbortSignal): Promise<void>
  /** packs those of the paths that are there into a file; all relative to `directory`, which is to home */
  pack(directory: string, file: string, paths: readonly string[]): Promise<void>
  /** SHA-256 of a file; undefined if there is none */
  hash(path: string): Promise<string | undefined>
  close(): Promise<void>
}

/** Where a commit is pushed to: one ref for each repository, so that the next push of it starts from what is there. */
const pushedRef = (gitDir: string) => `refs/kernelcraft/${sha256(gitDir).slice(0, 12)}`

const OPEN =
  'set -e; cd; mkdir -p .kernelcraft; cd .kernelcraft; [ -d .git ] || git init -q . ; ' +
  // a checkout in CI is a shallow one
  'git config receive.shallowUpdate true; git config gc.auto 0; pwd -P; uname -m'

/**
 * Connects to the build host, makes its ~/.kernelcraft ready and finds out what compiles there, behind the prefix. Only
 * one run builds there at a time: others wait, up to the deadline. Throws InfraError, each with what to do.
 */
export async function openBuildHost(
  request: BuildHostRequest,
  arch: ArchName,
  tell: (line: string) => void,
  cancel?: AbortSignal,
): Promise<BuildHost> {
  const ssh = await openSsh(request)
  try {
    const opened = mustSucceed(
      ssh,
      'Making ~/.kernelcraft',
      await ssh.run(OPEN, [], { cancel, deadline: 120 }),
    )
    const [home = '', machine = ''] = opened.stdout.trim().split('\n').slice(-2)
    const prefix = prefixText(request.prefix)
    if (prefix) {
      const end = await ssh.run(`cd "$1" && ${prefix}true`, [home], { cancel, deadline: 300 })
      if (end.status !== 0)
        throw new InfraError(
          `build-host-exec-prefix does not work on ${request.destination}: ${lastLines(end.stderr, 1)[0] ?? describeEnd('it', end)}.`,
        )
    }
    const cross = findArch(machine) === arch ? '' : `${archOf(arch).triplet}-`
    const { toolchain, ccache } = await identify(ssh, prefix, cross, cancel)
    const unlock = await lock(ssh, home, tell, cancel)
    return {
      ...actions(ssh, home, prefix),
      cross,
      toolchain,
      ccache,
      close: async () => {
        unlock()
        await ssh.close()
      },
    }
  } catch (error) {
    await ssh.close()
    throw error
  }
}

/**
 * Removes what builds left in ~/.kernelcraft there: build directories, and files of the checkout. What was pushed stays,
 * so that the next push is short. Returns what was removed, relative to it. Throws InfraError while a run builds there.
 */
export async function cleanBuildHost(request: BuildHostRequest, cancel?: AbortSignal): Promise<string[]> {
  const ssh = await openSsh(request)
  try {
    const script =
      'cd && [ -d .kernelcraft/.git ] || exit 0; cd .kernelcraft && exec 9> .git/kernelcraft.lock && ' +
      '{ flock -n 9 || exit 75; } && git clean -d -x --force --force'
    const end = await ssh.run(script, [], { deadline: 1800, ...(cancel ? { cancel } : {}) })
    if (end.status === 75)
      throw new InfraError(`A run builds on ${ssh.host}: wait for its end, and clean again.`)
    mustSucceed(ssh, 'Cleaning ~/.kernelcraft', end)
    return end.stdout.split('\n').flatMap(line => /^Removing (.*)$/.exec(line)?.[1] ?? [])
  } finally {
    await ssh.close()
  }
}

async function identify(
  ssh: Ssh,
  prefix: string,
  cross: string,
  cancel?: AbortSignal,
): Promise<{ toolchain: Toolchain; ccache: boolean }> {
  const pairs = [
    ...TARGET_TOOLS.map(tool => `${tool}=${cross}${tool}`),
    ...[...OTHER_TOOLS, 'make', 'ccache'].map(tool => `${tool}=${tool}`),
  ]
  const script = await readFile(asset('build/identify.sh'), 'utf8')
  const end = await ssh.run(`${prefix}sh -c "$@"`, [script, 'kernelcraft', ...pairs], {
    cancel,
    deadline: 120,
  })
  mustSucceed(ssh, 'Looking for compilers', end)
  const found = new Map(
    end.stdout
      .split('\n')
      .filter(Boolean)
      .map(line => {
        const [tool = '', hash = '', version = ''] = line.split('\t')
        return [tool, { hash, version: version.trim() }]
      }),
  )
  const missing = ['make', 'gcc', 'ld'].filter(tool => !found.has(tool))
  if (missing.length > 0) {
    const names = missing.map(tool => (tool === 'make' ? tool : cross + tool)).join(', ')
    throw new InfraError(
      `${ssh.host} has no ${names}${prefix ? ' behind the prefix' : ''}: install it there.`,
    )
  }
  const ccache = found.delete('ccache')
  found.delete('make')
  return {
    ccache,
    toolchain: {
      compiler: found.get('gcc')?.version ?? '',
      identity: Object.fromEntries(
        [...found].map(([tool, { version, hash }]) => [tool, `${version} [${hash}]`]),
      ),
    },
  }
}

const LOCK_SECONDS = 3600

/** Holds ~/.kernelcraft for this run: a process there that has the lock for as long as it is connected to here. */
async function lock(
  ssh: Ssh,
  home: string,
  tell: (line: string) => void,
  cancel?: AbortSignal,
): Promise<() => void> {
  const over = new AbortController()
  const stop = () => over.abort('the run')
  cancel?.addEventListener('abort', stop, { once: true })
  return await new Promise((resolve, reject) => {
    const script =
      'exec 9> "$1/.git/kernelcraft.lock"; flock -n 9 || { echo wait; flock -w "$2" 9 || exit 1; }; echo held; exec sleep 604800'
    ssh
      .run(script, [home, String(LOCK_SECONDS)], {
        cancel: over.signal,
        deadline: 604800,
        onLine: line => {
          if (line === 'wait') tell(`Another run builds on ${ssh.host}: waiting for it.`)
          if (line === 'held') resolve(stop)
        },
      })
      .then(
        end => reject(mustNotEnd(ssh, end)),
        error => reject(error),
      )
  })
}

const mustNotEnd = (ssh: Ssh, end: Finished) =>
  new InfraError(
    `Another run has been building on ${ssh.host} for an hour, or flock is missing there.`,
    lastLines(end.stderr, 2),
  )

function actions(
  ssh: Ssh,
  home: string,
  prefix: string,
): Omit<BuildHost, 'cross' | 'toolchain' | 'ccache' | 'close'> {
  const { host } = ssh
  return {
    host,
    home,
    async checkOut(gitDir, sha, cancel) {
      const url = host.startsWith('ssh://') ? `${host}/~/.kernelcraft` : `ssh://${host}/~/.kernelcraft`
      const pushed = await tryGit(
        ['push', '--force', '--no-verify', '--quiet', url, `${sha}:${pushedRef(gitDir)}`],
        {
          gitDir,
          env: ssh.gitEnvironment(),
          deadline: 3600,
          cancel,
        },
      )
      if (pushed.status !== 0) {
        if (/No space left on device|Disk quota exceeded/.test(pushed.stderr))
          throw new InfraError(`The disk of ${host} is full: make room for ~/.kernelcraft there.`)
        if (/Could not read from remote repository/.test(pushed.stderr)) throw connectionError(host, pushed)
        throw new SourceError(
          `${sha.slice(0, 12)} could not be pushed to ${host}.`,
          lastLines(pushed.stderr, 5),
        )
      }
      const script = 'cd "$1" && git -c core.hooksPath=/dev/null checkout --quiet --force --detach "$2"'
      mustSucceed(ssh, 'The checkout', await ssh.run(script, [home, sha], { cancel, deadline: 1800 }))
    },
    async make(args, env, call) {
      const script = `cd "$1" && shift && ${prefix}sh -c 'exec env "$@"' kernelcraft `
      const assignments = Object.entries(env).map(([name, value]) => `${name}=${value}`)
      const end = await ssh.run(
        `${script}"$@"`,
        [home, ...assignments, 'sh', '-c', 'exec make -j"$(nproc)" "$@"', 'make', ...args],
        call,
      )
      if (end.status !== 0 && /No space left on device|Disk quota exceeded/.test(end.stderr))
        throw new InfraError(`The disk of ${host} is full: make room for ~/.kernelcraft there.`)
      return end
    },
    async write(path, text) {
      const script = 'cd "$1" && mkdir -p "$(dirname "$2")" && cat > "$2"'
      mustSucceed(ssh, `Writing ${path}`, await ssh.run(script, [home, path], { input: text, deadline: 120 }))
    },
    async read(path) {
      const end = await ssh.run('cat "$1/$2"', [home, path], {
        deadline: 120,
        keep: Number.POSITIVE_INFINITY,
      })
      return end.status === 0 ? end.stdout : undefined
    },
    async pack(directory, file, paths) {
      const script =
        'cd "$1" && file=$2 && shift 2 && for path; do shift; [ -e "$path" ] && set -- "$@" "$path"; done; ' +
        'tar --exclude="*.o" --exclude="*.o.cmd" -cf "$file" -- "$@"'
      const end = await ssh.run(script, [join(home, directory), file, ...paths], { deadline: 300 })
      mustSucceed(ssh, `Packing ${file}`, end)
    },
    async hash(path) {
      const end = await ssh.run('sha256sum -- "$1/$2"', [home, path], { deadline: 120 })
      return end.status === 0 ? end.stdout.slice(0, 64) : undefined
    },
    async fetch(from, paths, to, cancel) {
      await mkdir(to, { recursive: true })
      const tar = join(to, '.fetched.tar')
      const script = 'cd "$1" && shift && tar -cf - -- "$@"'
      const place = join(home, from)
      const fetched = await ssh.download(tar, script, [place, ...paths], { cancel, deadline: 3600 })
      mustSucceed(ssh, 'Packing the kernel', fetched)
      const unpacked = await run({ file: 'tar', args: ['-C', to, '-xf', tar], deadline: 600, cancel })
      if (unpacked.status !== 0)
        throw new InfraError(`What ${host} sent cannot be unpacked.`, lastLines(unpacked.stderr, 3))
      await rm(tar)
      await verify(place, paths, to)
    },
  }

  async function verify(place: string, paths: readonly string[], to: string): Promise<void> {
    const script = 'cd "$1" && shift && find "$@" -type f -exec sha256sum {} +'
    const end = mustSucceed(
      ssh,
      'Hashing the kernel',
      await ssh.run(script, [place, ...paths], { deadline: 600, keep: Number.POSITIVE_INFINITY }),
    )
    for (const line of end.stdout.split('\n').filter(Boolean)) {
      const [, hash, path = ''] = /^([0-9a-f]{64}) [ *](.*)$/.exec(line) ?? []
      if (hash === undefined || (await hashFile(join(to, path))) !== hash)
        throw new InfraError(`${path || line} did not arrive from ${host} as it is there.`)
    }
  }
}
