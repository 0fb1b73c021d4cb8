import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type ArchName, archOf, findArch } from '../arch.js'
import { InfraError, SourceError } from '../errors.js'
import { cleanupStack } from '../host/cleanup.js'
import { hashFile, sha256 } from '../host/hash.js'
import { describeEnd, type Finished, lastLines, run } from '../host/processes.js'
import type { BuildHostRequest } from '../request/request.js'
import { tryGit } from '../source/git.js'
import { prefixText } from './exec-prefix.js'
import type { MakeCall } from './make.js'
import { lockRemote } from './remote-lock.js'
import { findRemoteTools } from './remote-toolchain.js'
import { checkRemoteDisk, connectionError, mustSucceed, openSsh, type Ssh } from './ssh.js'
import type { Toolchain } from './toolchain.js'

/** The ref that a commit is pushed to: one for each repository, so that a push sends what is new since the last one. */
const pushedRef = (gitDir: string) => `refs/kernelcraft/${sha256(gitDir).slice(0, 12)}`

const OPEN =
  'set -e; cd; mkdir -p .kernelcraft; cd .kernelcraft; [ -d .git ] || git init -q . ; ' +
  // a checkout in CI is a shallow one
  'git config receive.shallowUpdate true; git config gc.auto 0; pwd -P; uname -m'

/**
 * Connects to the build host, creates its ~/.kernelcraft and finds the compilers there, behind the prefix. Only one run
 * builds there at a time: others wait, up to an hour; `report` gets a line then. Throws InfraError.
 */
export async function openBuildHost(
  request: BuildHostRequest,
  arch: ArchName,
  report: (line: string) => void,
  cancel?: AbortSignal,
): Promise<BuildHost> {
  const cleanup = cleanupStack()
  try {
    const ssh = await openSsh(request)
    cleanup.defer(() => ssh.close())
    const end = await ssh.run(OPEN, [], { cancel, deadline: 120 })
    const opened = mustSucceed(ssh, 'Creating ~/.kernelcraft', end)
    const [home = '', machine = ''] = opened.stdout.trim().split('\n').slice(-2)
    const prefix = prefixText(request.prefix)
    if (prefix) await checkPrefix(ssh, home, prefix, cancel)
    const cross = findArch(machine) === arch ? '' : `${archOf(arch).triplet}-`
    const tools = await findRemoteTools(ssh, prefix, cross, cancel)
    cleanup.defer(await lockRemote(ssh, home, report, cancel))
    return new BuildHost(ssh, home, prefix, { cross, ...tools }, () => cleanup.run())
  } catch (error) {
    await cleanup.run()
    throw error
  }
}

async function checkPrefix(ssh: Ssh, home: string, prefix: string, cancel?: AbortSignal): Promise<void> {
  const end = await ssh.run(`cd "$1" && ${prefix}true`, [home], { cancel, deadline: 300 })
  if (end.status === 0) return
  const reason = lastLines(end.stderr, 1)[0] ?? describeEnd('it', end)
  throw new InfraError(`build-host-exec-prefix does not work on ${ssh.host}: ${reason}.`)
}

/**
 * Removes what builds left in ~/.kernelcraft of a build host: build directories, and files of the checkout. Pushed commits
 * stay, so that the next push is short. Returns what was removed, relative to ~/.kernelcraft. Throws InfraError while a run
 * builds there.
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

/** A machine that builds, with a repository and build directories of KernelCraft's own in its ~/.kernelcraft. */
export class BuildHost {
  /** as the request names it */
  readonly host: string
  /** prefix of the names of its compilers for the requested architecture */
  readonly cross: string
  readonly toolchain: Toolchain
  readonly ccache: boolean

  constructor(
    private readonly ssh: Ssh,
    /** absolute path of ~/.kernelcraft */
    readonly home: string,
    private readonly prefix: string,
    tools: { cross: string; toolchain: Toolchain; ccache: boolean },
    readonly close: () => Promise<void>,
  ) {
    this.host = ssh.host
    this.cross = tools.cross
    this.toolchain = tools.toolchain
    this.ccache = tools.ccache
  }

  /** Pushes a commit, whatever the host has been pushed before, and checks it out. */
  async checkOut(gitDir: string, sha: string, cancel?: AbortSignal): Promise<void> {
    await this.push(gitDir, sha, cancel)
    const script = 'cd "$1" && git -c core.hooksPath=/dev/null checkout --quiet --force --detach "$2"'
    const end = await this.ssh.run(script, [this.home, sha], { cancel, deadline: 1800 })
    mustSucceed(this.ssh, 'The checkout', end)
  }

  private async push(gitDir: string, sha: string, cancel?: AbortSignal): Promise<void> {
    const { host } = this
    const url = host.startsWith('ssh://') ? `${host}/~/.kernelcraft` : `ssh://${host}/~/.kernelcraft`
    const pushed = await tryGit(
      ['push', '--force', '--no-verify', '--quiet', url, `${sha}:${pushedRef(gitDir)}`],
      { gitDir, env: this.ssh.gitEnvironment(), deadline: 3600, cancel },
    )
    if (pushed.status === 0) return
    checkRemoteDisk(host, pushed)
    if (/Could not read from remote repository/.test(pushed.stderr)) throw connectionError(host, pushed)
    throw new SourceError(`${sha.slice(0, 12)} could not be pushed to ${host}.`, lastLines(pushed.stderr, 5))
  }

  /** Runs make in the checkout, behind the prefix, with all CPUs. Its failure is returned. */
  async make(args: readonly string[], env: NodeJS.ProcessEnv, call: MakeCall): Promise<Finished> {
    const script = `cd "$1" && shift && ${this.prefix}sh -c 'exec env "$@"' kernelcraft "$@"`
    const assignments = Object.entries(env).map(([name, value]) => `${name}=${value}`)
    const make = ['sh', '-c', 'exec make -j"$(nproc)" "$@"', 'make', ...args]
    const end = await this.ssh.run(script, [this.home, ...assignments, ...make], call)
    if (end.status !== 0) checkRemoteDisk(this.host, end)
    return end
  }

  /** Writes a file; its path is relative to `home`, its directory is created. */
  async write(path: string, text: string): Promise<void> {
    const script = 'cd "$1" && mkdir -p "$(dirname "$2")" && cat > "$2"'
    const end = await this.ssh.run(script, [this.home, path], { input: text, deadline: 120 })
    mustSucceed(this.ssh, `Writing ${path}`, end)
  }

  /** The text of a file, whose path is relative to `home`; undefined if there is none. */
  async read(path: string): Promise<string | undefined> {
    const call = { deadline: 120, keep: Number.POSITIVE_INFINITY }
    const end = await this.ssh.run('cat "$1/$2"', [this.home, path], call)
    return end.status === 0 ? end.stdout : undefined
  }

  /** SHA-256 of a file, whose path is relative to `home`; undefined if there is none. */
  async hash(path: string): Promise<string | undefined> {
    const end = await this.ssh.run('sha256sum -- "$1/$2"', [this.home, path], { deadline: 120 })
    return end.status === 0 ? end.stdout.slice(0, 64) : undefined
  }

  /** Packs those of the paths that exist into a tar file; all are relative to `directory`, which is relative to `home`. */
  async pack(directory: string, file: string, paths: readonly string[]): Promise<void> {
    const script =
      'cd "$1" && file=$2 && shift 2 && for path; do shift; [ -e "$path" ] && set -- "$@" "$path"; done; ' +
      'tar --exclude="*.o" --exclude="*.o.cmd" -cf "$file" -- "$@"'
    const end = await this.ssh.run(script, [join(this.home, directory), file, ...paths], { deadline: 300 })
    mustSucceed(this.ssh, `Packing ${file}`, end)
  }

  /**
   * Fetches files and directories into a directory of this machine, each file checked by hash. `paths` are relative to
   * `directory`, which is relative to `home`.
   */
  async fetch(directory: string, paths: readonly string[], to: string, cancel?: AbortSignal): Promise<void> {
    await mkdir(to, { recursive: true })
    const tar = join(to, '.fetched.tar')
    const from = join(this.home, directory)
    const script = 'cd "$1" && shift && tar -cf - -- "$@"'
    const fetched = await this.ssh.download(tar, script, [from, ...paths], { cancel, deadline: 3600 })
    mustSucceed(this.ssh, 'Packing the kernel', fetched)
    const unpacked = await run({ file: 'tar', args: ['-C', to, '-xf', tar], deadline: 600, cancel })
    if (unpacked.status !== 0)
      throw new InfraError(`What ${this.host} sent cannot be unpacked.`, lastLines(unpacked.stderr, 3))
    await rm(tar)
    await this.verify(from, paths, to)
  }

  /** Throws InfraError unless each file in `to` has the hash that it has on the host. */
  private async verify(from: string, paths: readonly string[], to: string): Promise<void> {
    const script = 'cd "$1" && shift && find "$@" -type f -exec sha256sum {} +'
    const call = { deadline: 600, keep: Number.POSITIVE_INFINITY }
    const end = await this.ssh.run(script, [from, ...paths], call)
    const lines = mustSucceed(this.ssh, 'Hashing the kernel', end).stdout.split('\n').filter(Boolean)
    for (const line of lines) {
      const [, hash, path = ''] = /^([0-9a-f]{64}) [ *](.*)$/.exec(line) ?? []
      if (hash === undefined || (await hashFile(join(to, path))) !== hash)
        throw new InfraError(`${path || line} was damaged on the way from ${this.host}.`)
    }
  }
}
