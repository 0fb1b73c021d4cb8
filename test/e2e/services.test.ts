import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { linkShared } from '../cache.js'
import { ANSWERS, type Fault, type ResultsService, startResultsService } from '../harness/results.js'
import { makeStep, NODES, type Step, type StepEnd } from '../harness/runner.js'
import { scratch } from '../kc.js'
import { kernelFor, kernelInputs } from '../kernels.js'

/** What becomes of a run when GitHub's services do not do what they should. The run itself goes on as if they did. */

let service: ResultsService
let tree: string
const steps: Step[] = []
type Node = keyof typeof NODES
const nodes = Object.keys(NODES) as Node[]

beforeAll(async () => {
  service = await startResultsService()
  tree = await makeTree()
})
afterAll(() => service.close())
afterEach(() => {
  service.faults = []
  for (const step of steps.splice(0)) step.remove()
})

/**
 * A kernel tree that is built in a second: its Makefile copies a kernel that was built before. So caches can be looked
 * at on machines that have nothing, without a compiler.
 */
async function makeTree(): Promise<string> {
  const entry = await cachedKernel()
  const at = scratch('tree')
  execFileSync('git', ['init', '-q', at])
  const rules = [
    ...['VERSION = 6', 'PATCHLEVEL = 12', 'SUBLEVEL = 0', 'EXTRAVERSION =', 'KERNELVERSION = 6.12.0'],
    ...['allnoconfig:', `\tmkdir -p $(O) && cp ${entry}/config $(O)/.config`],
    'bzImage:',
    '\tmkdir -p $(O)/arch/x86/boot $(O)/include/config $(O)/scripts',
    `\tcp ${entry}/image $(O)/arch/x86/boot/bzImage`,
    `\tcp ${entry}/vmlinux $(O)/vmlinux`,
    `\techo ${JSON.parse(readFileSync(join(entry, 'manifest.json'), 'utf8')).kernel.release} > $(O)/include/config/kernel.release`,
  ]
  writeFileSync(join(at, 'Makefile'), `${rules.join('\n')}\n`)
  execFileSync('git', ['-C', at, 'add', '-A'])
  execFileSync('git', [
    '-C',
    at,
    '-c',
    'user.name=a',
    '-c',
    'user.email=a@b',
    'commit',
    '-qm',
    'copies a kernel',
  ])
  return at
}

/** Directory of a kernel that the tests boot, in the kernel cache. */
async function cachedKernel(): Promise<string> {
  const kernels = join(await kernelFor('tiny'), 'kernels')
  return join(kernels, readdirSync(kernels).find(name => /^[0-9a-f]{64}$/.test(name)) ?? 'none')
}

/** A job on a machine that has just been made, which waits for a service for so many seconds. */
function job(
  node: Node,
  {
    attempt = 1,
    seconds = 60,
    inputs = {},
  }: { attempt?: number; seconds?: number; inputs?: Record<string, string> },
): Step {
  // the same path each time: paths are part of what GitHub's cache compares
  const home = linkShared(scratch('home'), ['trees', 'venv', 'kvm'])
  const step = makeStep(
    node,
    {
      // the options of the kernel that the tree copies
      ...{ ...kernelInputs('tiny'), release: '', ref: '', 'ccache-remote': '' },
      ...{ path: tree, accel: 'tcg', cpus: '1', 'skip-modules': 'true' },
      ...{ run: 'uname -r', ...inputs },
    },
    {
      env: {
        KERNELCRAFT_CACHE: home,
        KERNELCRAFT_SERVICE_SECONDS: String(seconds),
        ACTIONS_RESULTS_URL: service.url,
        ACTIONS_RUNTIME_TOKEN: service.token,
        ACTIONS_CACHE_SERVICE_V2: 'True',
        GITHUB_RUN_ATTEMPT: String(attempt),
      },
    },
  )
  steps.push(step)
  return step
}

const said = (end: StepEnd, pattern: RegExp) => end.log.split('\n').filter(line => pattern.test(line))
/** The stack of a JavaScript error is of no use to the reader of a log. */
const isClean = (end: StepEnd) => expect(end.log).not.toMatch(/^\s+at .*\.js:\d+/m)

/** A run that ends before it needs a kernel has an artifact all the same. */
const WITHOUT_GUEST = { release: 'nowhere' }

describe('artifacts', () => {
  const faults: [string, Node, Fault, RegExp][] = [
    [
      'that exists already',
      'node24',
      { on: 'CreateArtifact', does: ANSWERS.exists, times: 9 },
      /could not be uploaded: .*409/,
    ],
    [
      'beyond the quota',
      'node24',
      { on: 'CreateArtifact', does: ANSWERS.full, times: 9 },
      /could not be uploaded: .*quota has been hit/,
    ],
    [
      'on a service that is silent',
      'node24',
      { on: 'CreateArtifact', does: { kind: 'stall' }, times: 9 },
      /did not respond within 2 s/,
    ],
    [
      'whose upload stalls',
      'node24',
      { on: 'upload', does: { kind: 'stall' }, times: 9 },
      /did not respond within 2 s/,
    ],
    // sockets are where the two versions of Node differ
    ...nodes.map((node): [string, Node, Fault, RegExp] => [
      `whose upload is cut, on ${node}`,
      node,
      { on: 'upload', does: { kind: 'cut' }, times: 99 },
      /could not be uploaded: /,
    ]),
  ]
  it.each(faults)('one %s: a warning, and the verdict stands', async (_what, node, fault, sentence) => {
    service.faults = [fault]
    const end = await job(node, { seconds: 2, inputs: WITHOUT_GUEST }).main()
    expect([end.status, end.outputs.verdict], end.log).toEqual([1, 'source-failed'])
    const warnings = end.commands.filter(({ command }) => command === 'warning').map(({ message }) => message)
    expect(
      warnings.filter(message => sentence.test(message)),
      end.log,
    ).toHaveLength(1)
    isClean(end)
  })

  it.each([
    ['an upload that is cut once', { on: 'upload', does: { kind: 'cut' }, times: 1 }],
    [
      'an answer that takes two seconds',
      { on: 'CreateArtifact', does: { kind: 'slow', ms: 2000 }, times: 1 },
    ],
  ] as [string, Fault][])('%s is retried without a warning', async (_what, fault) => {
    service.faults = [fault]
    const end = await job('node24', { inputs: WITHOUT_GUEST }).main()
    expect(end.outputs['artifact-id'], end.log).toMatch(/^\d+$/)
    expect(end.commands.filter(({ command }) => command === 'warning')).toEqual([])
  })
})

describe('caches', () => {
  /** A job that saves, so that there is something to restore. */
  async function saved(): Promise<void> {
    service.caches.splice(0)
    const step = job('node24', {})
    expect((await step.main()).outputs['kernel-cache-hit']).toBe('false')
    await step.post()
    expect(service.caches.filter(({ finalized }) => finalized).length).toBeGreaterThan(0)
  }
  // once for all that restore: they leave it as it is
  beforeAll(saved)

  it.each(nodes)('that work: the kernel is restored on %s', async node => {
    const end = await job(node, { attempt: 2 }).main()
    expect([end.status, end.outputs['kernel-cache-hit']], end.log).toEqual([0, 'true'])
  })

  const restoring: [string, Node, Fault][] = [
    ['is silent', 'node24', { on: 'GetCacheEntryDownloadURL', does: { kind: 'stall' }, times: 99 }],
    ['fails', 'node24', { on: 'GetCacheEntryDownloadURL', does: ANSWERS.unreadable, times: 99 }],
    ...nodes.map((node): [string, Node, Fault] => [
      `cuts downloads, on ${node}`,
      node,
      { on: 'download', does: { kind: 'cut' }, times: 99 },
    ]),
    ['stalls in downloads', 'node24', { on: 'download', does: { kind: 'stall' }, times: 99 }],
  ]
  it.each(restoring)(
    'of a service that %s: the kernel is built, and the log says why',
    async (_what, node, fault) => {
      service.faults = [fault]
      const end = await job(node, { attempt: 2, seconds: 2 }).main()
      expect([end.status, end.outputs.verdict, end.outputs['kernel-cache-hit']], end.log).toEqual([
        0,
        'passed',
        'false',
      ])
      expect(said(end, /(?:could not be restored|nothing to restore)/).length, end.log).toBeGreaterThan(0)
      isClean(end)
    },
  )

  const saving: [string, Fault, RegExp][] = [
    ['is full', { on: 'CreateCacheEntry', does: ANSWERS.full, times: 99 }, /not saved/],
    ['has the key by now', { on: 'CreateCacheEntry', does: ANSWERS.exists, times: 99 }, /not saved/],
    [
      'is silent',
      { on: 'CreateCacheEntry', does: { kind: 'stall' }, times: 99 },
      /not saved .*did not respond within 2 s/,
    ],
    ['cuts uploads', { on: 'upload', does: { kind: 'cut' }, times: 999 }, /not saved/],
  ]
  it('of a service that saves nothing: post is green whatever it does', async () => {
    service.caches.splice(0)
    const step = job('node24', { seconds: 2 })
    expect((await step.main()).outputs.verdict).toBe('passed')
    for (const [what, fault, sentence] of saving) {
      service.faults = [fault]
      const end = await step.post()
      expect(end.status, end.log).toBe(0)
      expect(said(end, sentence).length, `${what}: ${end.log}`).toBeGreaterThan(0)
      expect(service.caches.filter(({ finalized }) => finalized)).toEqual([])
      service.caches.splice(0)
      isClean(end)
    }
  })
})
