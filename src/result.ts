import type { ArchName } from './arch.js'
import type { Status, TestCounts } from './triage/tests.js'

/**
 * The verdicts of a run and the exit status that kc gives for each.
 * The order has no meaning; a run has exactly one.
 */
export const EXIT_STATUS = {
  passed: 0,
  'test-failed': 1,
  splat: 3,
  panic: 4,
  hang: 5,
  'boot-failed': 6,
  'build-failed': 7,
  'config-failed': 8,
  'source-failed': 9,
  'infra-error': 10,
  cancelled: 130,
} as const

export type Verdict = keyof typeof EXIT_STATUS

/** What each verdict means. */
export const MEANINGS: Readonly<Record<Verdict, string>> = {
  passed: 'booted, the commands exited with status 0, the kernel reported no bug',
  'test-failed': 'the commands exited with another status, or KTAP tests failed, on a healthy kernel',
  splat: 'the kernel reported a bug (WARNING, BUG, KASAN, lockdep, RCU stall, ...) and continued',
  panic: 'the kernel died after the commands had started',
  hang: 'a deadline passed after the guest was up',
  'boot-failed': 'the kernel died or stalled before the commands started',
  'build-failed': 'the compiler or make failed',
  'config-failed': 'a requested option did not survive Kconfig',
  'source-failed': 'unknown tree or ref, or a fetch that failed',
  'infra-error': 'the machine: no QEMU, a full disk, a virtual machine that did not start',
  cancelled: 'stopped from outside',
}

/** Exit status of kc for invalid input; no run took place. */
export const EXIT_INVALID_INPUT = 2

export type Stage = 'preflight' | 'source' | 'cache' | 'config' | 'build' | 'modules' | 'boot' | 'triage'

/** One stage's duration, in seconds of wall time. */
export interface Timing {
  stage: Stage
  seconds: number
  /** the line with which the log ends it */
  summary: string
}

/** Where the tested source came from. */
export interface SourceFacts {
  /** name of the tree, its URL, or the path of the checkout */
  tree: string
  /** the requested ref; HEAD or the tree's branch if none was */
  ref: string
  /** full commit id */
  sha: string
  /** id of the tree object that was tested */
  treeId: string
  /** first line of the commit message */
  subject: string
  /** true if the tree is the commit's with uncommitted changes */
  dirty?: boolean
}

/** The commit as logs and summaries show it. */
export function commitText({ sha, dirty }: Pick<SourceFacts, 'sha' | 'dirty'>): string {
  return sha.slice(0, 12) + (dirty ? '+dirty' : '')
}

export interface KernelFacts {
  arch: ArchName
  /** `uname -r` of the built kernel */
  release: string
  /** SHA-256 of the resolved configuration */
  configHash: string
  configBase: string
  /** the first line of the compiler's --version */
  compiler: string
  /** true if nothing had to be compiled because the same kernel existed already */
  reused: boolean
  /** the build host, if it was not this machine */
  builtOn?: string
  ccache?: CcacheFacts
  cache?: KernelCacheFacts
}

/** What ccache did for a build. */
export interface CcacheFacts {
  /** calls of the compiler that it answered */
  hits: number
  misses: number
  /** size of its directory; absent on a build host */
  bytes?: number
  /** about how many seconds of waiting that saved; absent where no build to compare with was seen yet */
  savedSeconds?: number
}

/** What the kernel cache did for a run. */
export interface KernelCacheFacts {
  /** hash of everything that the kernel was built from */
  key: string
  hit: boolean
  /** of a miss: what differs from the most similar kernel that was built before; absent if there was none */
  differs?: string[]
}

/** Seconds from the start of virtme-run; what never happened is absent. */
export interface BootTimestamps {
  banner?: number
  init?: number
  commands?: number
  status?: number
  end?: number
}

export interface BootFacts {
  accel: 'kvm' | 'tcg'
  qemu: string
  virtme: string
  rootfs: '9p' | 'virtiofs'
  /** how the host's secrets are kept from the guest: see boot/root-snapshot.ts */
  snapshot: string
  cpus: number
  memoryMiB: number
  timestamps: BootTimestamps
}

/** A compiler's error, with its location in the source. */
export interface Diagnostic {
  /** relative to the tree; of an external module's, to the working directory */
  file: string
  /** true for a file of an external module */
  external?: boolean
  line: number
  column?: number
  message: string
}

export interface ErrorFacts {
  message: string
  details: readonly string[]
  diagnostics: readonly Diagnostic[]
}

/** The location in the source from which code was compiled. */
export interface SourceLocation {
  function: string
  /** relative to the tree */
  file: string
  line: number
  /** the function was inlined into the next one */
  inlined: boolean
}

/** A function of a finding's stack, as the kernel prints it, and where its code comes from. */
export interface StackEntry {
  /** `symbol+0xoffset/0xsize [module]` */
  text: string
  /** innermost inlined function first; empty where there is no debug information for it */
  source: SourceLocation[]
}

/** One report of the kernel: a bug, a stall, a panic. */
export interface FindingFacts {
  type: string
  /** as syzbot's dashboard prints it */
  title: string
  /** the same on every boot and build */
  fingerprint: string
  /** 1-based line of console.log */
  line: number
  count: number
  /** the line of the panic, if this was fatal */
  panic?: string
  /** why it does not fail the run */
  ignored?: string
  /** the external module whose code it is about */
  module?: string
  stack: StackEntry[]
  /** its lines of the console, at most 200 */
  report: string[]
  /** the console's last lines before it; only of the findings that matter most */
  before?: string[]
  /** the source where it happened; likewise */
  around?: SourceLines
}

/** Lines of a source file around one that matters. */
export interface SourceLines {
  /** relative to the tree */
  file: string
  /** the line that matters */
  line: number
  /** number of the first of `lines` */
  first: number
  lines: string[]
}

/** An external module under test. */
export interface ModuleFacts {
  /** its name in the kernel */
  name: string
  /** directory of its source, as it was requested */
  source: string
  /** it was loaded into the kernel */
  loaded: boolean
  /** why it could not be loaded, or not be removed again */
  trouble?: string
}

/** A test that did not pass. One entry may stand for several that never ran. */
export interface FailedTest {
  /** names from the outermost test on, with slashes between */
  path: string
  status: Status
  reason?: string
  /** what was printed while it ran; only of the first few */
  log?: string[]
}

/** The results in the guest's KTAP output. Counts are of tests without subtests. */
export interface TestFacts {
  counts: TestCounts
  /** at most 500 */
  failures: FailedTest[]
  /** at most 100 */
  skips: FailedTest[]
  /** sentences about output that breaks the rules of KTAP */
  errors: string[]
}

export interface VmcoreFacts {
  bytes: number
  /** of the kernel, in hexadecimal; absent where the dump does not have it */
  buildId?: string
  /** a shell command that opens it */
  open: string
}

/** Everything that is known of one run; `result.json` is this, see schema/result.schema.json. */
export interface Result {
  schema: 1
  verdict: Verdict
  /** the title of the finding that decided, as syzbot has it; else the same as `reason` */
  title: string
  /** one sentence that explains the verdict */
  reason: string
  /** of the finding that decided */
  fingerprint?: string
  /** status of the commands in the guest; absent if it was never known */
  exitCode?: number
  started: string
  seconds: number
  runDirectory: string
  /** one command that repeats the run on the user's machine */
  repeat: string
  source?: SourceFacts
  kernel?: KernelFacts
  boot?: BootFacts
  /** reports of the kernel, the first one first */
  findings: FindingFacts[]
  tests?: TestFacts
  /** external modules, in the order in which they were loaded */
  modules?: ModuleFacts[]
  vmcore?: VmcoreFacts
  timings: Timing[]
  warnings: string[]
  error?: ErrorFacts
  /** names of the files in the run directory, by what they are */
  files: Record<string, string>
}
