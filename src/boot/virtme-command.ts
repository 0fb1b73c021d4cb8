import { join } from 'node:path'
import { archOf, isNative } from '../arch.js'
import { InputError } from '../errors.js'
import { macOf } from '../host/bridge.js'
import type { Network, Request } from '../request/request.js'

export interface VirtmeLaunch {
  virtmeRun: string
  /** kernel image */
  image: string
  /** directory that is exported as the guest's root */
  root: string
  /** directory with lib/modules/RELEASE, if any */
  modules?: string
  accel: 'kvm' | 'tcg'
  runDirectory: string
}

/** Files and sockets of a running guest, in its run directory. */
export function guestFiles(runDirectory: string) {
  return {
    console: join(runDirectory, 'console.log'),
    stdout: join(runDirectory, 'stdout.log'),
    stderr: join(runDirectory, 'stderr.log'),
    control: join(runDirectory, 'control.log'),
    virtme: join(runDirectory, 'virtme.log'),
    registers: join(runDirectory, 'registers.txt'),
    share: join(runDirectory, 'guest'),
  }
}

/** Sockets of a running guest, in a directory with a short path: a socket's path has 108 bytes at most (unix(7)). */
export function guestSockets(directory: string) {
  return {
    qmp: join(directory, 'qmp'),
    /** a second monitor, for other processes: a monitor takes one connection, and the supervisor has the first one */
    monitor: join(directory, 'monitor'),
    console: join(directory, 'console'),
    terminal: join(directory, 'terminal'),
    /** a FIFO for requests to the guest's init, see guest-requests.ts */
    requests: join(directory, 'requests'),
    /** the console of a further shell, see attach.ts */
    shell: (number: number) => join(directory, `shell-${number}`),
  }
}

const MOUNT_9P = 'version=9p2000.L,trans=virtio,msize=512000,cache=loose'

/** The kernel's command line: root, console, the user's arguments, and our init. Throws InputError if it is too long. */
export function kernelCommandLine(request: Request, accel: 'kvm' | 'tcg'): string {
  const { console, emulated = [], maxCommandLine } = archOf(request.arch)
  const network = request.network.kind === 'user' ? ['ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off'] : []
  const init = `b=/bin/busybox; [ -x $b ] || b=; $b mount -n -t 9p -o ro,${MOUNT_9P} kernelcraft /run && exec /bin/sh /run/init.sh`
  const args = [
    // the mount tag of virtme-run's root, by name: a kernel without block devices has no default
    'root=/dev/root',
    'rootfstype=9p',
    `rootflags=${MOUNT_9P},access=any`,
    'ro',
    ...console,
    // a kernel that cannot tell QEMU of its panic reboots at once, which ends QEMU
    'panic=-1',
    ...(accel === 'tcg' ? emulated : []),
    'net.ifnames=0',
    ...network,
    ...request.append,
    'init=/bin/sh',
    '--',
    '-c',
    `"${init}"`,
  ]
  const line = args.join(' ')
  if (Buffer.byteLength(line) > maxCommandLine) {
    throw new InputError(
      `append is too long: the kernel's command line would have ${Buffer.byteLength(line)} bytes, its limit is ${maxCommandLine}.`,
    )
  }
  return line
}

/** Escapes a value inside QEMU's comma-separated options. */
const escapeCommas = (text: string) => text.replaceAll(',', ',,')

/** What virtme-run's `--net` takes. */
const netArgument = (network: Network) =>
  network.kind === 'bridge' ? `bridge=${network.bridge}` : network.kind

/**
 * The arguments of virtme-run. It sets up the machine, the export of the root and the network; command line, streams,
 * monitor and console are replaced, by QEMU's rule that the last value of an option wins.
 */
export function virtmeArguments(request: Request, launch: VirtmeLaunch, socketDirectory: string): string[] {
  const sockets = guestSockets(socketDirectory)
  return [
    ...machineArguments(request, launch),
    ...deviceArguments(request, launch),
    ...request.opts,
    '--qemu-opts',
    ...acceleratorOptions(request, launch),
    ...portOptions(request, launch, sockets),
    ...shareOptions(request, launch),
    ...monitorOptions(request, sockets),
    ...request.qemuOpts,
    '-append',
    kernelCommandLine(request, launch.accel),
  ]
}

function machineArguments(request: Request, launch: VirtmeLaunch): string[] {
  const { qemu, vmcoreinfo } = archOf(request.arch)
  return [
    ...(isNative(request.arch) ? [] : ['--arch', qemu]),
    ...['--kimg', launch.image],
    ...['--mods', 'none'],
    ...['--root', launch.root],
    '--force-9p',
    '--disable-microvm',
    '--disable-monitor',
    ...(vmcoreinfo ? ['--vmcoreinfo'] : []),
    ...['--name', 'kernelcraft'],
    ...['--memory', `${request.memoryMiB}M`],
    ...['--cpus', String(request.cpus)],
    ...(launch.accel === 'tcg' ? ['--disable-kvm'] : []),
  ]
}

function deviceArguments({ network, disks, numa }: Request, { runDirectory }: VirtmeLaunch): string[] {
  return [
    ...(network.kind === 'none' ? [] : ['--net', netArgument(network), '--no-dhcp']),
    ...(network.kind === 'bridge' ? ['--net-mac-address', macOf(runDirectory)] : []),
    ...disks.flatMap((disk, index) => ['--blk-disk', `disk${index}=${disk}`]),
    ...numa.flatMap(node => ['--numa', node]),
  ]
}

function acceleratorOptions(request: Request, { accel }: VirtmeLaunch): string[] {
  const { machineOptions, threads } = archOf(request.arch)
  // `-machine accel=kvm` alone: QEMU must not fall back to emulation silently
  if (accel === 'kvm') return ['-machine', 'accel=kvm']
  return ['-accel', `tcg,thread=${threads}`, ...(machineOptions ? ['-machine', machineOptions] : [])]
}

/** Moves a character device of virtme-run's from its stdio to a socket. */
const toSocket = (id: string, path: string): string[] =>
  ['backend=socket', `path=${path}`, 'server=on', 'wait=off'].flatMap(property => [
    '-set',
    `chardev.${id}.${property}`,
  ])

/** The consoles, and virtio ports for the streams, the control port and the requests. */
function portOptions(
  request: Request,
  { runDirectory }: VirtmeLaunch,
  sockets: ReturnType<typeof guestSockets>,
): string[] {
  const { bus } = archOf(request.arch)
  const files = guestFiles(runDirectory)
  const port = (name: string, backend: string) => [
    '-chardev',
    `${backend},id=kc-${name}`,
    '-device',
    `virtserialport,bus=kc-serial.0,chardev=kc-${name},name=kc.${name}`,
  ]
  return [
    ...toSocket('console', sockets.console),
    ...['-set', `chardev.console.logfile=${files.console}`],
    ...toSocket('dmesg', sockets.terminal),
    ...['-device', `virtio-serial-${bus},id=kc-serial`],
    ...port('control', `file,path=${escapeCommas(files.control)}`),
    ...port('stdout', `file,path=${escapeCommas(files.stdout)}`),
    ...port('stderr', `file,path=${escapeCommas(files.stderr)}`),
    ...port('requests', `pipe,path=${escapeCommas(sockets.requests)}`),
  ]
}

/** Directories of the host that the guest mounts: settings and scripts, kernel modules, the user's. */
function shareOptions(request: Request, { runDirectory, modules }: VirtmeLaunch): string[] {
  const { bus } = archOf(request.arch)
  const share = (id: string, path: string, writable = false): string[] => [
    '-fsdev',
    `local,id=${id},path=${escapeCommas(path)},security_model=none,readonly=${writable ? 'off' : 'on'},multidevs=remap`,
    '-device',
    `virtio-9p-${bus},fsdev=${id},mount_tag=${id}`,
  ]
  return [
    ...share('kernelcraft', guestFiles(runDirectory).share),
    ...(modules ? share('kcmodules', modules) : []),
    ...request.shares.flatMap(({ host, writable }, index) => share(`kcshare${index}`, host, writable)),
  ]
}

function monitorOptions(request: Request, sockets: ReturnType<typeof guestSockets>): string[] {
  const monitor = (path: string) => ['-qmp', `unix:${escapeCommas(path)},server=on,wait=off`]
  return [
    ...(archOf(request.arch).panic === 'pvpanic' ? ['-device', 'pvpanic-pci'] : []),
    // QEMU pauses a dead guest until its memory has been dumped
    ...['-action', 'panic=pause,reboot=shutdown,shutdown=pause'],
    ...monitor(sockets.qmp),
    ...monitor(sockets.monitor),
  ]
}
