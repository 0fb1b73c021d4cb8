import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { asset } from '../host/assets.js'
import { shellQuote } from '../host/shell-quote.js'
import type { GuestCommand, Request } from '../request/request.js'

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
  /** ask on eth0 for an address */
  dhcp: boolean
  terminal?: { rows: number; columns: number; type: string; colours?: string }
  /** number of the first virtio console among /dev/hvcN */
  firstTerminal: number
  /** the guest's name */
  hostname: string
}

const SHARE = '/run/kernelcraft'

/** Runs the work in a clean environment; sourced by nobody, started by init.sh. `own`: variables of this shell alone. */
function runScript(
  request: Request,
  settings: GuestSettings,
  { name: script, work, own }: { name: string; work: GuestCommand; own: Record<string, string> },
): string {
  const { name = 'root', home = '/root', shell = '/bin/sh' } = request.user ?? {}
  const env = {
    HOME: home,
    USER: name,
    LOGNAME: name,
    SHELL: shell,
    ...own,
    KERNELCRAFT: '1',
    ...request.env,
  }
  const assignments = Object.entries(env).map(([name, value]) => `export ${name}=${shellQuote(value)}\n`)
  return [
    'unset BOOT_IMAGE\n',
    ...assignments,
    `cd ${shellQuote(settings.directory)} 2>/dev/null || cd /\n`,
    become(request, script),
    start(work),
  ].join('')
}

/** What the commands' own terminal is, if they have one. */
function terminalVariables({ terminal }: GuestSettings): Record<string, string> {
  return {
    TERM: terminal?.type ?? 'dumb',
    ...(terminal?.colours ? { COLORTERM: terminal.colours } : {}),
  }
}

/** Goes on as another user: the script runs itself once more, with that user's rights. */
function become({ user }: Request, script: string): string {
  if (!user) return ''
  const words = [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--init-groups']
  return [
    'if [ -z "$KERNELCRAFT_USER" ]; then\n',
    '  export KERNELCRAFT_USER=1\n',
    // the terminal is opened anew by the shell's job control
    `  [ -t 0 ] && chown ${user.uid} "$(readlink /proc/self/fd/0)"\n`,
    `  exec setpriv ${words.join(' ')} -- /bin/sh ${SHARE}/${script}\n`,
    'fi\nunset KERNELCRAFT_USER\n',
  ].join('')
}

function start(work: GuestCommand): string {
  const shell = (arguments_: string) =>
    `if command -v bash > /dev/null; then exec bash ${arguments_}; fi\nexec sh ${arguments_}\n`
  if (work.kind === 'shell') return shell('-i')
  if (work.kind === 'argv' && work.argv.length > 1) return `exec ${work.argv.map(shellQuote).join(' ')}\n`
  // a script with an interpreter of its own is run by that
  return scriptText(work).startsWith('#!') ? `exec ${SHARE}/script\n` : shell(`-e ${SHARE}/script`)
}

/** One word after `--` is a line of shell, as with ssh; several are a program and its arguments. */
function scriptText(work: GuestCommand): string {
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
  // the commands may be another user's, who has to read them through this export
  await mkdir(directory, { recursive: true, mode: 0o755 })
  const variables = {
    KC_DIRECTORY: settings.directory,
    KC_MODULES: settings.hasModules ? '1' : '',
    KC_LOAD: settings.load.length > 0 ? '1' : '',
    KC_MASKS: settings.masks.length > 0 ? '1' : '',
    KC_NOSUID: settings.ignoreSetuid ? '1' : '',
    KC_DHCP: settings.dhcp ? '1' : '',
    KC_RESOLVER: settings.resolver ?? '',
    KC_TERMINAL: settings.terminal ? '1' : '',
    KC_HVC: String(settings.firstTerminal),
    KC_ROWS: String(settings.terminal?.rows ?? 24),
    KC_COLUMNS: String(settings.terminal?.columns ?? 80),
  }
  const text = Object.entries(variables)
    .map(([name, value]) => `${name}=${shellQuote(value)}\n`)
    .join('')
  const scripts = [
    { name: 'run.sh', work: request.command, own: terminalVariables(settings) },
    // for who joins later; init.sh knows that terminal
    { name: 'attach.sh', work: { kind: 'shell' } as const, own: {} },
  ]
  await Promise.all([
    ...['init.sh', 'dhcp.sh'].map(name => copyFile(asset(`boot/guest/${name}`), join(directory, name))),
    writeFile(join(directory, 'settings'), text),
    writeFile(join(directory, 'hostname'), `${settings.hostname}\n`),
    writeFile(
      join(directory, 'shares'),
      request.shares
        .map(({ guest, writable }, index) => `kcshare${index} ${writable ? 'rw' : 'ro'} ${guest}\n`)
        .join(''),
    ),
    writeFile(join(directory, 'modules'), settings.load.map(name => `${name}\n`).join('')),
    writeFile(join(directory, 'masks'), settings.masks.map(path => `${path}\n`).join('')),
    ...scripts.map(script => writeFile(join(directory, script.name), runScript(request, settings, script))),
    writeFile(join(directory, 'script'), scriptText(request.command), { mode: 0o755 }),
  ])
}
