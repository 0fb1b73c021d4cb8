import { join } from 'node:path'
import { archOf, isNative } from '../arch.js'
import { InputError } from '../errors.js'
import { macOf } from '../host/bridge.js'
import type { Network, Request } from '../request/request.js'

export interface VirtmeLaunch {
  virtmeRun: string
  /** kernel image */
  image: string
  /** what is exported as the root */
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

/** The sockets lie under a short path: a socket's name has 108 bytes at most (unix(7)). */
export function guestSockets(directory: string) {
  return {
    qmp: join(directory, 'qmp'),
    /** a second monitor, for other processes: kc holds the first one */
    monitor: join(directory, 'monitor'),
    console: join(directory, 'console'),
    terminal: join(directory, 'terminal'),
    /** a FIFO: what is asked of the guest's init, by whoever does it */
    requests: join(directory, 'requests'),
    /** the console of a shell that joined later, see attach.ts */
    shell: (number: number) => join(directory, `shell-${number}`),
  }
}

const MOUNT_9P = 'version=9p2000.L,trans=virtio,msize=512000,cache=loose'

/** The kernel's command line: root, console, what the user appends, and our init. Throws InputError if it is too long. */
export function kernelCommandLine(request: Request, accel: 'kvm' | 'tcg'): string {
  const { console, emulated = [], mostCommandLine } = archOf(request.arch)
  const network = request.network.kind === 'user' ? ['ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off'] : []
  const init = `b=/bin/busybox; [ -x $b ] || b=; $b mount -n -t 9p -o ro,${MOUNT_9P} kernelcraft /run && exec /bin/sh /run/init.sh`
  const words = [
    'rootfstype=9p',
    `rootflags=${MOUNT_9P},access=any`,
    'ro',
    ...console,
    // a panic is told to QEMU; where it is not, it ends QEMU as a reboot
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
  const line = words.join(' ')
  if (Buffer.byteLength(line) > mostCommandLine) {
    throw new InputError(
      `append is too long: the kernel's command line would have ${Buffer.byteLength(line)} bytes, and ${mostCommandLine} is its limit.`,
    )
  }
  return line
}

/** A value inside QEMU's comma-separated options. */
const comma = (text: string) => text.replaceAll(',', ',,')

/** What virtme-run's `--net` takes. */
const netArgument = (network: Network) =>
  network.kind === 'bridge' ? `bridge=${network.bridge}` : network.kind

/**
 * The arguments of virtme-run. It sets up the machine, the export of the root and the network; command line, streams,
 * monitor and console are ours, by QEMU's rule that the last word on an option wins.
 */
export function virtmeArguments(request: Request, guest: VirtmeLaunch, socketDirectory: string): string[] {
  const files = guestFiles(guest.runDirectory)
  const sockets = guestSockets(socketDirectory)
  const server = (id: string, path: string, ...more: string[]) => [
    // virtme-run's own character devices, moved from its stdio to sockets
    '-set',
    `chardev.${id}.backend=socket`,
    '-set',
    `chardev.${id}.path=${path}`,
    '-set',
    `chardev.${id}.server=on`,
    '-set',
    `chardev.${id}.wait=off`,
    ...more,
  ]
  const port = (name: string, backend: string) => [
    '-chardev',
    `${backend},id=kc-${name}`,
    '-device',
    `virtserialport,bus=kc-serial.0,chardev=kc-${name},name=kc.${name}`,
  ]
  const share = (id: string, path: string, writable = false): string[] => [
    '-fsdev',
    `local,id=${id},path=${comma(path)},security_model=none,readonly=${writable ? 'off' : 'on'},multidevs=remap`,
    '-device',
    `virtio-9p-${bus},fsdev=${id},mount_tag=${id}`,
  ]
  const { qemu, machineOptions, threads, bus, panic, vmcoreinfo } = archOf(request.arch)
  const { network } = request
  return [
    ...(isNative(request.arch) ? [] : ['--arch', qemu]),
    '--kimg',
    guest.image,
    '--mods',
    'none',
    '--root',
    guest.root,
    '--force-9p',
    '--disable-microvm',
    '--disable-monitor',
    ...(vmcoreinfo ? ['--vmcoreinfo'] : []),
    '--name',
    'kernelcraft',
    '--memory',
    `${request.memoryMiB}M`,
    '--cpus',
    String(request.cpus),
    ...(guest.accel === 'tcg' ? ['--disable-kvm'] : []),
    ...(network.kind === 'none' ? [] : ['--net', netArgument(network), '--no-dhcp']),
    ...(network.kind === 'bridge' ? ['--net-mac-address', macOf(guest.runDirectory)] : []),
    ...request.disks.flatMap((disk, index) => ['--blk-disk', `disk${index}=${disk}`]),
    ...request.numa.flatMap(node => ['--numa', node]),
    ...request.opts,
    '--qemu-opts',
    // no silent fall-back from KVM to emulation
    ...(guest.accel === 'kvm' ? ['-machine', 'accel=kvm'] : ['-accel', `tcg,thread=${threads}`]),
    ...(guest.accel === 'tcg' && machineOptions ? ['-machine', machineOptions] : []),
    ...server('console', sockets.console, '-set', `chardev.console.logfile=${files.console}`),
    ...server('dmesg', sockets.terminal),
    '-device',
    `virtio-serial-${bus},id=kc-serial`,
    ...port('control', `file,path=${comma(files.control)}`),
    ...port('stdout', `file,path=${comma(files.stdout)}`),
    ...port('stderr', `file,path=${comma(files.stderr)}`),
    ...port('attach', `pipe,path=${comma(sockets.requests)}`),
    ...share('kernelcraft', files.share),
    ...(guest.modules ? share('kcmodules', guest.modules) : []),
    ...request.shares.flatMap(({ host, writable }, index) => share(`kcshare${index}`, host, writable)),
    ...(panic === 'pvpanic' ? ['-device', 'pvpanic-pci'] : []),
    // a dead guest stands still until its memory has been taken
    '-action',
    'panic=pause,reboot=shutdown,shutdown=pause',
    '-qmp',
    `unix:${comma(sockets.qmp)},server=on,wait=off`,
    '-qmp',
    `unix:${comma(sockets.monitor)},server=on,wait=off`,
    ...request.qemuOpts,
    '-append',
    kernelCommandLine(request, guest.accel),
  ]
}
