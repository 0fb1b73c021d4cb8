import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SourceError } from '../errors.js'
import { describeEnd, type Finished, lastLines, run } from '../host/processes.js'

/**
 * Settings of every git command: the repository's hooks and its file system monitor do not run, no remote helper starts,
 * contents are not converted, and a checkout of another user can be read.
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
  'core.splitIndex=false',
]

export interface GitCall {
  /** the repository (--git-dir) */
  gitDir?: string
  workTree?: string
  env?: NodeJS.ProcessEnv
  cancel?: AbortSignal
  onLine?: (line: string) => void
  onData?: (chunk: Buffer) => void
  /** seconds */
  deadline?: number
  /** keep the complete output, however long it is */
  whole?: boolean
}

/** Runs git and returns its status and output. */
export async function tryGit(args: readonly string[], call: GitCall = {}): Promise<Finished> {
  const repository = [
    ...(call.gitDir ? [`--git-dir=${call.gitDir}`] : []),
    ...(call.workTree ? [`--work-tree=${call.workTree}`] : []),
  ]
  return await run({
    file: 'git',
    args: [...SETTINGS.flatMap(setting => ['-c', setting]), ...repository, ...args],
    cwd: call.workTree ?? call.gitDir ?? '/',
    env: { GIT_TERMINAL_PROMPT: '0', GIT_OPTIONAL_LOCKS: '0', LC_ALL: 'C', ...call.env },
    environment: 'network',
    deadline: call.deadline ?? 600,
    cancel: call.cancel,
    onLine: call.onLine,
    onData: call.onData,
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

/**
 * Creates a bare repository in the cache where it does not exist, and again where a clone that it borrows objects from no
 * longer exists. `reference` is a directory of objects to borrow from now on.
 */
export async function openRepository(gitDir: string, reference?: string): Promise<void> {
  const alternates = join(gitDir, 'objects', 'info', 'alternates')
  const borrowed = await readFile(alternates, 'utf8').catch(() => '')
  const gone = borrowed.split('\n').some(line => line !== '' && !existsSync(unquote(line)))
  if (gone) await rm(gitDir, { recursive: true, force: true })
  if (!existsSync(join(gitDir, 'HEAD'))) {
    await mkdir(gitDir, { recursive: true })
    await git(['init', '--quiet', '--bare', gitDir])
  }
  const line = reference && quote(reference)
  if (line && !borrowed.split('\n').includes(line)) {
    await mkdir(join(gitDir, 'objects', 'info'), { recursive: true })
    await writeFile(alternates, `${gone ? '' : borrowed}${line}\n`)
  }
}

// git reads a line that begins with a double quote as a C string (gitrepository-layout(5))
const quote = (path: string) => (/[\n"#]/.test(path) ? JSON.stringify(path) : path)
const unquote = (line: string) => (line.startsWith('"') ? (JSON.parse(line) as string) : line)

/** Variables with one more setting for git, beside those of this process (git-config(1), GIT_CONFIG_COUNT). */
export function withConfig(key: string, value: string): NodeJS.ProcessEnv {
  const count = Number(process.env.GIT_CONFIG_COUNT) || 0
  return {
    GIT_CONFIG_COUNT: String(count + 1),
    [`GIT_CONFIG_KEY_${count}`]: key,
    [`GIT_CONFIG_VALUE_${count}`]: value,
  }
}
