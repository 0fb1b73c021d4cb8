import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { ANSWERS, type ResultsService, startResultsService } from '../harness/results.js'
import { makeStep, NODES, type Step } from '../harness/runner.js'
import { emptyCache, scratch } from '../kc.js'
import { type KernelName, kernelFor, kernelInputs } from '../kernels.js'
import { git, tinyKernel } from '../repository.js'

let service: ResultsService
const steps: Step[] = []
beforeAll(async () => {
  service = await startResultsService()
})
afterAll(() => service.close())
afterEach(() => {
  for (const step of steps.splice(0)) step.remove()
})

type Inputs = Record<string, string>

function step(node: keyof typeof NODES, inputs: Inputs, env: NodeJS.ProcessEnv = {}): Step {
  const made = makeStep(node, inputs, {
    env: { ACTIONS_RESULTS_URL: service.url, ACTIONS_RUNTIME_TOKEN: service.token, ...env },
  })
  steps.push(made)
  return made
}

/** A step that boots a kernel of the tests. */
async function bootStep(
  inputs: Inputs,
  { node = 'node24' as keyof typeof NODES, kernel = 'tiny' as KernelName } = {},
): Promise<Step> {
  const cache = await kernelFor(kernel)
  return step(
    node,
    { ...kernelInputs(kernel), 'skip-build': 'true', accel: 'tcg', ...inputs },
    { KERNELCRAFT_CACHE: cache },
  )
}

/** Names of the files in an uploaded zip. */
function namesIn(zip: Buffer, at: string): string[] {
  const path = join(at, 'artifact.zip')
  writeFileSync(path, zip)
  const listed = execFileSync('python3', ['-m', 'zipfile', '-l', path], { encoding: 'utf8' })
  return listed
    .split('\n')
    .slice(1)
    .map(line => line.split(' ')[0] ?? '')
    .filter(Boolean)
}

it.each(Object.keys(NODES) as (keyof typeof NODES)[])(
  'a passing run on %s: outputs, summary, artifact, groups',
  async node => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's
    const one = await bootStep({ run: 'uname -r\necho "token: ${GITHUB_TOKEN-none}"\n' }, { node })
    const end = await one.main()
    expect(end.log).toContain('token: none')
    expect(end.status).toBe(0)
    expect(end.outputs).toMatchObject({ verdict: 'passed', 'exit-code': '0' })
    expect(end.outputs['kernel-release']).toMatch(/^6\.12\.\d+-rc$/)
    expect(end.outputs.sha).toMatch(/^[0-9a-f]{40}$/)
    expect(readFileSync(end.outputs['console-log'] ?? '', 'utf8')).toContain('Linux version')
    expect(JSON.parse(readFileSync(end.outputs.result ?? '', 'utf8')).verdict).toBe('passed')
    expect(end.summary).toContain('KernelCraft: passed')
    expect(end.summary).toMatch(/kc -r distro -c [0-9a-f]{40} -e/)
    expect(end.commands.filter(({ command }) => command === 'group').length).toBeGreaterThanOrEqual(3)
    const artifact = service.artifacts.find(({ name }) => end.log.includes(name))
    expect(artifact?.finalized).toBe(true)
    expect(namesIn(artifact?.content ?? Buffer.alloc(0), one.runnerTemp)).toEqual(
      expect.arrayContaining(['result.json', 'console.log', 'summary.md', 'stdout.log']),
    )
    expect(end.outputs['artifact-url']).toMatch(
      /^https:\/\/github\.com\/owner\/linux\/actions\/runs\/42\/artifacts\/\d+$/,
    )
    // nothing is left for post to upload
    const count = service.artifacts.length
    expect((await one.post()).status).toBe(0)
    expect(service.artifacts.length).toBe(count)
  },
)

describe('a step', () => {
  it('what a step before has patched is built, and a tree by name changes nothing of the checkout', async () => {
    const place = scratch('patched')
    try {
      const [origin, checkout] = [join(place, 'origin'), join(place, 'checkout')]
      const shas = tinyKernel(origin)
      git(place, 'clone', '-q', origin, checkout)
      writeFileSync(join(checkout, 'marker'), 'marker of a patch\n')
      const env = { HOME: place, KERNELCRAFT_CACHE: emptyCache() }
      const end = await step('node24', { path: checkout, run: 'true' }, env).main()
      const result = JSON.parse(readFileSync(end.outputs.result ?? '', 'utf8'))
      expect(end.outputs).toMatchObject({ verdict: 'config-failed', sha: shas[3] })
      expect(result.source.dirty).toBe(true)
      expect(result.error.details).toContain('marker of a patch')
      expect(end.summary).toContain(`${shas[3]?.slice(0, 12)}+dirty`)

      writeFileSync(join(checkout, '.kernelcraft.json'), '{"defaults": {"cpus": 0}}')
      const refused = await step('node24', { path: checkout, run: 'true' }, env).main()
      expect(refused.commands).toContainEqual(
        expect.objectContaining({
          command: 'error',
          message: expect.stringMatching(/\.json:1: cpus is "0"/),
        }),
      )
      rmSync(join(checkout, '.kernelcraft.json'))
      const before = readdirSync(join(checkout, '.git'))
      await step('node24', { path: checkout, release: 'mainlien', run: 'true' }, env).main()
      await step(
        'node24',
        { path: checkout, release: `file://${origin}`, ref: 'v6.12.1', run: 'true' },
        env,
      ).main()
      expect(readdirSync(join(checkout, '.git'))).toEqual(before)
      expect(git(checkout, 'remote')).toBe('origin')
      expect(existsSync(join(place, '.kernelcraft.conf'))).toBe(false)
    } finally {
      rmSync(place, { recursive: true, force: true })
    }
  })

  it('a failing test fails the step and uploads all the same', async () => {
    const end = await (await bootStep({ run: 'echo about to fail\nfalse\necho not reached' })).main()
    expect(end.status).toBe(1)
    expect(end.outputs).toMatchObject({ verdict: 'test-failed', 'exit-code': '1' })
    expect(end.log).not.toContain('not reached')
    expect(end.commands).toContainEqual(
      expect.objectContaining({
        command: 'error',
        message: expect.stringMatching(/^KernelCraft: test-failed: .*status 1\.$/),
      }),
    )
    expect(end.outputs['artifact-id']).toMatch(/^\d+$/)
  })

  it('a splat: annotation, title and fingerprint, decoded stack, and with a vmcore what opens it', async () => {
    const provoke = 'echo BUG > /sys/kernel/debug/provoke-crash/DIRECT &\nsleep 2'
    const one = await bootStep(
      { vmcore: 'always', run: provoke, 'retention-days': '9', 'vmcore-retention-days': '2' },
      { kernel: 'minimal' },
    )
    const end = await one.main()
    expect(end.status).toBe(1)
    expect(end.outputs).toMatchObject({ verdict: 'splat', title: 'kernel BUG in lkdtm_BUG' })
    expect(end.outputs.fingerprint).toMatch(/^[0-9a-f]{16}$/)
    expect(end.outputs.vmcore).toMatch(/\/vmcore$/)
    expect(end.commands).toContainEqual(
      expect.objectContaining({
        command: 'error',
        // the tree is not the repository's, so the annotation names the place, and no file of the repository
        message: expect.stringMatching(/^drivers\/misc\/lkdtm\/bugs\.c:\d+: kernel BUG in lkdtm_BUG$/),
      }),
    )
    for (const part of [
      '### kernel BUG in lkdtm\\_BUG',
      'drivers/misc/lkdtm/bugs.c:',
      'BUG();',
      // as it is typed where the artifact was unpacked
      '\ndrgn -c vmcore -s vmlinux\n',
      end.outputs.fingerprint ?? '-',
    ])
      expect(end.summary).toContain(part)
    const artifact = service.artifacts.find(({ name }) => end.log.includes(name))
    const names = namesIn(artifact?.content ?? Buffer.alloc(0), one.runnerTemp)
    expect(names).toEqual(expect.arrayContaining(['crash.txt', 'result.json']))
    expect(names).not.toContain('vmcore')
    const dump = service.artifacts.find(({ name }) => name === `${artifact?.name}-vmcore`)
    expect(dump?.finalized).toBe(true)
    expect(namesIn(dump?.content ?? Buffer.alloc(0), one.runnerTemp)).toEqual(['vmcore', 'vmlinux'])
    // stored, not compressed again
    expect(dump?.content.length).toBeGreaterThan(statSync(end.outputs.vmcore ?? '').size)
    expect(dump?.retentionDays).toBe(2)
    for (const kind of ['artifact', 'vmcore-artifact']) {
      expect(end.outputs[`${kind}-digest`]).toMatch(/^(?:sha256:)?[0-9a-f]{64}$/)
      expect(end.summary).toContain(`](${end.outputs[`${kind}-url`]})`)
    }
  })

  it('what the guest prints is never a workflow command', async () => {
    const evil = `echo "::set-output name=verdict::forged"; echo "::error::forged"; printf '::warning::no newline'
echo "::stop-commands::x" >&2; printf 'progress\\r::error::carriage\\r'; echo; echo "text ##[error]older form"; echo "::add-mask::6.12"; printf '::endgroup::'`
    const end = await (await bootStep({ run: evil })).main()
    expect(end.outputs.verdict).toBe('passed')
    expect(end.log).toContain('::error::forged')
    // groups are ours; debug lines and the mask of its signature are the artifact client's
    const acted = end.commands.filter(
      ({ command, message }) =>
        !['group', 'endgroup', 'debug'].includes(command) && message !== service.signature,
    )
    expect(acted).toEqual([])
  })
})

it('a cancelled step stops the guest in time, and post uploads what there is', async () => {
  const one = await bootStep({ run: 'echo "up and running"; sleep 1000' })
  let cancelled = 0
  const end = await one.main((line, kill) => {
    if (!line.includes('up and running') || cancelled > 0) return
    cancelled = Date.now()
    kill('SIGINT')
  })
  expect(end.outputs.verdict).toBe('cancelled')
  expect(end.status).toBe(1)
  expect(service.artifacts.some(({ name }) => end.log.includes(name))).toBe(false)
  const post = await one.post()
  expect(post.log).toContain('uploaded')
  expect(service.artifacts.at(-1)?.finalized).toBe(true)
})

it('a step that was killed is cleaned up by post, and its console is kept', async () => {
  const one = await bootStep({ run: 'echo "up and running"; sleep 1000' })
  await one.main((line, kill) => {
    if (line.includes('up and running')) kill('SIGKILL')
  })
  const post = await one.post()
  expect(post.status).toBe(0)
  expect(service.artifacts.at(-1)?.finalized).toBe(true)
  expect(namesIn(service.artifacts.at(-1)?.content ?? Buffer.alloc(0), one.runnerTemp)).toContain(
    'console.log',
  )
})

it('an artifact service that fails does not change the verdict', async () => {
  service.faults = [{ on: 'any', does: ANSWERS.unreadable, times: 1000 }]
  const end = await (await bootStep({ run: 'true' })).main()
  service.faults = []
  expect(end.status).toBe(0)
  expect(end.outputs.verdict).toBe('passed')
  expect(end.commands).toContainEqual(expect.objectContaining({ command: 'warning' }))
})

it.each([
  [{ run: '' }, /^run is empty/],
  [{ run: 'true', memory: '12x' }, /^memory is "12x"/],
  [{ run: 'true', 'retention-days': '0' }, /^retention-days/],
])('bad input %#: one sentence, no work', async (inputs, sentence) => {
  const one = step('node20', inputs)
  const end = await one.main()
  expect(end.status).toBe(2)
  const errors = end.commands.filter(({ command }) => command === 'error')
  expect(errors).toHaveLength(1)
  expect(errors[0]?.message).toMatch(sentence)
  expect(existsSync(end.outputs['run-directory'] ?? '/nonexistent')).toBe(false)
  // post has nothing to do, and does not say it all again
  expect(await one.post()).toMatchObject({ status: 0, log: '' })
})

it('an unknown input is reported with the nearest name', async () => {
  const end = await step('node20', { release: 'nowhere', run: 'true', 'boot-timeot': '5m' }).main()
  expect(end.outputs.verdict).toBe('source-failed')
  expect(end.commands).toContainEqual(
    expect.objectContaining({
      command: 'warning',
      message: expect.stringMatching(/"boot-timeot".*boot-timeout/),
    }),
  )
})
