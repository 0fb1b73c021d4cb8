import { SourceError } from '../errors.js'
import { describeEnd, type Finished, lastLines, run } from '../host/processes.js'

/**
 * Settings that hold for every git of ours: no hook and no monitor of the repository's own runs, no question is asked,
 * no remote helper is started, contents are taken as they are, and a checkout that another user made is read all the same.
 */
const SETTINGS = [
  'core.hooksPath=/dev/null',
  'core.fsmonitor=false',
  'core.autocrlf=false',
  'core.untrackedCache=false',
  'protocol.ext.allow=never',
  'safe.directory=*',
  'advice.detachedHead=false',
  'gc.auto=0',
  'maintenance.auto=false',
  'checkout.workers=0',
  'core.looseCompression=1',
]

export interface GitCall {
  /** the repository (--git-dir) */
  gitDir?: string
  workTree?: string
  env?: NodeJS.ProcessEnv
  cancel?: AbortSignal
  onLine?: (line: string) => void
  /** seconds */
  deadline?: number
  /** the output is wanted whole, however long it is */
  whole?: boolean
}

/** Runs git and returns how it ended. */
export async function tryGit(args: readonly string[], call: GitCall = {}): Promise<Finished> {
  const where = [
    ...(call.gitDir ? [`--git-dir=${call.gitDir}`] : []),
    ...(call.workTree ? [`--work-tree=${call.workTree}`] : []),
  ]
  return await run({
    file: 'git',
    args: [...SETTINGS.flatMap(setting => ['-c', setting]), ...where, ...args],
    cwd: call.workTree ?? call.gitDir ?? '/',
    env: { GIT_TERMINAL_PROMPT: '0', GIT_OPTIONAL_LOCKS: '0', LC_ALL: 'C', ...call.env },
    environment: 'network',
    deadline: call.deadline ?? 600,
    cancel: call.cancel,
    onLine: call.onLine,
    ...(call.whole ? { keep: Number.POSITIVE_INFINITY } : {}),
  })
}

/** Runs git and returns its output without the last newline; throws SourceError if it fails. */
export async function git(args: readonly string[], call: GitCall = {}): Promise<string> {
  const end = await tryGit(args, call)
  if (end.status !== 0) {
    throw new SourceError(`${describeEnd(`git ${args[0]}`, end)}.`, lastLines(end.stderr, 5))
  }
  return end.stdout.replace(/\n$/, '')
}

/** Full id of the commit that `ref` names in this repository, or undefined. */
export async function resolveCommit(gitDir: string, ref: string): Promise<string | undefined> {
  const end = await tryGit(['rev-parse', '--verify', '--quiet', '--end-of-options', `${ref}^{commit}`], {
    gitDir,
  })
  return end.status === 0 ? end.stdout.trim() : undefined
}
