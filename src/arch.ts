/**
 * A row of the architectures' table: the names that the kernel, compilers, QEMU and Debian have for it, and the devices of
 * its guests. Other code uses these values and does not compare names of architectures.
 */
export interface Arch {
  /** `ARCH=` of make, and the directory under arch/ */
  linux: string
  /** prefix of Debian's and Fedora's cross tools, without the last dash */
  triplet: string
  /** target of make, and the file that QEMU boots */
  image: { target: string; path: string }
  /** `qemu-system-...`, and what virtme-run's --arch takes */
  qemu: string
  /** what uname -m prints */
  machine: string
  /** e_machine of its ELF files (include/uapi/linux/elf-em.h) */
  elf: number
  /** its name in Node's process.arch */
  node: NodeJS.Architecture
  /** its name in Debian, for roots */
  debian: string
  /** Debian's first release with this architecture, where older supported ones do not have it */
  firstSuite?: string
  /** packages with QEMU and with the cross compiler */
  packages: { qemu: { apt: string; dnf: string }; gcc: { apt: string; dnf: string } }
  /** kernel arguments for the console and the early console on the serial line */
  console: readonly string[]
  /** COMMAND_LINE_SIZE of arch/.../include, without its terminating zero */
  maxCommandLine: number
  /** further kernel arguments of an emulated guest */
  emulated?: readonly string[]
  /** options of QEMU's machine when it is emulated, beside what virtme-run chooses */
  machineOptions?: string
  /** threads of QEMU's emulated CPUs: one for all, or one for each (`-accel tcg,thread=`) */
  threads: 'single' | 'multi'
  /** suffix of the names of virtio devices: `virtio-9p-pci`, `virtio-9p-ccw` */
  bus: 'pci' | 'ccw'
  /**
   * How QEMU learns of a panic. The kernel writes to a pvpanic device before it has printed everything, and uses a
   * platform's own way (ibm,os-term of pseries, the disabled wait of s390) at the end.
   */
  panic: 'pvpanic' | 'platform'
  /** true where the kernel passes QEMU its vmcoreinfo (fw_cfg with DMA), without which no debugger reads a dump */
  vmcoreinfo: boolean
  /** number of the first virtio console among /dev/hvcN: a console of the platform may be hvc0 */
  firstTerminal: number
  /** prefix of a sysrq key on the console: a break, or Ctrl-O (drivers/tty/hvc/hvc_console.c, sclp_vt220.c) */
  sysrq: 'break' | '\x0f'
  /** true where QEMU's console device repeats a line while nothing is connected to it */
  repeatsUnread?: boolean
}

export const ARCHES = {
  x86_64: {
    linux: 'x86',
    triplet: 'x86_64-linux-gnu',
    image: { target: 'bzImage', path: 'arch/x86/boot/bzImage' },
    qemu: 'x86_64',
    machine: 'x86_64',
    elf: 62,
    node: 'x64',
    debian: 'amd64',
    packages: {
      qemu: { apt: 'qemu-system-x86', dnf: 'qemu-system-x86-core' },
      gcc: { apt: 'gcc-x86-64-linux-gnu', dnf: 'gcc-x86_64-linux-gnu' },
    },
    console: ['console=ttyS0', 'earlyprintk=serial,ttyS0,115200'],
    maxCommandLine: 2047,
    // a guest that does not respond to sysrq gets an NMI for its state; emulated CPUs get no NMI from anything else
    emulated: ['unknown_nmi_panic'],
    // With a thread for each CPU, QEMU sometimes executes a breakpoint that the kernel's jump label patching has already
    // removed, and the kernel dies of a stray int3 (seen in one boot of twenty with QEMU 7.2).
    threads: 'single',
    bus: 'pci',
    panic: 'pvpanic',
    vmcoreinfo: true,
    firstTerminal: 0,
    sysrq: 'break',
  },
  arm64: {
    linux: 'arm64',
    triplet: 'aarch64-linux-gnu',
    image: { target: 'Image', path: 'arch/arm64/boot/Image' },
    qemu: 'aarch64',
    machine: 'aarch64',
    elf: 183,
    node: 'arm64',
    debian: 'arm64',
    packages: {
      qemu: { apt: 'qemu-system-arm', dnf: 'qemu-system-aarch64-core' },
      gcc: { apt: 'gcc-aarch64-linux-gnu', dnf: 'gcc-aarch64-linux-gnu' },
    },
    console: ['console=ttyAMA0', 'earlycon'],
    maxCommandLine: 2047,
    // the older interrupt controller has room for eight CPUs
    machineOptions: 'gic-version=3',
    threads: 'single',
    bus: 'pci',
    panic: 'pvpanic',
    vmcoreinfo: true,
    firstTerminal: 0,
    sysrq: 'break',
  },
  riscv64: {
    linux: 'riscv',
    triplet: 'riscv64-linux-gnu',
    image: { target: 'Image', path: 'arch/riscv/boot/Image' },
    qemu: 'riscv64',
    machine: 'riscv64',
    elf: 243,
    node: 'riscv64',
    debian: 'riscv64',
    firstSuite: 'trixie',
    packages: {
      qemu: { apt: 'qemu-system-misc', dnf: 'qemu-system-riscv-core' },
      gcc: { apt: 'gcc-riscv64-linux-gnu', dnf: 'gcc-riscv64-linux-gnu' },
    },
    console: ['console=ttyS0', 'earlycon=sbi'],
    maxCommandLine: 1023,
    threads: 'single',
    bus: 'pci',
    panic: 'pvpanic',
    // QEMU 7.2's fw_cfg has no DMA on this machine, without which its vmcoreinfo device cannot be created
    vmcoreinfo: false,
    firstTerminal: 0,
    sysrq: 'break',
  },
  s390x: {
    linux: 's390',
    triplet: 's390x-linux-gnu',
    image: { target: 'bzImage', path: 'arch/s390/boot/bzImage' },
    qemu: 's390x',
    machine: 's390x',
    elf: 22,
    node: 's390x',
    debian: 's390x',
    packages: {
      qemu: { apt: 'qemu-system-misc', dnf: 'qemu-system-s390x-core' },
      gcc: { apt: 'gcc-s390x-linux-gnu', dnf: 'gcc-s390x-linux-gnu' },
    },
    console: ['console=ttysclp0', 'earlyprintk=sclp'],
    maxCommandLine: 4095,
    threads: 'single',
    bus: 'ccw',
    panic: 'platform',
    vmcoreinfo: false,
    firstTerminal: 0,
    sysrq: '\x0f',
    repeatsUnread: true,
  },
  ppc64el: {
    linux: 'powerpc',
    triplet: 'powerpc64le-linux-gnu',
    // the firmware of QEMU's pseries cannot boot a zImage
    image: { target: 'vmlinux', path: 'vmlinux' },
    qemu: 'ppc64',
    machine: 'ppc64le',
    elf: 21,
    node: 'ppc64',
    debian: 'ppc64el',
    packages: {
      qemu: { apt: 'qemu-system-ppc', dnf: 'qemu-system-ppc-core' },
      gcc: { apt: 'gcc-powerpc64le-linux-gnu', dnf: 'gcc-powerpc64le-linux-gnu' },
    },
    console: ['console=hvc0'],
    maxCommandLine: 2047,
    // CPUs that take turns need more than a minute for one stop_machine() there
    threads: 'multi',
    bus: 'pci',
    panic: 'platform',
    vmcoreinfo: false,
    firstTerminal: 1,
    sysrq: '\x0f',
  },
} as const satisfies Record<string, Arch>

export type ArchName = keyof typeof ARCHES

/** Names, as `--arch` takes them. */
export const ARCH_NAMES = Object.keys(ARCHES) as ArchName[]

/** Other names of the same machines: of uname -m, Go, and Debian. */
const ALIASES: Readonly<Record<string, ArchName>> = {
  amd64: 'x86_64',
  x86: 'x86_64',
  'x86-64': 'x86_64',
  aarch64: 'arm64',
  riscv: 'riscv64',
  s390: 's390x',
  ppc64le: 'ppc64el',
  powerpc64le: 'ppc64el',
}

/** The architecture with this name or alias; undefined if KernelCraft does not support it. */
export function findArch(name: string): ArchName | undefined {
  return ARCH_NAMES.find(arch => arch === name) ?? ALIASES[name]
}

/** The table's row of an architecture. */
export const archOf = (name: ArchName): Arch => ARCHES[name]

/** This machine's architecture; undefined if KernelCraft does not support it. */
export function hostArch(): ArchName | undefined {
  return ARCH_NAMES.find(name => ARCHES[name].node === process.arch)
}

/** True for this machine's architecture. */
export const isNative = (name: ArchName): boolean => ARCHES[name].node === process.arch

/** Prefix of the compiler and binutils (`CROSS_COMPILE`): empty for this machine's architecture. */
export const crossPrefix = (name: ArchName): string => (isNative(name) ? '' : `${ARCHES[name].triplet}-`)

/** The reason why guests of an architecture without vmcoreinfo have no vmcore. */
export const noVmcoreinfo = (arch: ArchName): string =>
  `a ${arch} guest cannot pass QEMU its vmcoreinfo, without which no debugger opens a dump.`
