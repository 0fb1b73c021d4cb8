/**
 * The architectures, in one table: what the kernel, the compilers, QEMU and Debian call each, and how a guest of it is
 * spoken to. Rooms look here instead of asking which architecture it is.
 */
export interface Arch {
  /** `ARCH=` of make, and the directory under arch/ */
  linux: string
  /** prefix of cross tools as Debian and Fedora have them, without the last dash */
  triplet: string
  /** target of make, and the file that QEMU boots */
  image: { target: string; path: string }
  /** `qemu-system-...`, and what virtme-run's --arch takes */
  qemu: string
  /** what uname -m prints */
  machine: string
  /** e_machine of its ELF files (include/uapi/linux/elf-em.h) */
  elf: number
  /** the same machine in Node's process.arch */
  node: NodeJS.Architecture
  /** Debian's name, for roots; Debian has it as a release architecture from this suite on */
  debian: string
  /** packages with QEMU and with the cross compiler */
  packages: { qemu: { apt: string; dnf: string }; gcc: { apt: string; dnf: string } }
  /** kernel arguments that put console and first words on the serial line */
  console: readonly string[]
  /** COMMAND_LINE_SIZE of arch/.../include, less its terminating zero */
  mostCommandLine: number
  /** further kernel arguments of an emulated guest */
  emulated?: readonly string[]
  /** options of QEMU's machine when it is emulated, beside what virtme-run chooses */
  machineOptions?: string
  /** what virtio devices are called behind their kind: `virtio-9p-pci`, `virtio-9p-ccw` */
  bus: 'pci' | 'ccw'
  /** true where a device has to tell QEMU of a panic; otherwise the machine does so by itself */
  pvpanic: boolean
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
    mostCommandLine: 2047,
    // an NMI is how a guest that is deaf to sysrq is asked; emulated CPUs have no other source of them
    emulated: ['unknown_nmi_panic'],
    bus: 'pci',
    pvpanic: true,
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
    mostCommandLine: 2047,
    // the older interrupt controller has room for eight CPUs
    machineOptions: 'gic-version=3',
    bus: 'pci',
    pvpanic: true,
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
}

/** The architecture of that name or alias; undefined if it is none of ours. */
export function findArch(name: string): ArchName | undefined {
  return ARCH_NAMES.find(arch => arch === name) ?? ALIASES[name]
}

export const archOf = (name: ArchName): Arch => ARCHES[name]

/** This machine's; undefined where KernelCraft has no guest of that kind. */
export function hostArch(): ArchName | undefined {
  return ARCH_NAMES.find(name => ARCHES[name].node === process.arch)
}

export const isNative = (name: ArchName): boolean => ARCHES[name].node === process.arch

/** Prefix of the compiler and binutils (`CROSS_COMPILE`): empty for this machine's own. */
export const crossPrefix = (name: ArchName): string => (isNative(name) ? '' : `${ARCHES[name].triplet}-`)
