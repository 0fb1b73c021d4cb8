import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { availableParallelism, userInfo } from 'node:os'
import { basename, isAbsolute, join, resolve } from 'node:path'
import stringArgv from 'string-argv'
import { type ArchName, isNative } from '../arch.js'
import { InputError, messageOf } from '../errors.js'
import type { IgnoreRule, Selector } from '../triage/rules.js'
import { parseFailOn, parseIgnore } from './finding-rules.js'
import { type ModuleSource, parseModuleSource } from './module-source.js'
import { OPTIONS, type RawOptions } from './options.js'
import { readProject, withDefaults } from './project-file.js'
import { isUrl, KNOWN_TREES, makeTreesFile, type Trees, urlFault, userTrees } from './trees.js'
import {
  existing,
  ownArch,
  parseArch,
  parseBoolean,
  parseChoice,
  parseCount,
  parseDestination,
  parseDuration,
  parseLocalversion,
  parseMaxSize,
  parseMemory,
  parseNetwork,
  parseNuma,
  parseRef,
  parseRemote,
  quote,
} from './values.js'

export type ConfigBase =
  | { kind: 'minimal' | 'virtme' | 'defconfig' | 'current' }
  | { kind: 'file'; path: string }

/** Seconds; Infinity is off. */
export interface Deadlines {
  boot: number
  run: number
  idle: number
}

/** What the guest is to do: a script, an argument vector, or a shell on the terminal. */
export type GuestCommand =
  | { kind: 'script'; text: string }
  | { kind: 'argv'; argv: readonly string[] }
  | { kind: 'shell' }

/** A machine that builds in this one's place. */
export interface BuildHostRequest {
  /** as ssh(1) takes it: `user@host` or `ssh://user@host:port` */
  destination: string
  /** words that go before what is run there */
  prefix: readonly string[]
  /** vmlinux is fetched in any case, not only when something has to be explained */
  vmlinux: boolean
  /** private key; the user's own agent and files if absent */
  key?: string
  /** lines of known_hosts(5); the user's own file if empty */
  knownHosts: readonly string[]
}

/** How the guest is connected; `bridge` is the name of one of the host's. */
export type Network = { kind: 'none' | 'user' | 'loop' } | { kind: 'bridge'; bridge: string }

/** A directory of the host in the guest, beside the root. */
export interface SharedDirectory {
  host: string
  guest: string
  writable: boolean
}

/** Who the commands run as: an entry of the root's passwd(5). */
export interface GuestUser {
  name: string
  uid: number
  gid: number
  home: string
  shell: string
}

/** Everything that one run was asked for, typed and validated once. Paths are absolute. */
export interface Request {
  release?: string
  /** what `release` may name */
  trees: Trees
  ref?: string
  path: string
  /** at a desk: the checkout's repository gets the remote that `release` names */
  local: boolean
  /** leave uncommitted changes out where they stand in the way */
  force: boolean
  command: GuestCommand
  env: Readonly<Record<string, string>>
  configBase: ConfigBase
  /** files, or names of bundled fragments */
  fragments: readonly string[]
  configItems: readonly string[]
  debugInfo: 'full' | 'none'
  localversion: string
  arch: ArchName
  ccache: boolean
  ccacheMaxSize: string
  /** URL of ccache's remote storage */
  ccacheRemote?: string
  kernelCache: boolean
  kernelCacheMaxBytes: number
  buildHost?: BuildHostRequest
  skipBuild: boolean
  skipModules: boolean
  /** external modules to build and load, in this order */
  modules: readonly ModuleSource[]
  cpus: number
  memoryMiB: number
  network: Network
  disks: readonly string[]
  append: readonly string[]
  opts: readonly string[]
  qemuOpts: readonly string[]
  /** as virtme-run's --numa takes them */
  numa: readonly string[]
  shares: readonly SharedDirectory[]
  /** absolute, in the guest; where kc was called if absent */
  cwd?: string
  /** root if absent */
  user?: GuestUser
  root: string
  accel: 'auto' | 'kvm' | 'tcg'
  deadlines: Deadlines
  /** findings that fail the run */
  failOn: readonly Selector[]
  ignore: readonly IgnoreRule[]
  vmcore: 'on-failure' | 'always' | 'never'
  vmcoreMaxBytes: number
  runDirectory?: string
}

/** Where the request comes from: relative paths start at `cwd`, `NAME` variables come from `env`. */
export interface RequestContext {
  cwd: string
  env: NodeJS.ProcessEnv
  /** words after `--`; only kc has them */
  argv?: readonly string[]
  /** true where a shell on the terminal makes sense when no commands are given */
  terminal?: boolean
  /** true for kc: a person's own checkout and home */
  local?: boolean
}

function parseRelease(value: string, cwd: string): string {
  const fault = urlFault(value)
  if (fault) throw new InputError(`release is ${quote(value)}: ${fault}.`)
  return /^\.{0,2}\//.test(value) ? resolve(cwd, value) : value
}

/** virtme-run's own `--net` among its options is the network: then it is checked, and the guest set up for it. */
function takeNetwork(asked: Network, opts: readonly string[]): Pick<Request, 'network' | 'opts'> {
  const joined = opts.findIndex(word => word.startsWith('--net='))
  const at = joined < 0 ? opts.indexOf('--net') : joined
  const named = joined < 0 ? opts[at + 1] : opts[at]?.slice('--net='.length)
  if (at < 0 || named === undefined || asked.kind !== 'none') return { network: asked, opts: [...opts] }
  const length = joined < 0 ? 2 : 1
  return { network: parseNetwork(named), opts: opts.filter((_, index) => index < at || index >= at + length) }
}

/** What `kc -i` asks for: the tree, mainline if none is named, and the ref, with the trees that are known there. */
export function parseTree(
  { release = 'mainline', ref }: RawOptions,
  directory: string,
): { release: string; trees: Trees; ref?: string } {
  const tree = parseRelease(String(release), process.cwd())
  const trees = knownTrees(tree, readProject(directory)?.trees, true)
  return { release: tree, trees, ...(typeof ref === 'string' ? { ref: parseRef(ref) } : {}) }
}

/** The trees that `release` may name: a person's own before a project's. The file for the former is made at a desk. */
export function knownTrees(release: string | undefined, project: Trees = {}, desk = false): Trees {
  if (release === undefined || isUrl(release)) return KNOWN_TREES
  if (desk) makeTreesFile()
  return { ...KNOWN_TREES, ...project, ...userTrees() }
}

function parseEnv(lines: readonly string[], env: NodeJS.ProcessEnv): Record<string, string> {
  return Object.fromEntries(
    lines.map(line => {
      const [, name, assigned] = /^([A-Za-z_]\w*)(?:=([\s\S]*))?$/.exec(line) ?? []
      if (!name) throw new InputError(`env: ${quote(line)} is neither NAME nor NAME=value.`)
      const value = assigned ?? env[name]
      if (value === undefined) throw new InputError(`env: ${name} is not set here; write ${name}=value.`)
      return [name, value]
    }),
  )
}

function parseConfigBase(value: string, cwd: string): ConfigBase {
  for (const kind of ['minimal', 'virtme', 'defconfig', 'current'] as const)
    if (value === kind) return { kind }
  return { kind: 'file', path: existing('config-base', value, cwd, 'file') }
}

function parseFragment(value: string, cwd: string, bundled: (name: string) => boolean): string {
  if (bundled(value)) return value
  return existing('config', value, cwd, 'file')
}

function parseWork(script: string | undefined, around: RequestContext): GuestCommand {
  const argv = around.argv ?? []
  if (script !== undefined && argv.length > 0) {
    throw new InputError('The commands were given twice: use either --exec or `-- COMMAND`.')
  }
  if (argv.length > 0) return { kind: 'argv', argv }
  if (script?.trim()) return { kind: 'script', text: script }
  if (script === undefined && around.terminal) return { kind: 'shell' }
  throw new InputError(
    'run is empty: name the commands that the guest is to run, for example `run: uname -r`.',
  )
}

/** The build host, if one was named. Throws InputError for one that is none, and for its options without it. */
export function parseBuildHost(raw: RawOptions): BuildHostRequest | undefined {
  const given = (name: string): string | undefined => {
    const value = raw[name]
    return typeof value === 'string' && value !== '' ? value : undefined
  }
  const [host, key, prefix] = [given('build-host'), given('build-host-key'), given('build-host-exec-prefix')]
  if (host === undefined) {
    const without = ['build-host-exec-prefix', 'build-host-key'].find(name => given(name) !== undefined)
    if (without) throw new InputError(`${without} was given without build-host.`)
    return undefined
  }
  const known = raw['build-host-known-hosts'] ?? []
  return {
    destination: parseDestination(host),
    prefix: prefix === undefined ? [] : stringArgv(prefix),
    vmlinux: parseBoolean('build-host-vmlinux', given('build-host-vmlinux') ?? 'false'),
    knownHosts: typeof known === 'string' ? [known] : known,
    ...(key === undefined ? {} : { key }),
  }
}

function parseShare(name: 'rwdir' | 'rodir', value: string, around: RequestContext): SharedDirectory {
  const [host = '', guest] = value.split('=', 2)
  const path = existing(name, host, around.cwd, 'directory')
  const inside = guest ?? path
  if (!isAbsolute(inside) || /[\n\t,]/.test(inside + path) || inside === '/')
    throw new InputError(
      `${name}: ${quote(value)} needs an absolute path in the guest, and neither comma nor line break.`,
    )
  const writable = name === 'rwdir'
  const { GITHUB_ACTIONS, GITHUB_WORKSPACE, RUNNER_TEMP } = around.env
  // a workflow may be called with paths that are a stranger's
  const allowed = [GITHUB_WORKSPACE, RUNNER_TEMP].filter(place => place !== undefined)
  const real = realpathSync(path)
  if (
    writable &&
    GITHUB_ACTIONS === 'true' &&
    !allowed.some(place => `${real}/`.startsWith(`${realpathSync(place)}/`))
  )
    throw new InputError(`rwdir: ${quote(host)} lies neither in the workspace nor in RUNNER_TEMP.`)
  return { host: real, guest: inside, writable }
}

/** A user of the guest's root. Throws InputError if it has none of that name. */
function parseUser(name: string, root: string): GuestUser | undefined {
  if (name === 'root') return undefined
  const passwd = join(root, 'etc', 'passwd')
  const lines = existsSync(passwd) ? readFileSync(passwd, 'utf8').split('\n') : []
  const [, , uid, gid, , home = '/', shell = ''] =
    lines.find(line => line.startsWith(`${name}:`))?.split(':') ?? []
  if (uid === undefined || gid === undefined)
    throw new InputError(`user is ${quote(name)}: the guest's root has no such user in /etc/passwd.`)
  return { name, uid: Number(uid), gid: Number(gid), home, shell: shell || '/bin/sh' }
}

function parseIgnoreFile(value: string, cwd: string): IgnoreRule[] {
  const path = existing('ignore', value, cwd, 'file')
  return parseIgnore(readFileSync(path, 'utf8'), basename(path))
}

function parseRunDirectory(value: string, cwd: string): string {
  const path = resolve(cwd, value)
  if (existsSync(path) && (!statSync(path).isDirectory() || readdirSync(path).length > 0)) {
    throw new InputError(`run-directory: ${quote(value)} is there already and not empty.`)
  }
  return path
}

/**
 * Everything typed, checked and made absolute. Throws InputError with one sentence about the first thing that is wrong.
 * `bundled` tells whether a fragment's name is one of ours.
 */
export function parseRequest(
  typed: RawOptions,
  around: RequestContext,
  bundled: (name: string) => boolean,
): Request {
  const { path: named } = typed
  const path = existing('path', (typeof named === 'string' && named) || '.', around.cwd, 'directory')
  const project = readProject(path)
  if (!project) return parseOptions(typed, path, {}, around, bundled)
  try {
    return parseOptions(withDefaults(typed, project.defaults), path, project.trees, around, bundled)
  } catch (error) {
    const [name] = error instanceof InputError ? error.message.split(/[ :]/) : []
    const line = name !== undefined && typed[name] === undefined ? project.lines[name] : undefined
    throw line === undefined ? error : new InputError(`${project.file}:${line}: ${messageOf(error)}`)
  }
}

function parseOptions(
  raw: RawOptions,
  path: string,
  projectTrees: Trees,
  around: RequestContext,
  bundled: (name: string) => boolean,
): Request {
  const { cwd, env, local = false } = around
  const given = (name: string): string | undefined => {
    const value = raw[name]
    return typeof value === 'string' && value !== '' ? value : undefined
  }
  const value = (name: string): string => {
    const fallback = OPTIONS.find(option => option.name === name)?.default
    const found = given(name) ?? fallback
    if (found === undefined) throw new Error(`option ${name} has no default`)
    return found
  }
  const list = (name: string): readonly string[] => {
    const found = raw[name]
    return typeof found === 'string' ? [found] : (found ?? [])
  }
  const optional = <T>(name: string, parse: (text: string) => T): T | undefined => {
    const text = given(name)
    return text === undefined ? undefined : parse(text)
  }

  const root = existing('root', value('root'), cwd, 'directory')
  if (!existsSync(join(root, 'bin', 'sh')))
    throw new InputError(`root: ${quote(value('root'))} has no /bin/sh.`)
  const arch = optional('arch', parseArch) ?? ownArch()
  if (!isNative(arch) && root === '/')
    throw new InputError(
      `arch is ${arch}, and this machine's own root cannot run there: name a root of that architecture with root; \`kc root create --arch ${arch} DIR\` makes one.`,
    )
  const ccacheMaxSize = value('ccache-max-size')
  if (!/^\d+(\.\d+)?\s*([KMGT]i?B?)?$/i.test(ccacheMaxSize)) {
    throw new InputError(`ccache-max-size is ${quote(ccacheMaxSize)}: write a size such as 500M or 2G.`)
  }
  const disks = list('disk').map(disk => existing('disk', disk, cwd, 'file'))
  const comma = disks.find(disk => disk.includes(','))
  if (comma)
    throw new InputError(`disk: ${quote(comma)} has a comma, which QEMU reads as the next option; rename it.`)

  const skipModules = parseBoolean('skip-modules', value('skip-modules'))
  const modules = list('modules').map(directory => parseModuleSource(directory, cwd))
  if (skipModules && modules.length > 0)
    throw new InputError(
      'modules and skip-modules were both given: modules are built against what the latter leaves out.',
    )
  const command = parseWork(typeof raw.run === 'string' ? raw.run : undefined, around)
  // a shell is one's own, if the root has one's name; commands are root's
  const own = command.kind === 'shell' && root === '/' ? userInfo().username : 'root'
  const user = parseUser(given('user') ?? own, root)
  const buildHost = parseBuildHost(raw)
  const { network, opts } = takeNetwork(
    parseNetwork(value('network')),
    optional('opts', text => stringArgv(text)) ?? [],
  )
  const release = optional('release', text => parseRelease(text, cwd))
  return {
    release,
    trees: knownTrees(release, projectTrees, local),
    local,
    force: parseBoolean('force', value('force')),
    ref: optional('ref', parseRef),
    path,
    command,
    env: parseEnv(list('env'), env),
    configBase: parseConfigBase(value('config-base'), cwd),
    fragments: list('config').map(fragment => parseFragment(fragment, cwd, bundled)),
    configItems: list('config-items'),
    debugInfo: parseChoice('debug-info', value('debug-info'), ['full', 'none']),
    // given and empty means no suffix at all
    localversion: parseLocalversion(
      typeof raw.localversion === 'string' ? raw.localversion : value('localversion'),
    ),
    arch,
    ccache: parseBoolean('ccache', value('ccache')),
    ccacheMaxSize,
    ccacheRemote: optional('ccache-remote', parseRemote),
    kernelCache: parseBoolean('kernel-cache', value('kernel-cache')),
    kernelCacheMaxBytes: parseMaxSize('kernel-cache-max-size', value('kernel-cache-max-size')),
    skipBuild: parseBoolean('skip-build', value('skip-build')),
    ...(buildHost ? { buildHost } : {}),
    skipModules,
    modules,
    cpus: optional('cpus', text => parseCount('cpus', text, 255)) ?? availableParallelism(),
    memoryMiB: parseMemory('memory', value('memory')),
    network,
    disks,
    append: list('append')
      .flatMap(line => line.trim().split(/\s+/))
      .filter(Boolean),
    opts,
    qemuOpts: optional('qemu-opts', text => stringArgv(text)) ?? [],
    numa: list('numa').map(parseNuma),
    shares: [
      ...list('rwdir').map(text => parseShare('rwdir', text, around)),
      ...list('rodir').map(text => parseShare('rodir', text, around)),
    ],
    ...(given('cwd') === undefined ? {} : { cwd: resolve(cwd, value('cwd')) }),
    ...(user ? { user } : {}),
    root: isAbsolute(root) ? root : resolve(root),
    accel: parseChoice('accel', value('accel'), ['auto', 'kvm', 'tcg']),
    deadlines: {
      boot: parseDuration('boot-timeout', value('boot-timeout')),
      run: parseDuration('run-timeout', value('run-timeout')),
      idle: parseDuration('idle-timeout', value('idle-timeout')),
    },
    failOn: parseFailOn(list('fail-on').length > 0 ? list('fail-on') : ['all']),
    ignore: optional('ignore', text => parseIgnoreFile(text, cwd)) ?? [],
    vmcore: parseChoice('vmcore', value('vmcore'), ['on-failure', 'always', 'never']),
    vmcoreMaxBytes: parseMaxSize('vmcore-max-size', value('vmcore-max-size')),
    runDirectory: optional('run-directory', text => parseRunDirectory(text, cwd)),
  }
}
