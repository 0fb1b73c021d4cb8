import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { archOf } from '../arch.js'
import type { Config } from '../config/configure.js'
import type { Kbuild } from '../config/kconfig.js'
import { readJson } from '../host/files.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import type { KernelFacts } from '../result.js'
import type { Source } from '../source/source.js'
import { type Ccache, ccacheFacts, startCounting } from './ccache.js'
import { parseDiagnostic } from './diagnostics.js'
import { runMake } from './make.js'
import type { Toolchain } from './toolchain.js'

/** A kernel that was built, as the kernel cache stores it: `configBase` does not follow from its key. */
export interface BuiltKernel extends Omit<KernelFacts, 'configBase'> {
  /** path of the image that QEMU boots */
  image: string
  /** path of vmlinux; the file is absent where a build host built the kernel and vmlinux has not been fetched */
  vmlinux: string
  /** SHA-256 of vmlinux on the machine that built it */
  vmlinuxHash?: string | undefined
  /** directory with lib/modules/RELEASE, if anything was built as a module */
  modules?: string
  /** what external modules are built against; absent where only the image was built */
  kernelBuildDir?: KernelBuildDir
}

/** The kernel of a run. */
export interface Kernel extends BuiltKernel {
  /** what the configuration started from: see ConfigBase of the request */
  configBase: string
}

/** The kernel as a result has it: without the paths of this machine. */
export function kernelFacts({
  image: _image,
  vmlinux: _vmlinux,
  vmlinuxHash: _hash,
  modules: _modules,
  kernelBuildDir: _buildDir,
  ...facts
}: Kernel): KernelFacts {
  return facts
}

/** A source and its build directory, or a tar archive of the latter from the kernel cache (`kernelBuildDirPaths`). */
export type KernelBuildDir = { source: string; out: string } | { archive: string }

/** What a build directory was built from, as recorded after make had succeeded. */
export interface BuildStamp {
  treeId: string
  configHash: string
}

const stampPath = (out: string) => join(out, '.kernelcraft.json')

/** What a build directory was built from; undefined if its last build is not known to have succeeded. */
export async function readStamp(out: string): Promise<BuildStamp | undefined> {
  return await readJson<BuildStamp>(stampPath(out))
}

async function writeStamp(out: string, stamp: BuildStamp): Promise<void> {
  await writeFile(stampPath(out), JSON.stringify(stamp))
}

/** What a kernel is built from, and with. */
export interface BuildInputs {
  source: Source
  config: Config
  kbuild: Kbuild
  toolchain: Toolchain
  ccache?: Ccache
  buildLog: string
}

export interface CompiledKernel {
  kernel: BuiltKernel
  /** Kbuild steps that make took: about how much work there was */
  steps: number
}

/**
 * Builds image and modules; make does only what is out of date. Appends make's output to build.log. Throws BuildError with
 * the compiler's diagnostics.
 */
export async function buildKernel(
  request: Request,
  inputs: BuildInputs,
  log: Log,
  cancel?: AbortSignal,
): Promise<CompiledKernel> {
  const { source, config, kbuild, ccache } = inputs
  const out = join(kbuild.source, kbuild.out)
  const stamp = await readStamp(out)
  await rm(stampPath(out), { force: true })
  if (ccache) await startCounting(ccache)
  const began = performance.now()

  const parts = partsToBuild(request, config)
  // a fresh directory compiles about so many objects; one that was built before, only what changed
  const expected = stamp?.configHash === config.hash ? undefined : expectedSteps(config)
  const call = { ...inputs, log, cancel }
  const steps = await make(parts.targets, { ...call, expected })
  const modules = parts.hasModules ? join(out, INSTALLED_MODULES) : undefined
  if (modules) {
    await rm(modules, { recursive: true, force: true })
    await make(['modules_install'], { ...call, extra: [`INSTALL_MOD_PATH=${modules}`] })
  }
  await writeStamp(out, { treeId: source.treeId, configHash: config.hash })
  const seconds = (performance.now() - began) / 1000
  const kernel: BuiltKernel = {
    arch: request.arch,
    release: (await readFile(join(out, KERNEL_RELEASE), 'utf8')).trim(),
    configHash: config.hash,
    compiler: inputs.toolchain.compiler,
    image: join(out, archOf(request.arch).image.path),
    vmlinux: join(out, 'vmlinux'),
    ...(modules ? { modules } : {}),
    ...(parts.supportsModules ? { kernelBuildDir: { source: kbuild.source, out } } : {}),
    reused: false,
    ...(ccache ? { ccache: await ccacheFacts(ccache, seconds) } : {}),
  }
  return { kernel, steps }
}

/** Where modules are installed, and where Kbuild writes the release; both relative to the build directory. */
export const INSTALLED_MODULES = '.modules'
export const KERNEL_RELEASE = 'include/config/kernel.release'

/** What of a kernel is to be built. */
export interface PartsToBuild {
  /** targets of make */
  targets: string[]
  /** external modules can be built against the kernel */
  supportsModules: boolean
  /** the kernel has modules of its own, to be installed */
  hasModules: boolean
}

export function partsToBuild(request: Request, config: Config): PartsToBuild {
  const supportsModules = !request.skipModules && config.values.get('MODULES') === 'y'
  return {
    // also for a kernel without modules of its own: external ones are linked against Module.symvers
    targets: [archOf(request.arch).image.target, ...(supportsModules ? ['modules'] : [])],
    supportsModules,
    hasModules: supportsModules && /^CONFIG_\w+=m$/m.test(config.text),
  }
}

/** About how many Kbuild steps a configuration takes: measured at about three for each option that is on. */
function expectedSteps(config: Config): number {
  let enabled = 0
  for (const value of config.values.values()) if (value === 'y' || value === 'm') enabled++
  return Math.round(enabled * 3)
}

/** Begins the message of a failed build. */
export const KERNEL_FAILS = 'The kernel does not build'

interface KbuildCall {
  kbuild: Kbuild
  ccache?: Ccache
  buildLog: string
  log: Log
  cancel?: AbortSignal
  expected?: number | undefined
  extra?: readonly string[]
}

async function make(targets: readonly string[], call: KbuildCall): Promise<number> {
  const { kbuild, ccache, extra = [] } = call
  return await runMake(
    {
      what: KERNEL_FAILS,
      args: ['-C', kbuild.source, ...kbuild.makeArgs, ...extra, ...targets],
      env: ccache?.env ?? {},
      diagnostic: line => parseDiagnostic(line, kbuild.source),
      expected: call.expected,
    },
    call,
  )
}
