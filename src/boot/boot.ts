import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { type ArchName, archOf } from '../arch.js'
import type { Kernel } from '../build/build-kernel.js'
import { recordKvm } from '../host/kvm.js'
import { lastLines, run } from '../host/processes.js'
import { findVirtme } from '../host/virtme.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import type { BootFacts } from '../result.js'
import { FILES } from '../run-directory.js'
import { type Accel, chooseAccel, KVM_BANNER_SECONDS } from './accelerator.js'
import { type GuestSettings, writeShare } from './guest-share.js'
import type { GuestLimits, Outcome } from './outcome.js'
import { prepareRootSnapshot, type RootSnapshot } from './root-snapshot.js'
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
  /** returns what gets the guest's output; called for each attempt to boot it */
  newParser: () => Pick<SupervisorOptions, 'onConsole' | 'onStdout'>
}

/** What each attempt to boot the guest has in common. */
interface BootContext {
  request: Request
  kernel: Kernel
  runDirectory: string
  virtme: string
  snapshot: RootSnapshot
  options: BootOptions
  log: Log
}

/**
 * Boots the kernel over a snapshot of the root and watches it until it ends. Where KVM has not booted a kernel on this
 * machine yet, and does not boot this one, the guest is booted again under emulation.
 */
export async function boot(
  request: Request,
  kernel: Kernel,
  at: { runDirectory: string; directory: string; env: NodeJS.ProcessEnv },
  log: Log,
  options: BootOptions,
): Promise<Booted> {
  const { runDirectory } = at
  const [virtme, qemu, snapshot, choice] = await Promise.all([
    findVirtme(),
    qemuVersion(request.arch),
    prepareRootSnapshot(request, runDirectory, at.env),
    chooseAccel(request, log),
  ])
  await warnOfLimits(request, snapshot, at, log)
  const settings = guestSettings(request, kernel, snapshot, at.directory, options)
  await writeShare(guestFiles(runDirectory).share, request, settings)
  const context = { request, kernel, runDirectory, virtme: virtme.path, snapshot, options, log }
  const booted = (accel: Accel, outcome: Outcome): Booted => ({
    outcome,
    facts: {
      ...{ accel, qemu, virtme: virtme.version, rootfs: '9p', snapshot: snapshot.kind },
      cpus: request.cpus,
      memoryMiB: request.memoryMiB,
      timestamps: outcome.timestamps,
    },
  })

  const first = await bootOnce(context, choice.accel, choice.banner)
  const proven = first.timestamps.banner !== undefined
  if (choice.accel === 'kvm' && proven) await recordKvm('proven')
  if (!choice.retry || proven || first.cancelled || first.outputLimit) return booted(choice.accel, first)
  await warnOfFallback(runDirectory, first, log)
  const second = await bootOnce(context, 'tcg', Number.POSITIVE_INFINITY)
  // the same kernel boots under emulation: KVM is the cause
  if (second.timestamps.banner !== undefined) await recordKvm('broken')
  return booted('tcg', second)
}

async function qemuVersion(arch: ArchName): Promise<string> {
  const end = await run({ file: `qemu-system-${archOf(arch).qemu}`, args: ['--version'], deadline: 60 })
  return /version ([^\s,()]+)/.exec(end.stdout)?.[1] ?? 'unknown'
}

async function warnOfLimits(
  request: Request,
  snapshot: RootSnapshot,
  at: { runDirectory: string; env: NodeJS.ProcessEnv },
  log: Log,
): Promise<void> {
  if (snapshot.kind === 'guest' && at.env.GITHUB_ACTIONS === 'true') {
    log.warning(
      'This machine permits no mount namespace: secrets of the runner are covered inside the guest only.',
    )
  }
  if (request.numa.length === 0) return
  const config = await readFile(join(at.runDirectory, FILES.config), 'utf8').catch(() => '')
  if (!/^CONFIG_NUMA=y$/m.test(config))
    log.warning('This kernel has no CONFIG_NUMA: it sees one node (add CONFIG_NUMA=y with config-items).')
}

function guestSettings(
  request: Request,
  kernel: Kernel,
  snapshot: RootSnapshot,
  directory: string,
  { terminal, load = [] }: BootOptions,
): GuestSettings {
  const { TERM, COLORTERM } = process.env
  return {
    directory: request.cwd ?? directory,
    hostname: terminal ? hostname() : 'kernelcraft',
    firstTerminal: archOf(request.arch).firstTerminal,
    hasModules: kernel.modules !== undefined,
    load,
    ignoreSetuid: snapshot.kind === 'user-namespace',
    // init reads a path a line
    masks: snapshot.guestMasks.filter(path => !path.includes('\n')),
    dhcp: request.network.kind === 'bridge',
    // QEMU's user network has its DNS server at this address
    ...(request.network.kind === 'user' ? { resolver: '10.0.2.3' } : {}),
    ...(terminal
      ? {
          terminal: {
            rows: terminal.output.rows,
            columns: terminal.output.columns,
            term: TERM ?? 'xterm',
            ...(COLORTERM ? { colorTerm: COLORTERM } : {}),
          },
        }
      : {}),
  }
}

/** `banner`: seconds until the kernel's banner. */
async function bootOnce(context: BootContext, accel: Accel, banner: number): Promise<Outcome> {
  const { request, kernel, runDirectory, virtme, snapshot, options, log } = context
  const launch: VirtmeLaunch = {
    virtmeRun: virtme,
    image: kernel.image,
    root: snapshot.root,
    ...(kernel.modules ? { modules: `${kernel.modules}/lib/modules/${kernel.release}` } : {}),
    accel,
    runDirectory,
  }
  const limits: GuestLimits = { ...request.deadlines, banner }
  if (request.command.kind === 'shell') limits.run = limits.idle = Number.POSITIVE_INFINITY
  return await superviseGuest(request, launch, limits, {
    ...options,
    ...options.newParser(),
    vmlinux: kernel.vmlinux,
    release: kernel.release,
    wrapper: snapshot.wrapper,
    log,
  })
}

async function warnOfFallback(runDirectory: string, first: Outcome, log: Log): Promise<void> {
  const observed = first.expired
    ? `the kernel printed nothing in ${KVM_BANNER_SECONDS} s`
    : 'QEMU ended before the kernel printed a line'
  const [message] = (await virtmeLogTail(runDirectory)).slice(-1)
  log.warning(
    `/dev/kvm opens, but under KVM ${observed}${message ? ` (${message})` : ''}: the guest is emulated instead, which is many times slower.`,
  )
}

/** The last lines that virtme-run and QEMU printed themselves. */
export async function virtmeLogTail(runDirectory: string): Promise<string[]> {
  return lastLines(await readFile(guestFiles(runDirectory).virtme, 'utf8').catch(() => ''), 5)
}
