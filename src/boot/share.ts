import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { asset } from '../assets.js'
import type { Request, Work } from '../request.js'
import { shellQuote } from '../shell.js'

/** What the guest's init is told beside the commands. */
export interface GuestSettings {
  /** where the commands start, if it is there in the guest */
  directory: string
  hasModules: boolean
  /** external modules to load, in this order */
  load: readonly string[]
  masks: readonly string[]
  /** owners of files are not what they were, so set-user-ID bits must not count */
  ignoreSetuid: boolean
  resolver?: string
  terminal?: { rows: number; columns: number; type: string }
}

const SHARE = '/run/kernelcraft'

/** Runs the commands in a clean environment; sourced by nobody, started by init.sh. */
function runScript(request: Request, settings: GuestSettings): string {
  const env = {
    HOME: '/root',
    USER: 'root',
    LOGNAME: 'root',
    SHELL: '/bin/sh',
    TERM: settings.terminal?.type ?? 'dumb',
    KERNELCRAFT: '1',
    ...request.env,
  }
  const assignments = Object.entries(env).map(([name, value]) => `export ${name}=${shellQuote(value)}\n`)
  return [
    'unset BOOT_IMAGE\n',
    ...assignments,
    `cd ${shellQuote(settings.directory)} 2>/dev/null || cd /\n`,
    start(request.work),
  ].join('')
}

function start(work: Work): string {
  const shell = (arguments_: string) =>
    `if command -v bash > /dev/null; then exec bash ${arguments_}; fi\nexec sh ${arguments_}\n`
  if (work.kind === 'shell') return shell('-i')
  if (work.kind === 'argv' && work.argv.length > 1) return `exec ${work.argv.map(shellQuote).join(' ')}\n`
  // a script with an interpreter of its own is run by that
  return scriptText(work).startsWith('#!') ? `exec ${SHARE}/script\n` : shell(`-e ${SHARE}/script`)
}

/** One word after `--` is a line of shell, as with ssh; several are a program and its arguments. */
function scriptText(work: Work): string {
  if (work.kind === 'script') return work.text.endsWith('\n') ? work.text : `${work.text}\n`
  if (work.kind === 'argv' && work.argv.length === 1) return `${work.argv[0]}\n`
  return ''
}

/** Fills the directory that is exported read-only to the guest and mounted there first of all. */
export async function writeShare(
  directory: string,
  request: Request,
  settings: GuestSettings,
): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const variables = {
    KC_DIRECTORY: settings.directory,
    KC_MODULES: settings.hasModules ? '1' : '',
    KC_LOAD: settings.load.length > 0 ? '1' : '',
    KC_MASKS: settings.masks.length > 0 ? '1' : '',
    KC_NOSUID: settings.ignoreSetuid ? '1' : '',
    KC_RESOLVER: settings.resolver ?? '',
    KC_TERMINAL: settings.terminal ? '1' : '',
    KC_ROWS: String(settings.terminal?.rows ?? 24),
    KC_COLUMNS: String(settings.terminal?.columns ?? 80),
  }
  const text = Object.entries(variables)
    .map(([name, value]) => `${name}=${shellQuote(value)}\n`)
    .join('')
  await Promise.all([
    copyFile(asset('boot/guest/init.sh'), join(directory, 'init.sh')),
    writeFile(join(directory, 'settings'), text),
    writeFile(join(directory, 'hostname'), 'kernelcraft\n'),
    writeFile(join(directory, 'modules'), settings.load.map(name => `${name}\n`).join('')),
    writeFile(join(directory, 'masks'), settings.masks.map(path => `${path}\n`).join('')),
    writeFile(join(directory, 'run.sh'), runScript(request, settings)),
    writeFile(join(directory, 'script'), scriptText(request.work), { mode: 0o755 }),
  ])
}
