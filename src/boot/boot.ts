import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { type ArchName, archOf, isNative } from '../arch.js'
import type { Kernel } from '../build/build-kernel.js'
import { InfraError } from '../errors.js'
import { kvmState, recordKvm } from '../host/kvm.js'
import { lastLines, run } from '../host/processes.js'
import { findVirtme } from '../host/virtme.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import type { BootFacts } from '../result.js'
import { FILES } from '../run-directory.js'
import { writeShare } from './guest-share.js'
import type { GuestLimits, Outcome } from './outcome.js'
import { prepareRootSnapshot } from './root-snapshot.js'
import { type SupervisorOptions, superviseGuest } from './supervise.js'
import type { Terminal } from './terminal.js'
import { guestFiles, type VirtmeLaunch } from './virtme-command.js'

export interface Booted {
  outcome: Outcome
  facts: BootFacts
}

export interface BootOptions extends Pick<SupervisorOptions, 'dump'> {
  cancel?: AbortSignal
  terminal?: Terminal
  /** external modules to load before the commands, in this order */
  load?: readonly string[]
  /** who listens to the guest; asked anew for each attempt to boot it */
  listen: () => Pick<SupervisorOptions, 'onConsole' | 'onStdout'>
}

/** A kernel that KVM runs prints its first line within a fraction of a second. */
const KVM_BANNER_SECONDS = 10

async function qemuVersion(arch: ArchName): Promise<string> {
  const end = await run({ file: `qemu-system-${archOf(arch).qemu}`, args: ['--version'], deadline: 60 })
  return /version ([^\s,()]+)/.exec(end.stdout)?.[1] ?? 'unknown'
}

/** Which accelerator to start with, and how long KVM has for its proof. */
async function chooseAccel(
  request: Request,
  log: Log,
): Promise<{ accel: 'kvm' | 'tcg'; banner: number; retry: boolean }> {
  const never = Number.POSITIVE_INFINITY
  if (!isNative(request.arch)) {
    if (request.accel === 'kvm')
      throw new InfraError(`accel is kvm, but this machine runs no ${request.arch}: use auto or tcg.`)
    return { accel: 'tcg', banner: never, retry: false }
  }
  if (request.accel === 'tcg') return { accel: 'tcg', banner: never, retry: false }
  const state = await kvmState()
  if (request.accel === 'kvm') {
    if (state === 'absent')
      throw new InfraError(
        'accel is kvm, but /dev/kvm cannot be opened here: load the kvm module, join the group kvm, or use --accel auto.',
      )
    return { accel: 'kvm', banner: state === 'proven' ? never : KVM_BANNER_SECONDS, retry: false }
  }
  if (state === 'proven') return { accel: 'kvm', banner: never, retry: false }
  if (state === 'unproven') return { accel: 'kvm', banner: KVM_BANNER_SECONDS, retry: true }
  log.warning(
    `${state === 'absent' ? '/dev/kvm cannot be opened' : 'KVM runs no kernel on this machine (tried before)'}: the guest is emulated, which is many times slower.`,
  )
  return { accel: 'tcg', banner: never, retry: false }
}

/** Boots the kernel over a snapshot of the root and watches it to its end. */
export async function boot(
  request: Request,
  kernel: Kernel,
  at: { runDirectory: string; directory: string; env: NodeJS.ProcessEnv },
  log: Log,
  options: BootOptions,
): Promise<Booted> {
  const [virtme, qemu, snapshot, choice] = await Promise.all([
    findVirtme(),
    qemuVersion(request.arch),
    prepareRootSnapshot(request, at.runDirectory, at.env),
    chooseAccel(request, log),
  ])
  if (snapshot.kind === 'guest' && at.env.GITHUB_ACTIONS === 'true') {
    log.warning(
      'This machine permits no mount namespace: secrets of the runner are covered inside the guest only.',
    )
  }
  const { terminal } = options
  if (request.numa.length > 0) {
    const config = await readFile(join(at.runDirectory, FILES.config), 'utf8').catch(() => '')
    if (!/^CONFIG_NUMA=y$/m.test(config))
      log.warning('This kernel has no CONFIG_NUMA: it sees one node (add CONFIG_NUMA=y with config-items).')
  }
  await writeShare(guestFiles(at.runDirectory).share, request, {
    directory: request.cwd ?? at.directory,
    hostname: terminal ? hostname() : 'kernelcraft',
    firstTerminal: archOf(request.arch).firstTerminal,
    hasModules: kernel.modules !== undefined,
    load: options.load ?? [],
    ignoreSetuid: snapshot.kind === 'user-namespace',
    masks: snapshot.guestMasks.filter(path => !path.includes('\n')),
    dhcp: request.network.kind === 'bridge',
    ...(request.network.kind === 'user' ? { resolver: '10.0.2.3' } : {}),
    ...(terminal
      ? {
          terminal: {
            rows: terminal.output.rows,
            columns: terminal.output.columns,
            type: process.env.TERM ?? 'xterm',
            ...(process.env.COLORTERM ? { colours: process.env.COLORTERM } : {}),
          },
        }
      : {}),
  })
  const facts = (accel: 'kvm' | 'tcg', outcome: Outcome): BootFacts => ({
    accel,
    qemu,
    virtme: virtme.version,
    rootfs: '9p',
    snapshot: snapshot.kind,
    cpus: request.cpus,
    memoryMiB: request.memoryMiB,
    timestamps: outcome.timestamps,
  })
  const attempt = async (accel: 'kvm' | 'tcg', banner: number) => {
    const guest: VirtmeLaunch = {
      virtmeRun: virtme.path,
      image: kernel.image,
      root: snapshot.root,
      ...(kernel.modules ? { modules: `${kernel.modules}/lib/modules/${kernel.release}` } : {}),
      accel,
      runDirectory: at.runDirectory,
    }
    const limits: GuestLimits = { ...request.deadlines, banner }
    if (request.command.kind === 'shell') limits.run = limits.idle = Number.POSITIVE_INFINITY
    return await superviseGuest(request, guest, limits, {
      ...options,
      ...options.listen(),
      vmlinux: kernel.vmlinux,
      release: kernel.release,
      wrapper: snapshot.wrapper,
      log,
    })
  }

  const first = await attempt(choice.accel, choice.banner)
  if (choice.accel === 'kvm' && first.timestamps.banner !== undefined) await recordKvm('proven')
  const unproven =
    choice.retry && first.timestamps.banner === undefined && !first.cancelled && !first.outputLimit
  if (!unproven) return { outcome: first, facts: facts(choice.accel, first) }

  const how = first.expired
    ? `the kernel printed nothing in ${KVM_BANNER_SECONDS} s`
    : 'QEMU ended before the kernel printed a line'
  const [word] = (await virtmeWords(at.runDirectory)).slice(-1)
  log.warning(
    `/dev/kvm opens, but under KVM ${how}${word ? ` (${word})` : ''}: the guest is emulated instead, which is many times slower.`,
  )
  const second = await attempt('tcg', Number.POSITIVE_INFINITY)
  // the same kernel speaks under emulation: it was KVM
  if (second.timestamps.banner !== undefined) await recordKvm('broken')
  return { outcome: second, facts: facts('tcg', second) }
}

/** The last lines of virtme-run's and QEMU's own words. */
export async function virtmeWords(runDirectory: string): Promise<string[]> {
  return lastLines(await readFile(guestFiles(runDirectory).virtme, 'utf8').catch(() => ''), 5)
}
