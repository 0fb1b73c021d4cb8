import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Result } from '../../src/result.js'
import { linkShared } from '../cache.js'
import { type ResultsService, startResultsService } from '../harness/results.js'
import { makeStep, type NODES, type Step, type StepEnd } from '../harness/runner.js'
import { type CcacheStorage, startCcacheStorage } from '../harness/storage.js'
import { DISTRO_REPOSITORY, scratch } from '../kc.js'
import { CCACHE_STORAGE, kernelFor, kernelInputs } from '../kernels.js'

/**
 * The life of a repository's caches, on runners that keep nothing. What the first run compiles comes from ccache's remote
 * storage, which was filled when the tiny kernel of the tests was compiled.
 */

/** What a git that reads `input` prints, as it is. */
const git = (gitDir: string, args: string[], { input = '', env = {} } = {}) =>
  execFileSync('git', [`--git-dir=${gitDir}`, ...args], {
    ...{ encoding: 'utf8', input },
    env: { ...process.env, ...env },
  })

let service: ResultsService
let storage: CcacheStorage
let home: string
let tools: string
let repository: string
const steps: Step[] = []

/** A commit on top of another one, with one file changed. */
function commit(branch: string, parent: string, file: string, change: (text: string) => string): void {
  const env = { GIT_INDEX_FILE: join(repository, `index-${branch}`) }
  const run = (args: string[], input?: string) => git(repository, args, { input, env }).trim()
  const text = git(repository, ['cat-file', 'blob', `${parent}:${file}`])
  const changed = change(text)
  if (changed === text) throw new Error(`${file} is as it was`)
  const blob = run(['hash-object', '-w', '--stdin'], changed)
  run(['read-tree', parent])
  run(['update-index', '--cacheinfo', `100644,${blob},${file}`])
  const tree = run(['write-tree'])
  const who = ['-c', 'user.name=t', '-c', 'user.email=t@example.org']
  const sha = run([...who, 'commit-tree', tree, '-p', parent, '-m', `${branch}: change ${file}`])
  run(['update-ref', `refs/heads/${branch}`, sha])
}

beforeAll(async () => {
  service = await startResultsService()
  await kernelFor('tiny')
  storage = await startCcacheStorage(CCACHE_STORAGE)
  home = scratch('runner-home')
  // in memory: a checkout is eighty thousand files
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=6g', 'tmpfs', home])
  repository = join(scratch('repository'), 'linux.git')
  const source = DISTRO_REPOSITORY
  execFileSync('git', ['init', '--quiet', '--bare', repository])
  mkdirSync(join(repository, 'objects', 'info'), { recursive: true })
  writeFileSync(join(repository, 'objects', 'info', 'alternates'), `${join(source, 'objects')}\n`)
  git(repository, ['update-ref', 'refs/heads/base', git(source, ['rev-parse', '6.12']).trim()])
  commit('changed', 'base', 'fs/proc/cmdline.c', text =>
    text.replace('seq_putc(m', 'seq_puts(m, " changed");\n\tseq_putc(m'),
  )
  commit('broken', 'base', 'kernel/pid.c', text => `${text}\nint broken = ;\n`)
  // records each call with its arguments, then makes it
  tools = scratch('tools')
  for (const tool of ['make', 'ccache']) {
    const script = `#!/bin/sh\necho "${tool} $*" >> ${tools}/calls\nPATH=\${PATH#${tools}:} exec ${tool} "$@"\n`
    writeFileSync(join(tools, tool), script, { mode: 0o755 })
  }
})
afterAll(async () => {
  for (const step of steps) step.remove()
  execFileSync('umount', ['-l', home])
  rmSync(home, { recursive: true, force: true })
  await storage.close()
  await service.close()
})

/** A runner that has just been made: nothing is left of earlier jobs. */
function freshRunner(
  inputs: Record<string, string> = {},
  { attempt = '1', node = 'node24' as keyof typeof NODES } = {},
): Step {
  for (const name of readdirSync(home)) rmSync(join(home, name), { recursive: true, force: true })
  linkShared(home, ['trees', 'venv', 'kvm'])
  writeFileSync(join(tools, 'calls'), '')
  const step = makeStep(
    node,
    {
      ...{ ...kernelInputs('tiny'), release: '', path: repository, ref: 'base', accel: 'tcg', cpus: '1' },
      ...{ run: 'cat /proc/cmdline', 'ccache-remote': storage.url },
      ...inputs,
    },
    {
      env: {
        KERNELCRAFT_CACHE: home,
        ACTIONS_RESULTS_URL: service.url,
        ACTIONS_RUNTIME_TOKEN: service.token,
        ACTIONS_CACHE_SERVICE_V2: 'True',
        GITHUB_RUN_ATTEMPT: attempt,
        PATH: `${tools}${delimiter}${process.env.PATH}`,
      },
    },
  )
  steps.push(step)
  return step
}

const complaints = (end: StepEnd) =>
  end.commands.filter(({ command, message }) => /error|warning/.test(command) && /cache/i.test(message))

const kinds = () =>
  service.caches.filter(({ finalized }) => finalized).map(({ key }) => /^kernelcraft-(\w+)-/.exec(key)?.[1])

/** Objects of the kernel that were compiled, out of what make said. */
function compiled(end: StepEnd): string[] {
  const log = readFileSync(join(end.outputs['run-directory'] ?? '', 'build.log'), 'utf8')
  return [...log.matchAll(/^ {2}CC (?:\[M\])? +(\S+)$/gm)].map(([, object]) => object ?? '')
}

/** Where the time of a run went, for the reader of the tests' output. */
function printTimes(what: string, end: StepEnd): void {
  const result = JSON.parse(readFileSync(end.outputs.result ?? '', 'utf8')) as Result
  const stages = result.timings.map(({ stage, seconds }) => `${stage} ${seconds.toFixed(1)}`)
  console.info(`${what}: ${stages.join(', ')}; ${result.seconds.toFixed(1)} s`)
}

/** Calls of ccache in the build that is under way. */
function compilations(): number {
  const [work = ''] = readdirSync(join(home, 'work')).filter(name => name.startsWith('6.12-'))
  const log = join(home, 'work', work, 'ccache.log')
  return existsSync(log) ? readFileSync(log, 'utf8').split('\n').length : 0
}

describe('caches of a repository', () => {
  it('a cold run builds, and leaves kernel, index, build directory and ccache', async () => {
    const step = freshRunner()
    const cold = await step.main()
    printTimes('cold', cold)
    expect([cold.outputs.verdict, cold.outputs['kernel-cache-hit']], cold.log).toEqual(['passed', 'false'])
    expect(cold.log).toContain('kernel cache: ')
    expect(storage.requests.GET).toBeGreaterThan(500)
    const post = await step.post()
    expect([post.status, complaints(post)]).toEqual([0, []])
    expect(kinds().sort(), post.log).toEqual(['build', 'ccache', 'config', 'kernel'])
  })

  // what the other version of Node saved
  it('the same ref on Node 20: nothing is compiled', async () => {
    const step = freshRunner({}, { node: 'node20' })
    const warm = await step.main()
    printTimes('the same', warm)
    expect([warm.outputs.verdict, warm.outputs['kernel-cache-hit']], warm.log).toEqual(['passed', 'true'])
    expect(readFileSync(join(tools, 'calls'), 'utf8')).toBe('')
    expect((await step.post()).status).toBe(0)
    expect(service.caches).toHaveLength(4)
  })

  it('one changed file: make does the work of that file, and the kernel is the new one', async () => {
    const step = freshRunner({ ref: 'changed' })
    const end = await step.main()
    printTimes('one changed file', end)
    expect([end.outputs.verdict, end.outputs['kernel-cache-hit']], end.log).toEqual(['passed', 'false'])
    expect(end.log).toContain(' changed')
    expect(end.log).toMatch(
      /kernel cache: .*source: \w+ \(.*\) → \w+ \(changed: change fs\/proc\/cmdline\.c\)/,
    )
    expect(compiled(end)).toContain('fs/proc/cmdline.o')
    expect(compiled(end).length, end.log).toBeLessThan(10)
    await step.post()
    // what was continued from a build directory that is kept is not kept again
    expect(kinds().filter(kind => kind === 'build')).toHaveLength(1)
  })

  it("a changed option in a fork's pull request: a miss that is named, and nothing can be saved", async () => {
    const before = service.caches.length
    const step = freshRunner({ 'config-items': 'CONFIG_KUNIT_EXAMPLE_TEST=m\nCONFIG_AUTOFS_FS=y' })
    service.readOnly = true
    const end = await step.main()
    const post = await step.post()
    service.readOnly = false
    printTimes('one changed option', end)
    expect([end.outputs.verdict, end.outputs['kernel-cache-hit']], end.log).toEqual(['passed', 'false'])
    expect(end.log).toContain('CONFIG_AUTOFS_FS: n → y')
    // as Markdown has it
    expect(end.summary).toContain('CONFIG\\_AUTOFS\\_FS: n → y')
    expect(compiled(end)).toContain('fs/autofs/init.o')
    expect(compiled(end).length).toBeLessThan(100)
    expect([post.status, complaints(post)]).toEqual([0, []])
    expect(service.caches).toHaveLength(before)
  })

  it('a kernel that was damaged in the cache is built again', async () => {
    const step = freshRunner({ ref: 'changed' })
    expect((await step.main()).outputs['kernel-cache-hit']).toBe('true')
    // nothing to restore it from
    service.caches.length = 0
    const [key = ''] = readdirSync(join(home, 'kernels')).filter(name => name.length === 64)
    writeFileSync(join(home, 'kernels', key, 'vmlinux'), 'x', { flag: 'a' })
    const again = await step.main()
    expect(again.log).toMatch(/The cached kernel \w{12} is damaged \(vmlinux /)
    expect([again.outputs.verdict, again.outputs['kernel-cache-hit']]).toEqual(['passed', 'false'])
  })

  it('a build that fails: its ccache is saved', async () => {
    service.caches.length = 0
    const step = freshRunner({ ref: 'broken' })
    const end = await step.main()
    expect(end.outputs.verdict, end.log).toBe('build-failed')
    const post = await step.post()
    expect(kinds(), post.log).toEqual(['ccache'])
  })

  it('a build that is cancelled: the verdict, what there is of results, and its ccache', async () => {
    service.caches.length = 0
    const step = freshRunner({}, { attempt: '2' })
    const end = await step.main((line, kill) => {
      if (!line.startsWith('::group::Build')) return
      const watch = setInterval(() => {
        if (compilations() < 200) return
        clearInterval(watch)
        kill('SIGINT')
      }, 50)
    })
    expect(end.outputs.verdict, end.log).toBe('cancelled')
    const post = await step.post()
    expect(kinds(), post.log).toEqual(['ccache'])
    expect(service.artifacts.at(-1)?.finalized).toBe(true)
  })
})
