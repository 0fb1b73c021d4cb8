import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { type ResultsService, startResultsService } from '../harness/results.js'
import { makeStep, type Step, type StepEnd } from '../harness/runner.js'
import { CACHE, scratch } from '../kc.js'

let service: ResultsService
let home: string
let config: string
const steps: Step[] = []

beforeAll(async () => {
  service = await startResultsService()
  home = scratch('runner-home')
  // the smallest kernel there is: it compiles in a minute and does not come up
  const [tree = ''] = readdirSync(join(CACHE, 'work')).filter(name => name.startsWith('6.12-'))
  const out = scratch('tiny')
  execFileSync('make', ['-C', join(CACHE, 'work', tree, 'src'), `O=${out}`, '-s', 'allnoconfig'], {
    env: { ...process.env, LC_ALL: 'C' },
    stdio: 'ignore',
  })
  config = join(scratch('tiny-config'), 'tiny.config')
  writeFileSync(config, readFileSync(join(out, '.config')))
  rmSync(out, { recursive: true })
})
afterAll(async () => {
  rmSync(home, { recursive: true, force: true })
  await service.close()
})
afterEach(() => {
  for (const step of steps.splice(0)) step.remove()
})

/** A runner that has just been made: nothing is left of earlier jobs. */
function freshRunner(attempt: string): Step {
  rmSync(home, { recursive: true, force: true })
  mkdirSync(home)
  for (const room of ['trees', 'venv', 'kvm']) symlinkSync(join(CACHE, room), join(home, room))
  const step = makeStep(
    'node24',
    {
      ...{ release: 'distro', ref: '6.12', 'config-base': config, 'debug-info': 'none', accel: 'tcg' },
      ...{ run: 'true', 'boot-timeout': '3', vmcore: 'never' },
    },
    {
      env: {
        KERNELCRAFT_CACHE: home,
        ACTIONS_RESULTS_URL: service.url,
        ACTIONS_RUNTIME_TOKEN: service.token,
        ACTIONS_CACHE_SERVICE_V2: 'True',
        GITHUB_RUN_ATTEMPT: attempt,
      },
    },
  )
  steps.push(step)
  return step
}

const complaints = (end: StepEnd) =>
  end.commands.filter(({ command, message }) => /error|warning/.test(command) && /cache/i.test(message))

it('what one runner compiled another one does not compile again, although the run failed', async () => {
  const step = freshRunner('1')
  const cold = await step.main()
  expect(cold.outputs.verdict, cold.log).toBe('boot-failed')
  expect(cold.log).toContain('ccache: nothing to restore yet.')
  expect(Number(cold.outputs['ccache-hit-rate'])).toBeLessThan(20)
  // a token that may not write, as in a pull request from a fork, is no trouble
  service.readOnly = true
  const refused = await step.post()
  service.readOnly = false
  expect([refused.status, refused.log]).toEqual([0, expect.stringContaining('ccache: not saved.')])
  expect(complaints(refused)).toEqual([])
  expect(service.caches).toEqual([])
  const saved = await step.post()
  expect(saved.log).toMatch(/ccache: saved as kernelcraft-ccache-1-x86_64-[0-9a-f]{12}-file-42-1-/)
  expect(service.caches).toMatchObject([{ finalized: true }])

  const other = freshRunner('2')
  const warm = await other.main()
  expect(warm.log).toMatch(/ccache: restored kernelcraft-ccache-1-\S+ in /)
  expect(Number(warm.outputs['ccache-hit-rate'])).toBeGreaterThan(95)
  expect((await other.post()).log).toContain('ccache: nothing new, nothing is saved.')
  expect(service.caches).toHaveLength(1)
}, 900_000)
