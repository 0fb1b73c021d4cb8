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

/** Exit status of kc for input that makes no sense; no run took place. */
export const EXIT_INVALID_INPUT = 2

export type Stage = 'preflight' | 'source' | 'config' | 'build' | 'boot'

/** One stage's duration, in seconds of wall time. */
export interface Timing {
  stage: Stage
  seconds: number
}

/** Where the tested source came from. */
export interface SourceFacts {
  /** name of the tree, its URL, or the path of the checkout */
  tree: string
  /** what was asked for; HEAD or the tree's branch if nothing was */
  ref: string
  /** full commit id */
  sha: string
  /** id of the commit's tree object */
  treeId: string
  /** first line of the commit message */
  subject: string
}

export interface KernelFacts {
  arch: string
  /** what `uname -r` says of the built kernel */
  release: string
  /** SHA-256 of the resolved configuration */
  configHash: string
  configBase: string
  /** the first line of the compiler's --version */
  compiler: string
  /** true if nothing had to be compiled because the same kernel was there already */
  reused: boolean
  ccache?: { hits: number; misses: number }
}

/** Seconds from the start of virtme-run; a moment that never came is absent. */
export interface BootMoments {
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
  /** how the host's secrets are kept from the guest: see boot/snapshot.ts */
  snapshot: string
  cpus: number
  memoryMiB: number
  moments: BootMoments
}

/** A place in the source that a compiler complained about; `file` is relative to the tree. */
export interface Diagnostic {
  file: string
  line: number
  column?: number
  message: string
}

export interface ErrorFacts {
  message: string
  details: readonly string[]
  diagnostics: readonly Diagnostic[]
}

/** Everything that one run found out; `result.json` is this, see schema/result.schema.json. */
export interface Result {
  schema: 1
  verdict: Verdict
  /** one sentence that explains the verdict */
  title: string
  /** status of the commands in the guest; absent if it was never known */
  exitCode?: number
  started: string
  seconds: number
  runDirectory: string
  /** one line that repeats the run at a desk */
  repeat: string
  source?: SourceFacts
  kernel?: KernelFacts
  boot?: BootFacts
  timings: Timing[]
  warnings: string[]
  error?: ErrorFacts
  /** names of the files in the run directory, by what they are */
  files: Record<string, string>
}
