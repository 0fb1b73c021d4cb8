import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { type ArchName, archOf, isNative } from '../arch.js'
import { InfraError } from '../errors.js'
import { run } from './processes.js'

/** Absolute path of a program on PATH, or undefined. */
export async function which(name: string, path = process.env.PATH ?? ''): Promise<string | undefined> {
  for (const dir of path.split(delimiter).filter(Boolean)) {
    const candidate = join(dir, name)
    try {
      await access(candidate, constants.X_OK)
      if ((await stat(candidate)).isFile()) return candidate
    } catch {
      // the next directory
    }
  }
  return undefined
}

/** What a tool is needed for: every run, a build, a boot, `kc root create`; or it only adds features. */
export type Need = 'source' | 'build' | 'boot' | 'root' | 'optional'

export interface Tool {
  name: string
  need: Need
  /** its purpose, as an infinitive or a noun */
  why: string
  /** names of the package in Debian and Fedora */
  apt: string
  dnf: string
  /** the tool is there if one of these programs is on PATH */
  programs?: readonly string[]
  /** or if the compiler finds this header */
  header?: string
}

/** The tools of all architectures, except virtme-ng. */
const TOOLS: readonly Tool[] = [
  { name: 'git', need: 'source', why: 'fetch the source', apt: 'git', dnf: 'git', programs: ['git'] },
  {
    name: 'tar',
    need: 'source',
    why: 'unpack the distribution source',
    apt: 'tar',
    dnf: 'tar',
    programs: ['tar'],
  },
  {
    name: 'xz',
    need: 'source',
    why: 'unpack the distribution source',
    apt: 'xz-utils',
    dnf: 'xz',
    programs: ['xz'],
  },
  {
    name: 'flock',
    need: 'source',
    why: 'lock work directories',
    apt: 'util-linux',
    dnf: 'util-linux',
    programs: ['flock'],
  },
  { name: 'make', need: 'build', why: 'build', apt: 'make', dnf: 'make', programs: ['make'] },
  { name: 'gcc', need: 'build', why: 'build', apt: 'gcc', dnf: 'gcc', programs: ['gcc'] },
  { name: 'ld', need: 'build', why: 'link', apt: 'binutils', dnf: 'binutils', programs: ['ld'] },
  { name: 'flex', need: 'build', why: 'Kconfig parser', apt: 'flex', dnf: 'flex', programs: ['flex'] },
  { name: 'bison', need: 'build', why: 'Kconfig parser', apt: 'bison', dnf: 'bison', programs: ['bison'] },
  { name: 'bc', need: 'build', why: 'time constants', apt: 'bc', dnf: 'bc', programs: ['bc'] },
  {
    name: 'perl',
    need: 'build',
    why: 'kernel scripts',
    apt: 'perl',
    dnf: 'perl-interpreter',
    programs: ['perl'],
  },
  {
    name: 'libelf',
    need: 'build',
    why: 'objtool',
    apt: 'libelf-dev',
    dnf: 'elfutils-libelf-devel',
    header: 'gelf.h',
  },
  {
    name: 'openssl',
    need: 'build',
    why: 'module signing, certificates',
    apt: 'libssl-dev',
    dnf: 'openssl-devel',
    header: 'openssl/opensslv.h',
  },
  {
    name: 'libc headers',
    need: 'build',
    why: 'host programs',
    apt: 'libc6-dev',
    dnf: 'glibc-devel',
    header: 'stdio.h',
  },
  { name: 'depmod', need: 'build', why: 'install modules', apt: 'kmod', dnf: 'kmod', programs: ['depmod'] },
  {
    name: 'ccache',
    need: 'optional',
    why: 'compile only what changed',
    apt: 'ccache',
    dnf: 'ccache',
    programs: ['ccache'],
  },
  {
    name: 'file',
    need: 'boot',
    why: 'virtme-run reads the kernel version with it',
    apt: 'file',
    dnf: 'file',
    programs: ['file'],
  },
  {
    name: 'unshare',
    need: 'boot',
    why: 'keep secrets out of the snapshot',
    apt: 'util-linux',
    dnf: 'util-linux',
    programs: ['unshare'],
  },
  { name: 'python3', need: 'boot', why: 'virtme-ng', apt: 'python3', dnf: 'python3', programs: ['python3'] },
  {
    name: 'busybox',
    need: 'optional',
    why: 'boots two times faster',
    apt: 'busybox-static',
    dnf: 'busybox',
    programs: ['busybox'],
  },
  {
    name: 'crash',
    need: 'optional',
    why: 'open vmcores with it, where it understands the kernel',
    apt: 'crash',
    dnf: 'crash',
    programs: ['crash'],
  },
]

/** What `kc root create` needs; the second only without root rights. */
const MMDEBSTRAP: Tool = {
  name: 'mmdebstrap',
  need: 'root',
  why: 'create a root file system',
  apt: 'mmdebstrap',
  dnf: 'mmdebstrap',
  programs: ['mmdebstrap'],
}
const NEWUIDMAP: Tool = {
  name: 'newuidmap',
  need: 'root',
  why: 'create a root file system without root rights',
  apt: 'uidmap',
  dnf: 'shadow-utils',
  programs: ['newuidmap'],
}
const rootTools = () => (process.getuid?.() === 0 ? [MMDEBSTRAP] : [MMDEBSTRAP, NEWUIDMAP])

/** The tools for kernels of an architecture, except those of `kc root create` alone. */
export function toolsFor(name: ArchName): Tool[] {
  const { qemu, packages, triplet } = archOf(name)
  const cross: Tool[] = isNative(name)
    ? []
    : [
        {
          name: `gcc for ${name}`,
          need: 'build',
          why: 'cross-compile',
          ...packages.gcc,
          programs: [`${triplet}-gcc`],
        },
        ...[MMDEBSTRAP, NEWUIDMAP].map(tool => ({ ...tool, need: 'optional' as const })),
      ]
  return [
    ...TOOLS,
    ...cross,
    {
      name: isNative(name) ? 'qemu' : `qemu for ${name}`,
      need: 'boot',
      why: 'the virtual machine',
      ...packages.qemu,
      programs: [`qemu-system-${qemu}`],
    },
  ]
}

export interface ToolState {
  tool: Tool
  /** path of the program, or name of the header; undefined if missing */
  found?: string
}

async function hasHeader(header: string): Promise<boolean> {
  if (!(await which('gcc'))) return false
  const end = await run({
    file: 'gcc',
    args: ['-E', '-x', 'c', '-', '-o', '/dev/null'],
    input: `#include <${header}>\n`,
    deadline: 30,
  })
  return end.status === 0
}

/** Looks for a tool on this machine. */
export async function probeTool(tool: Tool): Promise<ToolState> {
  for (const program of tool.programs ?? []) {
    const found = await which(program)
    if (found) return { tool, found }
  }
  if (tool.header && (await hasHeader(tool.header))) return { tool, found: tool.header }
  return { tool }
}

/** The missing tools among those with one of these needs. */
export async function missingTools(needs: readonly Need[], arch: ArchName): Promise<Tool[]> {
  const states = await Promise.all(
    [...toolsFor(arch), ...rootTools()].filter(tool => needs.includes(tool.need)).map(probeTool),
  )
  return states.filter(state => state.found === undefined).map(state => state.tool)
}

/** The command that installs the packages of these tools; undefined without a known package manager. */
export async function installCommand(tools: readonly Tool[]): Promise<string[] | undefined> {
  const sudo = process.getuid?.() === 0 ? [] : ['sudo']
  const names = (manager: 'apt' | 'dnf') => [...new Set(tools.map(tool => tool[manager]))]
  if (await which('apt-get')) {
    return [...sudo, 'apt-get', 'install', '-y', '--no-install-recommends', ...names('apt')]
  }
  if (await which('dnf')) return [...sudo, 'dnf', 'install', '-y', ...names('dnf')]
  return undefined
}

/** Throws InfraError with all missing tools and the command that installs them. `what` needs them. */
export async function requireTools(needs: readonly Need[], arch: ArchName, what: string): Promise<void> {
  const missing = await missingTools(needs, arch)
  if (missing.length === 0) return
  const command = await installCommand(missing)
  const names = missing.map(tool => tool.name).join(', ')
  throw new InfraError(
    `${what} needs ${names}, which ${missing.length > 1 ? 'are' : 'is'} not on this machine: ${command ? `run \`${command.join(' ')}\`` : 'install the packages of your distribution'} (or \`kc doctor --install\`).`,
  )
}
