import type { Kernel } from '../build/build-kernel.js'
import type { ExternalModule } from '../build/external-modules.js'
import type { DumpResult } from '../dump/take-dump.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'
import type { Source } from '../source/source.js'
import type { JudgedFinding } from '../triage/rules.js'
import type { ParsedOutput } from './guest-output.js'

/** What the analysis of a run needs to know. */
export interface AnalysisContext {
  request: Request
  kernel: Kernel
  /** the tree that the kernel was built from */
  source: Pick<Source, 'gitDir' | 'treeId'>
  runDirectory: string
  findings: readonly JudgedFinding[]
  output: ParsedOutput
  /** the external modules under test */
  external: readonly ExternalModule[]
  /** directory to which their paths are relative */
  cwd: string
  dump?: DumpResult
  log: Log
  cancel?: AbortSignal
}
