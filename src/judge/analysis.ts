import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fetchVmlinux } from '../build/remote-builder.js'
import { keepVmcore } from '../dump/keep-vmcore.js'
import { toJunit } from '../report/junit.js'
import { testFacts } from '../report/tests.js'
import type { FindingFacts, TestFacts, VmcoreFacts } from '../result.js'
import { FILES } from '../run-directory.js'
import type { AnalysisContext } from './context.js'
import { decodeFindings } from './decode-findings.js'
import { addContextLines, annotateFindings } from './source-context.js'

export interface Analysis {
  findings: FindingFacts[]
  tests?: TestFacts
  vmcore?: VmcoreFacts
}

/**
 * Explains what a guest printed: findings with decoded stacks, annotations and source, the vmcore, the tests. Writes
 * junit.xml, crash.txt and vmlinux into the run directory where there are tests or a vmcore.
 */
export async function analyze(given: AnalysisContext): Promise<Analysis> {
  const context = await withVmlinux(given)
  const findings = await decodeFindings(context)
  await annotateFindings(context, findings)
  await addContextLines(context, findings)
  const vmcore = context.dump?.ok ? await keepVmcore(context) : undefined
  const { tests } = context.output
  if (tests) await writeFile(join(context.runDirectory, FILES.junit), toJunit(tests, context.kernel.release))
  return {
    findings,
    ...(tests ? { tests: testFacts(tests) } : {}),
    ...(vmcore ? { vmcore } : {}),
  }
}

/** Stacks and dumps are explained with vmlinux, which is fetched from a build host only where there is one to explain. */
async function withVmlinux(context: AnalysisContext): Promise<AnalysisContext> {
  const { request, kernel, findings, dump, runDirectory, log, cancel } = context
  if (findings.length === 0 && !dump) return context
  const vmlinux = await fetchVmlinux(request, kernel, runDirectory, log, cancel)
  return vmlinux === undefined ? context : { ...context, kernel: { ...kernel, vmlinux } }
}
