import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import type { Config } from '../config/config.js'
import type { Kbuild } from '../config/explain.js'
import { BuildError, InfraError } from '../errors.js'
import { describeEnd, lastLines, run } from '../host/processes.js'
import type { Log } from '../log.js'
import type { Request } from '../request.js'
import type { Diagnostic, KernelFacts } from '../result.js'
import type { Source } from '../source/source.js'
import { isFatal, parseDiagnostic, parseStep } from './diagnostics.js'
import { countCcache, IMAGES, type Toolchain } from './toolchain.js'

export interface Kernel extends KernelFacts {
  image: string
  vmlinux: string
  /** directory with lib/modules/RELEASE, if anything was built as a module */
  modules?: string
}

/** What a build directory holds, as noted when make had succeeded. */
interface Stamp {
  /** hash of everything that the kernel was made from */
  key: string
  sha: string
  subject: string
  kernel: Omit<Kernel, 'reused' | 'ccache'>
  /** SHA-256 of the image, so that a touched one is not taken for the built one */
  imageHash: string
}

/** Where a build directory notes what it holds; there only after make has succeeded. */
export function stampPath(kbuild: Pick<Kbuild, 'source' | 'out'>): string {
  return join(kbuild.source, kbuild.out, '.kernelcraft.json')
}

async function readStamp(kbuild: Kbuild): Promise<Stamp | undefined> {
  try {
    return JSON.parse(await readFile(stampPath(kbuild), 'utf8')) as Stamp
  } catch {
    return undefined
  }
}

async function sha256(path: string): Promise<string | undefined> {
  return await readFile(path).then(
    bytes => createHash('sha256').update(bytes).digest('hex'),
    () => undefined,
  )
}

/** The kernel that was built last in this build directory (`--skip-build`), with the commit it was made from. */
export async function previousKernel(
  kbuild: Kbuild,
): Promise<{ kernel: Kernel; sha: string; subject: string }> {
  const stamp = await readStamp(kbuild)
  if (!stamp || (await sha256(stamp.kernel.image)) !== stamp.imageHash) {
    throw new InfraError('There is no kernel to test without building one: run once without --skip-build.')
  }
  return { kernel: { ...stamp.kernel, reused: true }, sha: stamp.sha, subject: stamp.subject }
}

/** Builds image and modules, or finds that exactly this kernel is there already. build.log holds all that make said. */
export async function build(
  request: Request,
  from: { source: Source; config: Config; kbuild: Kbuild; toolchain: Toolchain; buildLog: string },
  log: Log,
  cancel?: AbortSignal,
): Promise<Kernel> {
  const { source, config, kbuild, toolchain } = from
  const key = createHash('sha256')
    .update(
      JSON.stringify([
        1,
        source.treeId,
        config.hash,
        toolchain.compiler,
        toolchain.linker,
        request.arch,
        request.localversion,
        request.skipModules,
      ]),
    )
    .digest('hex')
  const stamp = await readStamp(kbuild)
  if (stamp?.key === key && (await sha256(stamp.kernel.image)) === stamp.imageHash) {
    await writeFile(from.buildLog, 'Nothing to build: this kernel was there already.\n')
    return { ...stamp.kernel, configBase: request.configBase.kind, reused: true }
  }
  await rm(stampPath(kbuild), { force: true })
  if (toolchain.statsLog) await rm(toolchain.statsLog, { force: true })

  const out = join(kbuild.source, kbuild.out)
  const hasModules = !request.skipModules && /^CONFIG_\w+=m$/m.test(config.text)
  const image = IMAGES[request.arch]
  await make([image.target, ...(hasModules ? ['modules'] : [])], {
    ...from,
    log,
    cancel,
    // a fresh directory compiles about so many objects; one that was built before, only what changed
    expected: stamp?.kernel.configHash === config.hash ? undefined : expectedSteps(config),
  })
  const modules = hasModules ? join(out, '.modules') : undefined
  if (modules) {
    await rm(modules, { recursive: true, force: true })
    await make(['modules_install'], { ...from, log, cancel, extra: [`INSTALL_MOD_PATH=${modules}`] })
  }
  const release = (await readFile(join(out, 'include/config/kernel.release'), 'utf8')).trim()
  const kernel = {
    arch: request.arch,
    release,
    configHash: config.hash,
    configBase: request.configBase.kind,
    compiler: toolchain.compiler,
    image: join(out, image.path),
    vmlinux: join(out, 'vmlinux'),
    ...(modules ? { modules } : {}),
  }
  const imageHash = (await sha256(kernel.image)) ?? ''
  const built: Stamp = { key, sha: source.sha, subject: source.subject, kernel, imageHash }
  await writeFile(stampPath(kbuild), JSON.stringify(built))
  const ccache = toolchain.statsLog
    ? countCcache(await readFile(toolchain.statsLog, 'utf8').catch(() => ''))
    : undefined
  return { ...kernel, reused: false, ...(ccache ? { ccache } : {}) }
}

/** Kbuild steps that a configuration comes to: measured at about three for each option that is on. */
function expectedSteps(config: Config): number {
  let enabled = 0
  for (const value of config.values.values()) if (value === 'y' || value === 'm') enabled++
  return Math.round(enabled * 3)
}

interface MakeCall {
  kbuild: Kbuild
  toolchain: Toolchain
  buildLog: string
  log: Log
  cancel?: AbortSignal
  expected?: number
  extra?: readonly string[]
}

/** Runs make. Throws BuildError with the compiler's complaints. */
async function make(targets: readonly string[], call: MakeCall): Promise<void> {
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
    env: call.toolchain.env,
    cancel: call.cancel,
    deadline: 6 * 3600,
    onLine,
    onData: chunk => file.write(chunk),
  }).finally(async () => {
    file.end()
    if (!writeError) await once(file, 'close').catch(() => {})
  })
  if (writeError) throw writeError
  if (end.status === 0) return
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
