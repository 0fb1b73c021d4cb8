import { createReadStream } from 'node:fs'
import {
  appendFile,
  constants,
  copyFile,
  readFile,
  realpath,
  rename,
  stat,
  writeFile,
} from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { archOf, noVmcoreinfo } from '../arch.js'
import type { Qmp } from '../boot/qmp.js'
import type { DumpReason } from '../boot/supervise.js'
import type { Kernel } from '../build/build-kernel.js'
import type { ExternalModule } from '../build/external-modules.js'
import { checkDump } from '../dump/check-dump.js'
import { probeCrash } from '../dump/crash.js'
import { debuggers, HOW_TO_GET, openCommand } from '../dump/debuggers.js'
import { decodeFrames } from '../dump/decode-stack.js'
import { explainDump } from '../dump/explain-dump.js'
import { type DumpResult, takeDump } from '../dump/take-dump.js'
import type { Log } from '../log.js'
import { toJunit } from '../report/junit.js'
import { testFacts } from '../report/tests.js'
import { displayPath } from '../request/module-source.js'
import type { Request } from '../request/request.js'
import type { FindingFacts, SourceLocation, TestFacts, VmcoreFacts } from '../result.js'
import { FILES } from '../run-directory.js'
import { readFromTree } from '../source/locate.js'
import type { Source } from '../source/source.js'
import type { JudgedFinding } from '../triage/rules.js'
import { isSkipped } from '../triage/skip-list.js'
import { type Frame, frameText } from '../triage/stack.js'
import type { ParsedOutput } from './guest-output.js'

/** What the dump may cost: so much time is left for the upload afterwards. */
const DUMP_SECONDS = 120
/** findings whose stacks are decoded */
const MOST_DECODED = 20
/** GitHub shows ten annotations for a step */
const MOST_ANNOTATIONS = 10
/** findings that are shown with the source and the log around them */
const MOST_SURROUNDED = 3
const LINES_BEFORE = 15
const LINES_AROUND = 5

export interface VmcoreCollector {
  /** takes the guest's memory where it is wanted; false if QEMU is stuck with it */
  collect(qmp: Qmp, reason: DumpReason): Promise<boolean>
  dump(): DumpResult | undefined
}

/** Takes vmcores as the request wants them: of a dead or stuck kernel, of one that reported a bug only if `always`. */
export function vmcoreCollector(
  request: Request,
  runDirectory: string,
  log: Log,
  cancel?: AbortSignal,
): VmcoreCollector {
  let taken: DumpResult | undefined
  const wanted: Record<Request['vmcore'], readonly DumpReason[]> = {
    never: [],
    'on-failure': ['panic', 'hang'],
    always: ['panic', 'hang', 'splat'],
  }
  return {
    dump: () => taken,
    async collect(qmp, reason) {
      if (!wanted[request.vmcore].includes(reason)) return true
      if (!archOf(request.arch).vmcoreinfo) {
        log.info(`No vmcore is taken: ${noVmcoreinfo(request.arch)}`)
        return true
      }
      log.info("The guest's memory is taken.")
      const now = await takeDump(qmp, join(runDirectory, FILES.vmcore), {
        maxBytes: request.vmcoreMaxBytes,
        deadline: DUMP_SECONDS,
        machine: archOf(request.arch).machine,
        ...(cancel ? { cancel } : {}),
      })
      // a splat's dump is not lost because the later one of a panic failed
      if (now.ok || !taken?.ok) taken = now
      if (!now.ok) log.warning(`There is no vmcore of the ${reason}: ${now.reason}`)
      return now.ok || !now.writing
    },
  }
}

export interface Analysis {
  findings: FindingFacts[]
  tests?: TestFacts
  vmcore?: VmcoreFacts
}

interface Examination {
  request: Request
  kernel: Kernel
  /** the tree under test */
  source: Pick<Source, 'gitDir' | 'treeId'>
  runDirectory: string
  findings: readonly JudgedFinding[]
  heard: ParsedOutput
  /** modules under test */
  external: readonly ExternalModule[]
  /** what their paths are relative to */
  cwd: string
  taken?: DumpResult
  log: Log
  cancel?: AbortSignal
}

/** Explains what was heard: stacks with file and line, the dump, JUnit; annotations where the tree has the place. */
export async function analyze(at: Examination): Promise<Analysis> {
  const findings = await decode(at)
  await annotate(at, findings)
  await surround(at, findings)
  const vmcore = at.taken?.ok ? await keepVmcore(at) : undefined
  const { tests } = at.heard
  if (tests) await writeFile(join(at.runDirectory, FILES.junit), toJunit(tests, at.kernel.release))
  return {
    findings,
    ...(tests ? { tests: testFacts(tests) } : {}),
    ...(vmcore ? { vmcore } : {}),
  }
}

async function decode(at: Examination): Promise<FindingFacts[]> {
  // what fails the run first: the number that is decoded is limited
  const order = [...at.findings].sort(
    (a, b) => Number(a.ignored !== undefined) - Number(b.ignored !== undefined),
  )
  const decoded = order.slice(0, MOST_DECODED)
  const frames = decoded.flatMap(finding => finding.stack)
  const places: readonly SourceLocation[][] =
    frames.length > 0 && at.request.debugInfo === 'full'
      ? await decodeFrames(
          {
            arch: at.kernel.arch,
            vmlinux: at.kernel.vmlinux,
            ...(at.kernel.modules ? { modules: at.kernel.modules } : {}),
          },
          frames,
          at.cancel ? { cancel: at.cancel } : {},
        )
      : []
  // an external module's file is known by where its source lies
  const shown = (place: SourceLocation) => ({ ...place, file: displayPath(place.file, at.cwd) })
  const byFrame = new Map(frames.map((frame, index) => [frame, (places[index] ?? []).map(shown)]))
  return at.findings.map(({ type, title, fingerprint, line, count, panic, ignored, stack, report }) => ({
    ...{ type, title, fingerprint, line, count },
    ...(panic === undefined ? {} : { panic }),
    ...(ignored === undefined ? {} : { ignored }),
    ...chargedTo(at.external, stack),
    stack: stack.map(frame => ({ text: frameText(frame), source: byFrame.get(frame) ?? [] })),
    report,
  }))
}

/** The module under test whose code a stack runs through, the innermost one. */
function chargedTo(external: readonly ExternalModule[], stack: readonly Frame[]): { module?: string } {
  const names = new Set(external.map(({ name }) => name))
  const frame = stack.find(({ module }) => module !== undefined && names.has(module))
  return frame?.module === undefined ? {} : { module: frame.module }
}

/** Where a finding's place lies: in the tree, or in an external module. Undefined where there is no such file. */
async function readPlace(
  at: Examination,
  { module }: FindingFacts,
  file: string,
): Promise<{ text: string; external: boolean } | undefined> {
  // debug information is the kernel's word, and the kernel is a stranger's
  const directory = at.external.find(({ name }) => name === module)?.directory
  const path = directory && (await realpath(resolve(at.cwd, file)).catch(() => undefined))
  if (directory && path?.startsWith(`${await realpath(directory)}/`))
    return { text: await readFile(path, 'utf8'), external: true }
  const text = await readFromTree(at.source, file)
  return text === undefined ? undefined : { text, external: false }
}

/** The place in the source that a finding is about: the innermost function that is no helper everybody calls. */
export function sourceLocation({ stack }: FindingFacts): SourceLocation | undefined {
  const known = stack.filter(({ source }) => source.length > 0)
  const entry = known.find(({ text }) => !isSkipped(text.split('+')[0] ?? '')) ?? known[0]
  // of what was inlined there, the innermost is where it happened, unless that is a helper too
  return entry?.source.find(place => !isSkipped(place.function)) ?? entry?.source[0]
}

async function annotate(at: Examination, findings: readonly FindingFacts[]): Promise<void> {
  let told = 0
  for (const finding of findings) {
    const place = finding.ignored === undefined ? sourceLocation(finding) : undefined
    if (!place || told >= MOST_ANNOTATIONS) continue
    const found = await readPlace(at, finding, place.file)
    if (!found) continue
    told++
    const { file, line } = place
    at.log.diagnostic({ file, line, message: finding.title, external: found.external }, 'Kernel')
  }
}

/** Puts the source and the console around the findings that matter most. */
async function surround(at: Examination, findings: readonly FindingFacts[]): Promise<void> {
  const first = findings.filter(finding => finding.ignored === undefined).slice(0, MOST_SURROUNDED)
  for (const finding of first) {
    finding.before = await linesBefore(join(at.runDirectory, FILES.console), finding.line, LINES_BEFORE)
    const place = sourceLocation(finding)
    const found = place && (await readPlace(at, finding, place.file))
    if (!found) continue
    const lines = found.text.split('\n')
    const start = Math.max(1, place.line - LINES_AROUND)
    finding.around = {
      file: place.file,
      line: place.line,
      first: start,
      lines: lines.slice(start - 1, place.line + LINES_AROUND),
    }
  }
}

/** The last lines of a log before one, without reading what comes after it. */
async function linesBefore(path: string, line: number, count: number): Promise<string[]> {
  const last: string[] = []
  const input = createReadStream(path, { encoding: 'latin1' })
  let number = 0
  for await (const text of createInterface({ input })) {
    if (++number >= line) break
    last.push(text.slice(0, 300))
    if (last.length > count) last.shift()
  }
  input.destroy()
  return last
}

/** Checks the dump, pairs it with its vmlinux, and has the debuggers explain it. */
async function keepVmcore(at: Examination): Promise<VmcoreFacts | undefined> {
  const { runDirectory, kernel, log, cancel } = at
  const vmcore = join(runDirectory, FILES.vmcore)
  const checked = await checkDump(vmcore, kernel.vmlinux, cancel)
  if (!checked.ok) {
    const kept = join(runDirectory, 'memory.kdump')
    await rename(vmcore, kept)
    log.warning(
      `The dump is no vmcore that can be opened, and is kept as ${basename(kept)}: ${checked.reason}`,
    )
    return undefined
  }
  const vmlinux = join(runDirectory, FILES.vmlinux)
  await copyFile(kernel.vmlinux, vmlinux, constants.COPYFILE_FICLONE)
  const text = join(runDirectory, FILES.crash)
  const found = await debuggers()
  const crash = found.find(({ name }) => name === 'crash')
  const [explained, probe] = await Promise.all([
    explainDump({
      vmcore,
      vmlinux,
      output: text,
      ...(kernel.modules ? { modules: kernel.modules } : {}),
      ...(cancel ? { cancel } : {}),
    }),
    crash ? probeCrash(vmcore, vmlinux, cancel ? { cancel } : {}) : undefined,
  ])
  if (!explained.ok) log.warning(`drgn could not explain the vmcore: ${explained.reason}`)
  if (probe && !probe.works) log.detail(probe.reason)
  const said = probe?.works ? probe.text : probe?.partial
  if (said !== undefined) {
    const limits = probe?.works === false ? `${probe.reason}\n` : ''
    await appendFile(text, `\n== What crash ${crash?.version ?? ''} says ==\n${limits}${said}`)
  }
  const tool = probe?.works ? crash : found.find(({ name }) => name === 'drgn')
  if (found.length === 0) log.info(`Nothing here opens the vmcore: ${HOW_TO_GET}`)
  const { size: bytes } = await stat(vmcore)
  return {
    bytes,
    ...(checked.buildId ? { buildId: checked.buildId } : {}),
    open: openCommand(vmcore, vmlinux, tool ?? { name: 'drgn' }),
  }
}
