import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { ANSWERS, type Fault, type ResultsService, startResultsService } from '../harness/results.js'
import { makeStep, NODES, type Step, type StepEnd } from '../harness/runner.js'
import { CACHE, kc, scratch } from '../kc.js'

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

/** Directory of a kernel that the tests boot. */
async function cachedKernel(): Promise<string> {
  const { kernels } = JSON.parse((await kc(['cache', '--json'])).stdout.toString()) as {
    kernels: { key: string; identity: { arch: string }; kernel: { release: string } }[]
  }
  const found = kernels.find(
    ({ identity, kernel }) => identity.arch === 'x86_64' && kernel.release.startsWith('6.12'),
  )
  return join(CACHE, 'kernels', found?.key ?? 'none')
}

/** A job on a machine that has just been made, which waits for a service for so many seconds. */
function job(node: Node, attempt: number, seconds = 60): Step {
  const home = scratch(`home-${node}`)
  for (const room of ['trees', 'venv', 'kvm']) {
    mkdirSync(join(CACHE, room), { recursive: true })
    symlinkSync(join(CACHE, room), join(home, room))
  }
  const step = makeStep(
    node,
    { path: tree, accel: 'tcg', cpus: '1', 'skip-modules': 'true', 'debug-info': 'none', run: 'uname -r' },
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
/** No stack of a JavaScript error is anybody's business. */
const isClean = (end: StepEnd) => expect(end.log).not.toMatch(/^\s+at .*\.js:\d+/m)

describe.each(nodes)('artifacts, on %s', node => {
  const faults: [string, Fault, RegExp][] = [
    [
      'that exists already',
      { on: 'CreateArtifact', does: ANSWERS.exists, times: 9 },
      /could not be uploaded: .*409/,
    ],
    [
      'beyond the quota',
      { on: 'CreateArtifact', does: ANSWERS.full, times: 9 },
      /could not be uploaded: .*quota has been hit/,
    ],
    [
      'on a service that is silent',
      { on: 'CreateArtifact', does: { kind: 'stall' }, times: 9 },
      /did not answer within 2 s/,
    ],
    ['whose upload stalls', { on: 'upload', does: { kind: 'stall' }, times: 9 }, /did not answer within 2 s/],
    ['whose upload is cut', { on: 'upload', does: { kind: 'cut' }, times: 99 }, /could not be uploaded: /],
  ]
  it.each(faults)('one %s: a warning, and the verdict stands', async (_what, fault, sentence) => {
    service.faults = [fault]
    const end = await job(node, 1, 2).main()
    expect([end.status, end.outputs.verdict], end.log).toEqual([0, 'passed'])
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
  ] as [string, Fault][])('%s is nothing to speak of', async (_what, fault) => {
    service.faults = [fault]
    const end = await job(node, 1).main()
    expect([end.status, end.outputs['artifact-id']], end.log).toEqual([0, expect.stringMatching(/^\d+$/)])
  })
})

describe.each(nodes)('caches, on %s', node => {
  /** A job that saves, so that there is something to restore. */
  async function saved(): Promise<void> {
    service.caches.splice(0)
    const step = job(node, 1)
    expect((await step.main()).outputs['kernel-cache-hit']).toBe('false')
    await step.post()
    expect(service.caches.filter(({ finalized }) => finalized).length).toBeGreaterThan(0)
  }

  it('that work: the kernel is restored', async () => {
    await saved()
    const end = await job(node, 2).main()
    expect([end.status, end.outputs['kernel-cache-hit']], end.log).toEqual([0, 'true'])
  })

  const restoring: [string, Fault][] = [
    ['is silent', { on: 'GetCacheEntryDownloadURL', does: { kind: 'stall' }, times: 99 }],
    ['fails', { on: 'GetCacheEntryDownloadURL', does: ANSWERS.unreadable, times: 99 }],
    ['cuts downloads', { on: 'download', does: { kind: 'cut' }, times: 99 }],
    ['stalls in downloads', { on: 'download', does: { kind: 'stall' }, times: 99 }],
  ]
  it.each(restoring)(
    'of a service that %s: the kernel is built, and the log says why',
    async (_what, fault) => {
      await saved()
      service.faults = [fault]
      const end = await job(node, 2, 2).main()
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
      /not saved .*did not answer within 2 s/,
    ],
    ['cuts uploads', { on: 'upload', does: { kind: 'cut' }, times: 999 }, /not saved/],
  ]
  it.each(saving)(
    'of a service that %s: nothing is saved, and the job is green',
    async (_what, fault, sentence) => {
      service.caches.splice(0)
      const step = job(node, 1, 2)
      expect((await step.main()).outputs.verdict).toBe('passed')
      service.faults = [fault]
      const end = await step.post()
      expect(end.status, end.log).toBe(0)
      expect(said(end, sentence).length, end.log).toBeGreaterThan(0)
      expect(service.caches.filter(({ finalized }) => finalized)).toEqual([])
      isClean(end)
    },
  )
})
