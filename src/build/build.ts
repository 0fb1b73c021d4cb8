import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { archOf } from '../arch.js'
import type { Config } from '../config/config.js'
import type { Kbuild } from '../config/explain.js'
import { BuildError, InfraError } from '../errors.js'
import { readJson } from '../host/files.js'
import { describeEnd, lastLines, run } from '../host/processes.js'
import type { Log } from '../log.js'
import type { Request } from '../request.js'
import type { Diagnostic, KernelFacts } from '../result.js'
import type { Source } from '../source/source.js'
import { type Ccache, ccacheFacts, startCounting } from './ccache.js'
import { isFatal, parseDiagnostic, parseStep } from './diagnostics.js'
import type { Toolchain } from './toolchain.js'

/** A builder's own settings would make another kernel of the same ref, and the next build another one again. */
const REPRODUCIBLE = {
  KBUILD_BUILD_TIMESTAMP: 'Thu Jan 1 00:00:00 UTC 1970',
  KBUILD_BUILD_USER: 'kernelcraft',
  KBUILD_BUILD_HOST: 'kernelcraft',
  KBUILD_BUILD_VERSION: '1',
  LC_ALL: 'C',
}

export interface Kernel extends KernelFacts {
  image: string
  vmlinux: string
  /** directory with lib/modules/RELEASE, if anything was built as a module */
  modules?: string
}

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

export interface Built {
  kernel: Kernel
  /** Kbuild steps that were taken: about how much there was to do */
  steps: number
}

/** Builds image and modules; make does what there is to do. build.log holds all that it said. */
export async function build(
  request: Request,
  from: BuildFrom,
  log: Log,
  cancel?: AbortSignal,
): Promise<Built> {
  const { source, config, kbuild, toolchain, ccache } = from
  const out = join(kbuild.source, kbuild.out)
  const stamp = await readStamp(out)
  await rm(stampPath(out), { force: true })
  if (ccache) await startCounting(ccache)
  const began = performance.now()

  const hasModules = !request.skipModules && /^CONFIG_\w+=m$/m.test(config.text)
  const image = archOf(request.arch).image
  const steps = await make([image.target, ...(hasModules ? ['modules'] : [])], {
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
  expected?: number
  extra?: readonly string[]
}

/** Runs make and returns how many steps it took. Throws BuildError with the compiler's complaints. */
async function make(targets: readonly string[], call: MakeCall): Promise<number> {
  const { kbuild, log } = call
  await mkdir(dirname(call.buildLog), { recursive: true })
  const file = createWriteStream(call.buildLog, { flags: 'a' })
  let writeError: Error | undefined
  file.on('error', error => {
    writeError = error
  })
  const diagnostics: Diagnostic[] = []
  const fatal: string[] = []
  let steps = 0
  const onLine = (line: string) => {
    const step = parseStep(line)
    if (step) {
      steps++
      log.progress({
        done: steps,
        total: call.expected && Math.max(call.expected, steps),
        what: `${step.verb} ${step.what}`,
      })
      return
    }
    const diagnostic = parseDiagnostic(line, kbuild.source)
    if (diagnostic) {
      diagnostics.push(diagnostic)
      log.diagnostic(diagnostic)
    } else if (isFatal(line)) fatal.push(line)
    log.detail(line)
  }
  const end = await run({
    file: 'make',
    args: [
      '-C',
      kbuild.source,
      `-j${availableParallelism()}`,
      '--output-sync=line',
      ...kbuild.makeArgs,
      ...(call.extra ?? []),
      ...targets,
    ],
    env: { ...REPRODUCIBLE, ...call.ccache?.env },
    cancel: call.cancel,
    deadline: 6 * 3600,
    onLine,
    onData: chunk => file.write(chunk),
  }).finally(async () => {
    file.end()
    if (!writeError) await once(file, 'close').catch(() => {})
  })
  if (writeError) throw writeError
  if (end.status === 0) return steps
  if (/No space left on device/.test(end.stderr)) {
    throw new InfraError('The disk is full: make room for the build directory.', lastLines(end.stderr, 3))
  }
  const [first] = diagnostics
  const reason = first
    ? `${first.file}:${first.line}: ${first.message}`
    : (fatal[0] ?? describeEnd('make', end))
  throw new BuildError(
    `The kernel does not build: ${reason}`,
    // the compiler's own words say more than make's
    first ? [] : fatal.length > 0 ? fatal.slice(0, 8) : lastLines(end.stderr, 8),
    diagnostics.slice(0, 50),
  )
}
