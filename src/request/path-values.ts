import { accessSync, constants, existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { basename, isAbsolute, join, resolve } from 'node:path'
import { InputError } from '../errors.js'
import type { IgnoreRule } from '../triage/rules.js'
import { isBundled } from './bundled-fragments.js'
import { parseIgnore } from './finding-rules.js'
import { CONFIG_BASES } from './options.js'
import type { ConfigBase, GuestUser, RequestContext, SharedDirectory } from './request.js'
import { invalid, quote } from './values.js'

/** Parsers of single values that name something on this machine, which has to exist. Each throws InputError. */

/** The absolute path of a readable file (anything but a directory), or of a directory. */
export function existingPath(name: string, value: string, cwd: string, kind: 'file' | 'directory'): string {
  const path = resolve(cwd, value)
  let found: boolean
  try {
    const info = statSync(path)
    found = kind === 'directory' ? info.isDirectory() : !info.isDirectory()
    if (found) accessSync(path, constants.R_OK)
  } catch (error) {
    const denied = (error as NodeJS.ErrnoException).code === 'EACCES'
    throw new InputError(`${name}: ${quote(value)} ${denied ? 'may not be read' : 'does not exist'}.`, name)
  }
  if (!found)
    throw new InputError(
      `${name}: ${quote(value)} is ${kind === 'file' ? 'a directory, not a file' : 'not a directory'}.`,
      name,
    )
  return path
}

/** One of the configurations with a name, or a file. */
export function parseConfigBase(value: string, cwd: string): ConfigBase {
  const kind = CONFIG_BASES.find(base => base === value)
  return kind ? { kind } : { kind: 'file', path: existingPath('config-base', value, cwd, 'file') }
}

/** The name of a bundled fragment, or the absolute path of a file. */
export function parseFragment(value: string, cwd: string): string {
  return isBundled(value) ? value : existingPath('config', value, cwd, 'file')
}

/** A root file system: a directory with a shell. */
export function parseRoot(value: string, cwd: string): string {
  const root = existingPath('root', value, cwd, 'directory')
  if (existsSync(join(root, 'bin', 'sh'))) return root
  throw new InputError(`root: ${quote(value)} has no /bin/sh.`, 'root')
}

/** A disk image, whose path QEMU can take as the value of an option. */
export function parseDisk(value: string, cwd: string): string {
  const path = existingPath('disk', value, cwd, 'file')
  if (!path.includes(',')) return path
  throw new InputError(
    `disk: ${quote(path)} has a comma, which QEMU reads as the next option; rename it.`,
    'disk',
  )
}

/** `HOST`, or `HOST=GUEST`. In a workflow a writable directory has to be in the workspace or in RUNNER_TEMP. */
export function parseShare(
  name: 'rwdir' | 'rodir',
  value: string,
  { cwd, env }: RequestContext,
): SharedDirectory {
  const [host = '', mountPoint] = value.split('=', 2)
  const path = existingPath(name, host, cwd, 'directory')
  const guest = mountPoint ?? path
  if (!isAbsolute(guest) || /[\n\t,]/.test(guest + path) || guest === '/')
    throw new InputError(
      `${name}: ${quote(value)} needs an absolute path in the guest, and neither comma nor line break.`,
      name,
    )
  const writable = name === 'rwdir'
  const real = realpathSync(path)
  if (writable && env.GITHUB_ACTIONS === 'true' && !belongsToJob(real, env))
    throw new InputError(`rwdir: ${quote(host)} lies neither in the workspace nor in RUNNER_TEMP.`, name)
  return { host: real, guest, writable }
}

/** True below the directories of a job: a workflow may be called with paths that an untrusted contributor chose. */
function belongsToJob(path: string, { GITHUB_WORKSPACE, RUNNER_TEMP }: NodeJS.ProcessEnv): boolean {
  return [GITHUB_WORKSPACE, RUNNER_TEMP].some(
    directory => directory !== undefined && `${path}/`.startsWith(`${realpathSync(directory)}/`),
  )
}

/** The entry of a user in the root's passwd(5); undefined for root, who needs none. */
export function parseUser(name: string, root: string): GuestUser | undefined {
  if (name === 'root') return undefined
  const passwd = join(root, 'etc', 'passwd')
  const lines = existsSync(passwd) ? readFileSync(passwd, 'utf8').split('\n') : []
  const [, , uid, gid, , home = '/', shell = ''] =
    lines.find(line => line.startsWith(`${name}:`))?.split(':') ?? []
  if (uid === undefined || gid === undefined)
    throw invalid('user', name, "the guest's root has no such user in /etc/passwd")
  return { name, uid: Number(uid), gid: Number(gid), home, shell: shell || '/bin/sh' }
}

/** The rules of an ignore file. */
export function parseIgnoreFile(value: string, cwd: string): IgnoreRule[] {
  const path = existingPath('ignore', value, cwd, 'file')
  return parseIgnore(readFileSync(path, 'utf8'), basename(path))
}

/** The absolute path of a directory that is empty, or does not exist yet. */
export function parseRunDirectory(value: string, cwd: string): string {
  const path = resolve(cwd, value)
  if (existsSync(path) && (!statSync(path).isDirectory() || readdirSync(path).length > 0))
    throw new InputError(
      `run-directory: ${quote(value)} already exists and is not an empty directory.`,
      'run-directory',
    )
  return path
}
