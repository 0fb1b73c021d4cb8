import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { asset } from '../host/assets.js'
import { shellQuote } from '../host/shell-quote.js'
import type { GuestCommand, Request } from '../request/request.js'

/** Settings of the guest's init beside the commands. */
export interface GuestSettings {
  /** working directory of the commands, if it exists in the guest */
  directory: string
  hasModules: boolean
  /** external modules to load, in this order */
  load: readonly string[]
  /** absolute paths that init covers, see root-snapshot.ts */
  masks: readonly string[]
  /** the guest sees other owners of files than the host, so set-user-ID bits must not count */
  ignoreSetuid: boolean
  /** address of the DNS server */
  resolver?: string
  /** get an address for eth0 by DHCP */
  dhcp: boolean
  /** the commands' terminal, if they have one, with its TERM and COLORTERM */
  terminal?: { rows: number; columns: number; term: string; colorTerm?: string }
  /** number of the first virtio console among /dev/hvcN */
  firstTerminal: number
  hostname: string
}

interface RunScript {
  name: string
  command: GuestCommand
  /** variables of this script alone */
  env: Record<string, string>
}

/** where the guest mounts the directory that `writeShare` fills */
const SHARE = '/run/kernelcraft'

/** Fills the directory that is exported read-only to the guest; the kernel's command line mounts it before anything else. */
export async function writeShare(
  directory: string,
  request: Request,
  settings: GuestSettings,
): Promise<void> {
  // the commands may run as another user, who has to read them through this export
  await mkdir(directory, { recursive: true, mode: 0o755 })
  const scripts: RunScript[] = [
    { name: 'run.sh', command: request.command, env: terminalVariables(settings) },
    // for kc attach; init.sh sets the variables of its terminal
    { name: 'attach.sh', command: { kind: 'shell' }, env: {} },
  ]
  const files: Record<string, string> = {
    settings: settingsText(settings),
    hostname: `${settings.hostname}\n`,
    shares: request.shares
      .map(({ guest, writable }, index) => `kcshare${index} ${writable ? 'rw' : 'ro'} ${guest}\n`)
      .join(''),
    modules: settings.load.map(name => `${name}\n`).join(''),
    masks: settings.masks.map(path => `${path}\n`).join(''),
    ...Object.fromEntries(scripts.map(script => [script.name, runScript(request, settings, script)])),
  }
  await Promise.all([
    ...['init.sh', 'dhcp.sh'].map(name => copyFile(asset(`boot/guest/${name}`), join(directory, name))),
    ...Object.entries(files).map(([name, text]) => writeFile(join(directory, name), text)),
    writeFile(join(directory, 'script'), scriptText(request.command), { mode: 0o755 }),
  ])
}

/** The settings as assignments, which init.sh reads. */
function settingsText(settings: GuestSettings): string {
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
  return Object.entries(variables)
    .map(([name, value]) => `${name}=${shellQuote(value)}\n`)
    .join('')
}

/** The script that init.sh starts: sets up the environment, changes the user, and runs the command. */
function runScript(request: Request, settings: GuestSettings, script: RunScript): string {
  const { name = 'root', home = '/root', shell = '/bin/sh' } = request.user ?? {}
  const env = {
    HOME: home,
    USER: name,
    LOGNAME: name,
    SHELL: shell,
    ...script.env,
    KERNELCRAFT: '1',
    ...request.env,
  }
  const assignments = Object.entries(env).map(([name, value]) => `export ${name}=${shellQuote(value)}\n`)
  return [
    'unset BOOT_IMAGE\n',
    ...assignments,
    `cd ${shellQuote(settings.directory)} 2>/dev/null || cd /\n`,
    changeUser(request, script.name),
    startCommand(script.command),
  ].join('')
}

/** Variables that describe the commands' terminal. */
function terminalVariables({ terminal }: GuestSettings): Record<string, string> {
  return {
    TERM: terminal?.term ?? 'dumb',
    ...(terminal?.colorTerm ? { COLORTERM: terminal.colorTerm } : {}),
  }
}

/** Continues as another user: the script runs itself once more, with that user's IDs. */
function changeUser({ user }: Request, script: string): string {
  if (!user) return ''
  const options = [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--init-groups']
  return [
    'if [ -z "$KERNELCRAFT_USER" ]; then\n',
    '  export KERNELCRAFT_USER=1\n',
    // the shell's job control opens the terminal again
    `  [ -t 0 ] && chown ${user.uid} "$(readlink /proc/self/fd/0)"\n`,
    `  exec setpriv ${options.join(' ')} -- /bin/sh ${SHARE}/${script}\n`,
    'fi\nunset KERNELCRAFT_USER\n',
  ].join('')
}

function startCommand(command: GuestCommand): string {
  const shell = (args: string) =>
    `if command -v bash > /dev/null; then exec bash ${args}; fi\nexec sh ${args}\n`
  if (command.kind === 'shell') return shell('-i')
  if (command.kind === 'argv' && command.argv.length > 1)
    return `exec ${command.argv.map(shellQuote).join(' ')}\n`
  // a script that names its interpreter is run by that
  return scriptText(command).startsWith('#!') ? `exec ${SHARE}/script\n` : shell(`-e ${SHARE}/script`)
}

/** A single argument after `--` is a line of shell, as with ssh; several are a program and its arguments. */
function scriptText(command: GuestCommand): string {
  if (command.kind === 'script') return command.text.endsWith('\n') ? command.text : `${command.text}\n`
  if (command.kind === 'argv' && command.argv.length === 1) return `${command.argv[0]}\n`
  return ''
}
