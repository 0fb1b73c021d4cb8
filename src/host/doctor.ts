import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { type ArchName, hostArch } from '../arch.js'
import { InfraError } from '../errors.js'
import { type KvmState, kvmState } from './kvm.js'
import { describeEnd, lastLines, run } from './processes.js'
import { installCommand, probeTool, type Tool, toolsFor, which } from './tools.js'
import { findDrgn, findPython, findVirtme, installVirtme } from './virtme.js'

export interface MachineCheck {
  name: string
  state: 'ok' | 'missing' | 'optional'
  /** what was found, or how to get it */
  detail: string
}

const KVM: Record<KvmState, [MachineCheck['state'], string]> = {
  proven: ['ok', '/dev/kvm has run a kernel since this machine started'],
  unproven: ['ok', '/dev/kvm opens; the first boot will show whether it runs a kernel'],
  broken: ['optional', '/dev/kvm opens but runs no kernel; guests are emulated, many times slower'],
  absent: [
    'optional',
    '/dev/kvm cannot be opened (load kvm, join the group kvm); guests are emulated, many times slower',
  ],
}

async function hasDistroSource(): Promise<boolean> {
  const end = await run({
    file: 'sh',
    args: ['-c', 'ls /usr/src/linux-source-*.tar.* /usr/src/linux-source-*/linux-source-*.tar.* 2>/dev/null'],
    deadline: 10,
  })
  return end.stdout !== ''
}

async function guarded(name: string, look: () => Promise<string>): Promise<MachineCheck> {
  try {
    return { name, state: 'ok', detail: await look() }
  } catch (error) {
    return { name, state: 'missing', detail: error instanceof Error ? error.message : String(error) }
  }
}

/** This machine's kind, or the first of ours: what doctor looks for unless it is told. */
export const usualArch = (): ArchName => hostArch() ?? 'x86_64'

/** Looks at everything that a run with a kernel of that architecture needs. */
export async function checkMachine(arch: ArchName): Promise<MachineCheck[]> {
  const states = await Promise.all(toolsFor(arch).map(probeTool))
  const tools = states.map(({ tool, found }): MachineCheck => {
    if (found) return { name: tool.name, state: 'ok', detail: found }
    return {
      name: tool.name,
      state: tool.need === 'optional' ? 'optional' : 'missing',
      detail: `package ${tool.apt}, to ${tool.why}`,
    }
  })
  const [kvm, kvmDetail] = KVM[await kvmState()]
  const drgn = await findDrgn()
  return [
    ...tools,
    await guarded('python', findPython),
    await guarded('virtme-ng', async () => {
      const { path, version } = await findVirtme()
      return `${version} (${path})`
    }),
    drgn
      ? { name: 'drgn', state: 'ok', detail: drgn }
      : { name: 'drgn', state: 'optional', detail: 'comes with `kc doctor --install`, to explain vmcores' },
    { name: 'kvm', state: kvm, detail: kvmDetail },
    (await hasDistroSource())
      ? { name: 'distro source', state: 'ok', detail: '/usr/src' }
      : { name: 'distro source', state: 'optional', detail: 'package linux-source, for --release distro' },
  ]
}

/** The table that `kc doctor` prints. */
export function renderChecks(findings: readonly MachineCheck[]): string {
  const width = Math.max(...findings.map(finding => finding.name.length))
  const word = { ok: 'ok     ', missing: 'MISSING', optional: 'absent ' }
  return findings
    .map(({ name, state, detail }) => `${word[state]}  ${name.padEnd(width)}  ${detail}\n`)
    .join('')
}

async function runLoud(command: readonly string[], onLine: (line: string) => void): Promise<void> {
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

/** Installs what is missing: packages of the distribution, its kernel source, virtme-ng. */
export async function install(arch: ArchName, onLine: (line: string) => void): Promise<void> {
  const states = await Promise.all(toolsFor(arch).map(probeTool))
  const missing: Tool[] = states.filter(state => !state.found).map(state => state.tool)
  const apt = await which('apt-get')
  const sudo = process.getuid?.() === 0 ? [] : ['sudo']
  const needsVenv = apt !== undefined && !(await canMakeVenv())
  const needsSource = !(await hasDistroSource())
  if (missing.length > 0 || needsVenv || needsSource) {
    if (apt) await runLoud([...sudo, 'apt-get', 'update', '-q'], onLine)
    const command = await installCommand(missing)
    if (!command)
      throw new InfraError(
        `This machine has neither apt-get nor dnf: install ${missing.map(tool => tool.apt).join(', ')} by hand.`,
      )
    const source = needsSource ? await newestSourcePackage() : undefined
    const extra = [...(needsVenv ? ['python3-venv'] : []), ...(source ? [source] : [])]
    if (missing.length + extra.length > 0) await runLoud([...command, ...extra], onLine)
  }
  const virtme = await findVirtme().catch(() => undefined)
  if (!virtme || !(await findDrgn())) {
    onLine('installing virtme-ng and drgn into an environment of their own')
    await installVirtme(onLine)
  }
}

async function canMakeVenv(): Promise<boolean> {
  const python = await access('/usr/bin/python3', constants.X_OK).then(
    () => '/usr/bin/python3',
    () => undefined,
  )
  if (!python) return false
  const end = await run({ file: python, args: ['-c', 'import venv, ensurepip'], deadline: 60 })
  return end.status === 0
}
