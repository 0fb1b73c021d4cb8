import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { type ArchName, hostArch } from '../arch.js'
import { InfraError, messageOf } from '../errors.js'
import { type KvmState, kvmState } from './kvm.js'
import { describeEnd, lastLines, run } from './processes.js'
import { installCommand, probeTool, type ToolState, toolsFor, which } from './tools.js'
import { findDrgn, findPython, findVirtme, installVirtme } from './virtme.js'

export interface MachineCheck {
  name: string
  state: 'ok' | 'missing' | 'optional'
  /** what was found, or how to install it */
  detail: string
}

const KVM_CHECKS: Record<KvmState, [MachineCheck['state'], string]> = {
  proven: ['ok', '/dev/kvm has run a kernel since this machine started'],
  unproven: ['ok', '/dev/kvm can be opened; the first boot will show whether it runs a kernel'],
  broken: ['optional', '/dev/kvm can be opened but runs no kernel; guests are emulated, many times slower'],
  absent: [
    'optional',
    '/dev/kvm cannot be opened (load kvm, join the group kvm); guests are emulated, many times slower',
  ],
}

/** True if a package of the distribution's kernel source is installed. */
async function hasDistroSource(): Promise<boolean> {
  const end = await run({
    file: 'sh',
    args: ['-c', 'ls /usr/src/linux-source-*.tar.* /usr/src/linux-source-*/linux-source-*.tar.* 2>/dev/null'],
    deadline: 10,
  })
  return end.stdout !== ''
}

/** A check by a function that returns what it found, or throws how to install it. */
async function checkBy(name: string, find: () => Promise<string>): Promise<MachineCheck> {
  try {
    return { name, state: 'ok', detail: await find() }
  } catch (error) {
    return { name, state: 'missing', detail: messageOf(error) }
  }
}

/** This machine's architecture, else the first that KernelCraft supports: the default of doctor. */
export const defaultArch = (): ArchName => hostArch() ?? 'x86_64'

/** Checks for everything that a run with a kernel of this architecture needs. */
export async function checkMachine(arch: ArchName): Promise<MachineCheck[]> {
  const tools = await Promise.all(toolsFor(arch).map(probeTool))
  const [kvm, kvmDetail] = KVM_CHECKS[await kvmState()]
  return [
    ...tools.map(toolCheck),
    await checkBy('python', findPython),
    await checkBy('virtme-ng', async () => {
      const { path, version } = await findVirtme()
      return `${version} (${path})`
    }),
    optionalCheck('drgn', await findDrgn(), 'installed by `kc doctor --install`, to explain vmcores'),
    { name: 'kvm', state: kvm, detail: kvmDetail },
    optionalCheck(
      'distro source',
      (await hasDistroSource()) ? '/usr/src' : undefined,
      'package linux-source, for --release distro',
    ),
  ]
}

function toolCheck({ tool, found }: ToolState): MachineCheck {
  if (found) return { name: tool.name, state: 'ok', detail: found }
  const state = tool.need === 'optional' ? 'optional' : 'missing'
  return { name: tool.name, state, detail: `package ${tool.apt}, to ${tool.why}` }
}

function optionalCheck(name: string, found: string | undefined, hint: string): MachineCheck {
  return found ? { name, state: 'ok', detail: found } : { name, state: 'optional', detail: hint }
}

const STATE_LABELS = { ok: 'ok     ', missing: 'MISSING', optional: 'absent ' }

/** The table that `kc doctor` prints. */
export function renderChecks(checks: readonly MachineCheck[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length))
  return checks
    .map(({ name, state, detail }) => `${STATE_LABELS[state]}  ${name.padEnd(width)}  ${detail}\n`)
    .join('')
}

/** Runs a command and passes its command line and output to `onLine`. Throws InfraError if it fails. */
async function runVisibly(command: readonly string[], onLine: (line: string) => void): Promise<void> {
  const [file = '', ...args] = command
  onLine(`$ ${command.join(' ')}`)
  const end = await run({
    file,
    args,
    env: { DEBIAN_FRONTEND: 'noninteractive' },
    environment: 'network',
    deadline: 1800,
    onLine,
  })
  if (end.status !== 0)
    throw new InfraError(`${describeEnd(command.join(' '), end)}.`, lastLines(end.stderr, 5))
}

/** The newest kernel source package that the distribution offers; undefined where there is none. */
async function newestSourcePackage(): Promise<string | undefined> {
  if (!(await which('apt-cache'))) return undefined
  const end = await run({
    file: 'apt-cache',
    args: ['search', '--names-only', '^linux-source-[0-9.]+$'],
    deadline: 120,
  })
  return end.stdout
    .split('\n')
    .map(line => line.split(' ')[0] ?? '')
    .filter(Boolean)
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .pop()
}

/** Installs what is missing: packages of the distribution, its kernel source, virtme-ng and drgn. Throws InfraError. */
export async function install(arch: ArchName, onLine: (line: string) => void): Promise<void> {
  await installPackages(arch, onLine)
  const virtme = await findVirtme().catch(() => undefined)
  if (virtme && (await findDrgn())) return
  onLine('installing virtme-ng and drgn into an environment of their own')
  await installVirtme(onLine)
}

async function installPackages(arch: ArchName, onLine: (line: string) => void): Promise<void> {
  const states = await Promise.all(toolsFor(arch).map(probeTool))
  const missing = states.filter(({ found }) => !found).map(({ tool }) => tool)
  const apt = await which('apt-get')
  const needsVenv = apt !== undefined && !(await canCreateVenv())
  const needsSource = !(await hasDistroSource())
  if (missing.length === 0 && !needsVenv && !needsSource) return
  const sudo = process.getuid?.() === 0 ? [] : ['sudo']
  if (apt) await runVisibly([...sudo, 'apt-get', 'update', '-q'], onLine)
  const command = await installCommand(missing)
  if (!command)
    throw new InfraError(
      `This machine has neither apt-get nor dnf: install ${missing.map(tool => tool.apt).join(', ')} with its own package manager.`,
    )
  const source = needsSource ? await newestSourcePackage() : undefined
  const extra = [...(needsVenv ? ['python3-venv'] : []), ...(source ? [source] : [])]
  if (missing.length + extra.length > 0) await runVisibly([...command, ...extra], onLine)
}

/** True if the distribution's Python has what `python3 -m venv` needs, which Debian has in a package of its own. */
async function canCreateVenv(): Promise<boolean> {
  const python = '/usr/bin/python3'
  const executable = await access(python, constants.X_OK).then(
    () => true,
    () => false,
  )
  if (!executable) return false
  const end = await run({ file: python, args: ['-c', 'import venv, ensurepip'], deadline: 60 })
  return end.status === 0
}
