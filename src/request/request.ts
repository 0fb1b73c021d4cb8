import type { ArchName } from '../arch.js'
import type { IgnoreRule, Selector } from '../triage/rules.js'
import type { ModuleSource } from './module-source.js'
import type { Choice, CONFIG_BASES } from './options.js'
import type { Trees } from './trees.js'

/** The configuration that fragments and items are applied to; `path` is absolute. */
export type ConfigBase = { kind: (typeof CONFIG_BASES)[number] } | { kind: 'file'; path: string }

/** Seconds; Infinity is off. */
export interface Deadlines {
  boot: number
  run: number
  idle: number
}

/** What the guest runs: a script, an argument vector, or a shell on the terminal. */
export type GuestCommand =
  | { kind: 'script'; text: string }
  | { kind: 'argv'; argv: readonly string[] }
  | { kind: 'shell' }

/** A machine that builds instead of this one. */
export interface BuildHostRequest {
  /** as ssh(1) takes it: `user@host` or `ssh://user@host:port` */
  destination: string
  /** arguments that precede each command that is run there */
  prefix: readonly string[]
  /** vmlinux is always fetched, not only when a finding or vmcore needs it */
  vmlinux: boolean
  /** private key; the user's own agent and files if absent */
  key?: string
  /** lines of known_hosts(5); the user's own file if empty */
  knownHosts: readonly string[]
}

/** How the guest is connected; `bridge` is the name of a bridge of the host. */
export type Network = { kind: 'none' | 'user' | 'loop' } | { kind: 'bridge'; bridge: string }

/** A directory of the host that is mounted in the guest, in addition to the root. */
export interface SharedDirectory {
  host: string
  guest: string
  writable: boolean
}

/** The user that the commands run as: an entry of the root's passwd(5). */
export interface GuestUser {
  name: string
  uid: number
  gid: number
  home: string
  shell: string
}

/** All options of one run, typed and validated once. Paths are absolute. */
export interface Request {
  release?: string
  /** the trees that `release` may name */
  trees: Trees
  ref?: string
  path: string
  /** local, by kc: the checkout's repository gets the remote that `release` names */
  local: boolean
  /** leave uncommitted changes out where they are in the way */
  force: boolean
  command: GuestCommand
  env: Readonly<Record<string, string>>
  configBase: ConfigBase
  /** files, or names of bundled fragments */
  fragments: readonly string[]
  configItems: readonly string[]
  debugInfo: Choice<'debug-info'>
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
  /** absolute, in the guest; the directory where kc was started if absent */
  cwd?: string
  /** root if absent */
  user?: GuestUser
  root: string
  accel: Choice<'accel'>
  deadlines: Deadlines
  /** findings that fail the run */
  failOn: readonly Selector[]
  ignore: readonly IgnoreRule[]
  vmcore: Choice<'vmcore'>
  vmcoreMaxBytes: number
  runDirectory?: string
}

/** The environment of a request: relative paths start at `cwd`, `NAME` variables come from `env`. */
export interface RequestContext {
  cwd: string
  env: NodeJS.ProcessEnv
  /** arguments after `--`; only kc has them */
  argv?: readonly string[]
  /** true where a shell on the terminal is possible when no commands are given */
  terminal?: boolean
  /** true for kc: the user's own checkout and home */
  local?: boolean
}
