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

export interface Kernel extends KernelFacts {
  image: string
  /** not there, where the kernel was built on another machine and nobody has needed it */
  vmlinux: string
  /** SHA-256 of vmlinux on the machine that built it */
  vmlinuxHash?: string | undefined
  /** directory with lib/modules/RELEASE, if anything was built as a module */
  modules?: string
  /** what external modules are built against; absent where the image alone was built */
  kernelBuildDir?: KernelBuildDir
}

/** A source and its build directory, or what the kernel cache keeps of the latter. */
export type KernelBuildDir = { source: string; out: string } | { archive: string }

/** What a build directory was made from, as noted when make had succeeded. */
export interface Stamp {
  treeId: string
  configHash: string
}

const stampPath = (out: string) => join(out, '.kernelcraft.json')

/** What a build directory was made from; undefined if it is not known to be whole. */
export async function readStamp(out: string): Promise<Stamp | undefined> {
  return await readJson<Stamp>(stampPath(out))
}

export interface BuildFrom {
  source: Source
  config: Config
  kbuild: Kbuild
  toolchain: Toolchain
  ccache?: Ccache
  buildLog: string
}

export interface CompiledKernel {
  kernel: Kernel
  /** Kbuild steps that were taken: about how much there was to do */
  steps: number
}

/** Builds image and modules; make does what there is to do. build.log holds all that it said. */
export async function buildKernel(
  request: Request,
  from: BuildFrom,
  log: Log,
  cancel?: AbortSignal,
): Promise<CompiledKernel> {
  const { source, config, kbuild, toolchain, ccache } = from
  const out = join(kbuild.source, kbuild.out)
  const stamp = await readStamp(out)
  await rm(stampPath(out), { force: true })
  if (ccache) await startCounting(ccache)
  const began = performance.now()

  const takesModules = !request.skipModules && config.values.get('MODULES') === 'y'
  const hasModules = takesModules && /^CONFIG_\w+=m$/m.test(config.text)
  const image = archOf(request.arch).image
  // also without a module of its own: Module.symvers is what external ones are linked against
  const steps = await make([image.target, ...(takesModules ? ['modules'] : [])], {
    ...from,
    log,
    cancel,
    // a fresh directory compiles about so many objects; one that was built before, only what changed
    expected: stamp?.configHash === config.hash ? undefined : expectedSteps(config),
  })
  const modules = hasModules ? join(out, '.modules') : undefined
  if (modules) {
    await rm(modules, { recursive: true, force: true })
    await make(['modules_install'], { ...from, log, cancel, extra: [`INSTALL_MOD_PATH=${modules}`] })
  }
  const made: Stamp = { treeId: source.treeId, configHash: config.hash }
  await writeFile(stampPath(out), JSON.stringify(made))
  const seconds = (performance.now() - began) / 1000
  const kernel: Kernel = {
    arch: request.arch,
    release: (await readFile(join(out, 'include/config/kernel.release'), 'utf8')).trim(),
    configHash: config.hash,
    configBase: request.configBase.kind,
    compiler: toolchain.compiler,
    image: join(out, image.path),
    vmlinux: join(out, 'vmlinux'),
    ...(modules ? { modules } : {}),
    ...(takesModules ? { kernelBuildDir: { source: kbuild.source, out } } : {}),
    reused: false,
    ...(ccache ? { ccache: await ccacheFacts(ccache, seconds) } : {}),
  }
  return { kernel, steps }
}

/** Kbuild steps that a configuration comes to: measured at about three for each option that is on. */
function expectedSteps(config: Config): number {
  let enabled = 0
  for (const value of config.values.values()) if (value === 'y' || value === 'm') enabled++
  return Math.round(enabled * 3)
}

interface MakeCall {
  kbuild: Kbuild
  ccache?: Ccache
  buildLog: string
  log: Log
  cancel?: AbortSignal
  expected?: number | undefined
  extra?: readonly string[]
}

async function make(targets: readonly string[], call: MakeCall): Promise<number> {
  const { kbuild, ccache, extra = [] } = call
  return await runMake(
    {
      what: 'The kernel does not build',
      args: ['-C', kbuild.source, ...kbuild.makeArgs, ...extra, ...targets],
      env: ccache?.env ?? {},
      diagnostic: line => parseDiagnostic(line, kbuild.source),
      expected: call.expected,
    },
    call,
  )
}
