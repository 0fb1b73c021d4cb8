import type { ExternalModule } from '../build/external-modules.js'
import { decodeFrames } from '../dump/decode-stack.js'
import { displayPath } from '../request/module-source.js'
import type { FindingFacts, SourceLocation } from '../result.js'
import { type Frame, frameText } from '../triage/stack.js'
import type { AnalysisContext } from './context.js'

/** findings whose stacks are decoded */
const MAX_DECODED = 20

/**
 * The findings of a run, in their order, with the source location of each frame where the debug information has it, and
 * the external module that a finding is about.
 */
export async function decodeFindings(context: AnalysisContext): Promise<FindingFacts[]> {
  const locations = await locateFrames(context)
  return context.findings.map(finding => {
    const { type, title, fingerprint, line, count, panic, ignored, stack, report } = finding
    return {
      ...{ type, title, fingerprint, line, count },
      ...(panic === undefined ? {} : { panic }),
      ...(ignored === undefined ? {} : { ignored }),
      ...moduleOf(stack, context.external),
      stack: stack.map(frame => ({ text: frameText(frame), source: locations.get(frame) ?? [] })),
      report,
    }
  })
}

async function locateFrames(context: AnalysisContext): Promise<Map<Frame, SourceLocation[]>> {
  const { request, kernel, cwd, cancel } = context
  const frames = findingsToDecode(context).flatMap(({ stack }) => stack)
  if (frames.length === 0 || request.debugInfo !== 'full') return new Map()
  const { arch, vmlinux, modules } = kernel
  const locations = await decodeFrames(
    { arch, vmlinux, ...(modules ? { modules } : {}) },
    frames,
    cancel ? { cancel } : {},
  )
  // a file of an external module has an absolute path in the debug information
  const shown = (location: SourceLocation) => ({ ...location, file: displayPath(location.file, cwd) })
  return new Map(frames.map((frame, index) => [frame, (locations[index] ?? []).map(shown)]))
}

/** The findings that fail the run come first, since the number is limited. */
function findingsToDecode({ findings }: AnalysisContext): AnalysisContext['findings'] {
  const isIgnored = (finding: (typeof findings)[number]) => Number(finding.ignored !== undefined)
  return [...findings].sort((a, b) => isIgnored(a) - isIgnored(b)).slice(0, MAX_DECODED)
}

/** The module under test whose code is the innermost in a stack. */
function moduleOf(stack: readonly Frame[], external: readonly ExternalModule[]): { module?: string } {
  const names = new Set(external.map(({ name }) => name))
  const frame = stack.find(({ module }) => module !== undefined && names.has(module))
  return frame?.module === undefined ? {} : { module: frame.module }
}
