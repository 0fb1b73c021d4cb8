import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { type ValidationConfig, validate } from '@actions/languageservice'
import { load } from 'js-yaml'
import { describe, expect, it } from 'vitest'
import { TextDocument } from 'vscode-languageserver-textdocument'
import { toolsFor } from '../../src/host/tools.js'
import { isBundled } from '../../src/request/bundled-fragments.js'
import { OPTIONS, OUTPUTS } from '../../src/request/options.js'
import { KNOWN_TREES } from '../../src/request/trees.js'
import { ROOT } from '../kc.js'
import { type Input, type Step, workflow, workflows } from '../workflows.js'

const files = workflows()
const action = load(readFileSync(join(ROOT, 'action.yml'), 'utf8')) as { inputs: Record<string, Input> }
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')

const steps = files.flatMap(({ path, content }) =>
  Object.entries(content.jobs).flatMap(([job, { steps = [] }]) =>
    steps.map((step, index): [string, Step] => [`${path} ${job} ${step.id ?? index}`, step]),
  ),
)
const calls = files.flatMap(({ path, content }) =>
  Object.entries(content.jobs).flatMap(([name, job]) =>
    job.uses ? [{ place: `${path} ${name}`, ...job, uses: job.uses }] : [],
  ),
)

/** Called workflows as GitHub resolves them, with those of this repository for v1. */
const services: ValidationConfig = {
  fileProvider: {
    async getFileContent(reference) {
      return { name: reference.path, content: read(reference.path) }
    },
  },
}
let documents = 0

/** The errors that GitHub's language service reports for a workflow. */
async function complaints(path: string, text: string): Promise<string[]> {
  // it remembers documents by name
  const document = TextDocument.create(`file:///${documents++}/${path}`, 'yaml', 1, text)
  const found = await validate(document, services)
  return found.map(({ message, range }) => `${path}:${range.start.line + 1}: ${message}`)
}

describe('all workflows', () => {
  it('are found', () => {
    expect(files.map(file => file.path)).toEqual(
      expect.arrayContaining([
        '.github/workflows/ci.yml',
        '.github/workflows/issue.yml',
        '.github/workflows/linux-next.yml',
        '.github/workflows/release.yml',
        '.github/workflows/smoke.yml',
        'examples/github-hosted.yml',
        'examples/kernel-module.yml',
        'examples/linux-next.yml',
        'examples/pull-request.yml',
      ]),
    )
  })

  it.each(files)("$path is valid to GitHub's language service", async ({ path, text }) => {
    expect(await complaints(path, text)).toEqual([])
  })

  it.each([
    ['an unknown key', 'timeout-minutes:', 'timeout-minutess:', /Unexpected value 'timeout-minutess'/],
    ['an unknown context', 'github.run_id', 'githu.run_id', /Unrecognized named-value: 'githu'/],
    ['an unknown event', 'pull_request:', 'pull_requests:', /Unexpected value 'pull_requests'/],
  ])('the language service sees %s', async (_, right, wrong, message) => {
    const text = read('.github/workflows/ci.yml')
    expect(text).toContain(right)
    expect((await complaints('ci.yml', text.replaceAll(right, wrong))).join('\n')).toMatch(message)
  })

  it.each(files)('$path grants nothing at its top', ({ content }) => {
    expect(content.permissions).toEqual({})
  })

  it.each(files)('$path has a time limit for every job of its own', ({ content }) => {
    for (const job of Object.values(content.jobs)) {
      if (!job.uses) expect(job['timeout-minutes']).toBeDefined()
    }
  })

  it.each(steps)('%s has no expression in its script', (_, step) => {
    expect(step.run ?? '').not.toContain('${{')
  })

  it.each(steps)('%s pins actions of other repositories to a commit', (place, step) => {
    // what is tested is the checkout; in a reusable workflow it would be the caller's
    const tested = place.startsWith('.github/workflows/ci.yml ') && /^\.\/(setup)?$/.test(step.uses ?? '')
    if (step.uses && !tested)
      expect(step.uses).toMatch(/^kernelcraft\/action(\/setup)?@v1$|^[\w.-]+\/[\w./-]+@[0-9a-f]{40}$/)
  })

  it.each(steps)('%s leaves no credentials behind', (_, step) => {
    if (step.uses?.startsWith('actions/checkout@')) expect(step.with?.['persist-credentials']).toBe(false)
  })

  it('pins name their version in a comment', () => {
    for (const { path, text } of files)
      for (const line of text.match(/.*@[0-9a-f]{40}.*/g) ?? [])
        expect(`${path}: ${line}`).toMatch(/ # v\d+\.\d+\.\d+$/)
  })
})

describe('uses of the action', () => {
  const isAction = (uses?: string) => uses === 'kernelcraft/action@v1' || uses === './'
  const uses = steps.filter(([, step]) => isAction(step.uses))

  it('exist', () => expect(uses.length).toBeGreaterThanOrEqual(7))

  it.each(uses)('%s names inputs that exist, and all that are required', (_, step) => {
    const given = Object.keys(step.with ?? {})
    const known = Object.keys(action.inputs)
    expect(given.filter(name => !known.includes(name))).toEqual([])
    const required = Object.entries(action.inputs).flatMap(([name, input]) => (input.required ? [name] : []))
    expect(required.filter(name => !given.includes(name))).toEqual([])
  })

  it.each(files)('$path reads outputs that the action has', ({ text, content }) => {
    const ids = Object.values(content.jobs)
      .flatMap(job => job.steps ?? [])
      .flatMap(({ id, uses }) => (id && isAction(uses) ? [id] : []))
    for (const [, id = '', output = ''] of text.matchAll(/steps\.([\w-]+)\.outputs\.([\w-]+)/g))
      if (ids.includes(id)) expect(Object.keys(OUTPUTS)).toContain(output)
  })

  it.each(uses)('%s names fragments that exist', (_, step) => {
    for (const name of step.with?.config?.split('\n').filter(Boolean) ?? [])
      if (!name.includes('${{')) expect([name, isBundled(name)]).toEqual([name, true])
  })

  it("setup is an action beside action.yml, and finds kc's bundle", () => {
    const setup = load(read('setup/action.yml')) as { runs: { using: string; steps: Step[] } }
    expect(setup.runs.using).toBe('composite')
    const script = setup.runs.steps[0]?.run ?? ''
    const bundle = /"\$GITHUB_ACTION_PATH\/(.*?)"/.exec(script)?.[1] ?? 'none'
    expect(existsSync(join(ROOT, 'setup', bundle))).toBe(true)
    expect(script).not.toContain('${{')
  })
})

describe('calls of reusable workflows', () => {
  it.each(calls)('$place passes inputs that the workflow has', ({ uses, with: given = {} }) => {
    const name = /^(?:kernelcraft\/action|\.)\/(\.github\/workflows\/[a-z-]+\.yml)(?:@v1)?$/.exec(uses)?.[1]
    const inputs = workflow(name ?? uses).on.workflow_call?.inputs ?? {}
    expect(Object.keys(given).filter(key => !(key in inputs))).toEqual([])
    expect(Object.keys(inputs).filter(key => inputs[key]?.required && !(key in given))).toEqual([])
    for (const key of ['configs', 'tests', 'runs-on']) {
      const value = given[key] ?? inputs[key]?.default
      if (typeof value !== 'string' || value.includes('${{')) continue
      const list = JSON.parse(value)
      if (key === 'runs-on') continue
      for (const entry of list) {
        expect(entry.name).toMatch(/^[\w.-]+$/)
        const known = OPTIONS.map(option => option.name)
        expect(Object.keys(entry).filter(item => item !== 'name' && !known.includes(item))).toEqual([])
      }
    }
  })

  it.each(calls)('$place reads outputs that the called workflow has', ({ place, with: given = {} }) => {
    const [path = ''] = place.split(' ')
    const siblings = workflow(path).jobs
    for (const value of Object.values(given)) {
      for (const [, job = '', output = ''] of value.matchAll(/needs\.([\w-]+)\.outputs\.([\w-]+)/g)) {
        const called = siblings[job]?.uses?.replace(/^kernelcraft\/action\/(.*)@v1$/, '$1') ?? ''
        expect(Object.keys(workflow(called).on.workflow_call?.outputs ?? {})).toContain(output)
      }
    }
  })

  it.each(files)('$path describes each of its inputs and outputs', ({ content }) => {
    const { inputs = {}, outputs = {} } = content.on.workflow_call ?? {}
    for (const input of Object.values(inputs)) {
      expect(input.description).toMatch(/\.$/)
      expect(['string', 'boolean', 'number']).toContain(input.type)
      expect(input.required === true || input.default !== undefined).toBe(true)
    }
    for (const output of Object.values(outputs)) expect(output.description).toMatch(/\.$/)
  })

  it('no job needs a permission that its caller would have to grant to all', () => {
    for (const { path, content } of files) {
      if (!content.on.workflow_call || path.endsWith('/issue.yml')) continue
      for (const job of Object.values(content.jobs))
        expect([undefined, { contents: 'read' }]).toContainEqual(job.permissions)
    }
  })

  // `configs` and `tests` are what the descriptions promise: each key is passed on
  it.each([
    ['smoke.yml', 'build', 'config', 'configs'],
    ['smoke.yml', 'test', 'config', 'configs'],
    ['smoke.yml', 'test', 'test', 'tests'],
    ['linux-next.yml', 'check', 'config', 'configs'],
  ])('%s: %s passes on what a %s may have', (name, job, vector, input) => {
    const { on, jobs } = workflow(`.github/workflows/${name}`)
    const kernel = jobs[job]?.steps?.find(step => step.id === 'kernel')
    const promised = [...(on.workflow_call?.inputs?.[input]?.description ?? '').matchAll(/`([a-z-]+)`/g)]
    expect(promised.length).toBeGreaterThan(4)
    for (const [, key = ''] of promised) {
      const values = Object.entries(kernel?.with ?? {}).filter(([, value]) =>
        new RegExp(`\\bmatrix\\.${vector}\\.${key}(?![\\w-])`).test(String(value)),
      )
      expect([key, values.map(([option]) => (key === 'name' ? 'name' : option))]).toEqual([key, [key]])
    }
  })
})

describe('ci.yml', () => {
  const { jobs } = workflow('.github/workflows/ci.yml')
  /** A script of the job that runs the action, as bash runs it; its status. */
  function check(name: string, env: Record<string, string>): number | null {
    const step = jobs.action?.steps?.find(candidate => candidate.name === name)
    const args = ['--noprofile', '--norc', '-eo', 'pipefail', '-c', step?.run ?? 'exit 99']
    return spawnSync('bash', args, { env: { PATH: process.env.PATH, ...env } }).status
  }

  it('a release waits for all of its jobs, the nightly ones too', () => {
    const release = workflow('.github/workflows/release.yml').jobs
    expect(release.tests?.uses).toBe('./.github/workflows/ci.yml')
    expect((release.publish as { needs?: string[] }).needs).toContain('tests')
    expect(workflow('.github/workflows/ci.yml').on.workflow_call?.inputs?.nightly?.default).toBe(true)
  })

  it('checks the outputs of a run that passed', () => {
    const directory = mkdtempSync(join(tmpdir(), 'kernelcraft-outputs-'))
    const files = {
      'stdout.log': '6.12.1-rc\n',
      'console.log': '[    0.0] Linux version 6.12.1-rc (a@b) (gcc)\n',
      'result.json': JSON.stringify({ schema: 1, verdict: 'passed' }, null, 2),
    }
    for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text)
    const env = {
      VERDICT: 'passed',
      EXIT_CODE: '0',
      SHA: '0123456789abcdef0123456789abcdef01234567',
      KERNEL_RELEASE: '6.12.1-rc',
      RUN_DIRECTORY: directory,
      CONSOLE_LOG: join(directory, 'console.log'),
      RESULT: join(directory, 'result.json'),
      ARTIFACT_ID: '7',
    }
    expect(check('Its outputs', env)).toBe(0)
    for (const [name, value] of [
      ['VERDICT', 'splat'],
      ['EXIT_CODE', '1'],
      ['SHA', ''],
      ['KERNEL_RELEASE', '6.12.1'],
      ['CONSOLE_LOG', ''],
      ['RESULT', ''],
      ['ARTIFACT_ID', ''],
    ] as const)
      expect([name, check('Its outputs', { ...env, [name]: value })]).not.toEqual([name, 0])
  })

  it('checks that a panic fails the step', () => {
    const env = {
      OUTCOME: 'failure',
      VERDICT: 'panic',
      TITLE: 'kernel panic: sysrq triggered crash',
      EXIT_CODE: '',
      FINGERPRINT: '718161c3da9fd56f',
      KERNEL_CACHE_HIT: 'true',
    }
    expect(check('Its outcome and outputs', env)).toBe(0)
    for (const name of Object.keys(env))
      expect([
        name,
        check('Its outcome and outputs', { ...env, [name]: 'x'.slice(name === 'FINGERPRINT' ? 1 : 0) }),
      ]).toEqual([name, 1])
  })
})

describe('linux-next.yml', () => {
  const { on, jobs } = workflow('.github/workflows/linux-next.yml')

  it('takes the same by hand and from a caller', () => {
    expect(on.workflow_dispatch?.inputs).toEqual(on.workflow_call?.inputs)
  })

  it('queries the tree of `release: next`', () => {
    const resolve = jobs.resolve?.steps?.[0] as Step & { env: Record<string, string> }
    expect(resolve.env.TREE).toBe(KNOWN_TREES.next?.repo)
    expect(resolve.run).toContain(`refs/heads/${KNOWN_TREES.next?.branch}`)
  })

  it('finds the commit and its tag', () => {
    const repo = mkdtempSync(join(tmpdir(), 'kernelcraft-next-'))
    const git = (...args: string[]) =>
      execFileSync('git', ['-c', 'user.name=n', '-c', 'user.email=e@example.org', '-C', repo, ...args], {
        encoding: 'utf8',
      }).trim()
    git('init', '-q', '-b', 'master')
    git('commit', '-q', '--allow-empty', '-m', 'one')
    git('tag', '-m', 'old', 'next-20270101')
    git('commit', '-q', '--allow-empty', '-m', 'two')
    git('tag', '-m', 'new', 'next-20270104')
    const sha = git('rev-parse', 'HEAD')
    const run = (REF: string) =>
      runStep('.github/workflows/linux-next.yml', 'resolve', 'tree', { TREE: repo, REF })
    expect(run('').outputs).toEqual({ ref: sha, version: 'next-20270104' })
    expect(run('v6.12').outputs).toEqual({ ref: 'v6.12', version: 'v6.12' })
    git('commit', '-q', '--allow-empty', '-m', 'three')
    const later = git('rev-parse', 'HEAD')
    expect(run('').outputs).toEqual({ ref: later, version: later })
    git('branch', '-m', 'other')
    expect(run('').status).not.toBe(0)
  })
})

/** Runs a step's script as the runner would. Returns its status and what it wrote into GITHUB_OUTPUT. */
function runStep(path: string, job: string, id: string, env: Record<string, string>) {
  const step = workflow(path).jobs[job]?.steps?.find(candidate => candidate.id === id)
  const directory = mkdtempSync(join(tmpdir(), 'kernelcraft-step-'))
  const output = join(directory, 'output')
  writeFileSync(output, '')
  expect(step?.shell).toBe('bash')
  const end = spawnSync('bash', ['--noprofile', '--norc', '-eo', 'pipefail', '-c', step?.run ?? 'exit 99'], {
    env: { PATH: process.env.PATH, GITHUB_OUTPUT: output, ...env },
    encoding: 'utf8',
  })
  const outputs = Object.fromEntries(
    readFileSync(output, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )
  return { status: end.status, outputs, text: end.stdout + end.stderr }
}

describe('all-tests-passed', () => {
  it.each(['ci.yml', 'smoke.yml', 'linux-next.yml'])('of %s runs always and needs every other job', name => {
    const { jobs } = workflow(`.github/workflows/${name}`)
    const gate = jobs['all-tests-passed'] as { if: string; needs: string[] }
    expect(gate.if).toBe('always()')
    expect(gate.needs).toEqual(Object.keys(jobs).filter(job => job !== 'all-tests-passed'))
  })

  it.each([
    // builds, tests, are there tests, verdict of one that failed; status and verdict
    ['success', 'success', 'true', '', 0, 'passed'],
    ['success', 'skipped', 'false', '', 0, 'passed'],
    ['success', 'skipped', 'true', '', 1, 'unknown'],
    ['success', 'failure', 'true', 'panic', 1, 'panic'],
    ['success', 'failure', 'true', '', 1, 'unknown'],
    ['success', 'cancelled', 'true', '', 1, 'cancelled'],
    ['success', 'cancelled', 'true', 'splat', 1, 'splat'],
    ['failure', 'skipped', 'true', 'boot-failed', 1, 'boot-failed'],
    ['failure', 'skipped', 'false', 'build-failed', 1, 'build-failed'],
    ['cancelled', 'skipped', 'true', '', 1, 'cancelled'],
    ['cancelled', 'skipped', 'false', '', 1, 'cancelled'],
    ['skipped', 'skipped', 'false', '', 1, 'unknown'],
    ['', '', '', '', 1, 'unknown'],
  ])('smoke: builds %s, tests %s (%s)', (BUILD, TEST, HAS_TESTS, VERDICT, status, verdict) => {
    const env = { BUILD, TEST, HAS_TESTS, VERDICT }
    const end = runStep('.github/workflows/smoke.yml', 'all-tests-passed', 'count', env)
    expect([end.status, end.outputs]).toEqual([status, { verdict }])
  })

  it.each([
    ['success', 'success', 'success', 0],
    // a pull request
    ['success', 'skipped', 'success', 0],
    ['success', 'failure', 'success', 1],
    ['success', 'cancelled', 'success', 1],
    ['failure', 'skipped', 'success', 1],
    ['cancelled', 'skipped', 'success', 1],
    ['skipped', 'skipped', 'success', 1],
    ['success', 'skipped', 'failure', 1],
    ['success', 'skipped', 'skipped', 1],
    ['', '', '', 1],
  ])('ci: test %s, nightly %s, action %s', (TEST, NIGHTLY, ACTION, status) => {
    const env = { TEST, NIGHTLY, ACTION }
    const end = runStep('.github/workflows/ci.yml', 'all-tests-passed', 'count', env)
    expect(end).toMatchObject({ status, text: `test: ${TEST}, nightly: ${NIGHTLY}, action: ${ACTION}\n` })
  })

  it.each([
    ['success', 'success', '', 0, 'passed'],
    ['success', 'failure', 'hang', 1, 'hang'],
    ['success', 'cancelled', '', 1, 'cancelled'],
    ['failure', 'skipped', '', 1, 'unknown'],
    ['success', 'skipped', '', 1, 'unknown'],
  ])('linux-next: resolve %s, checks %s', (RESOLVE, CHECK, VERDICT, status, verdict) => {
    const env = { RESOLVE, CHECK, VERDICT }
    const end = runStep('.github/workflows/linux-next.yml', 'all-tests-passed', 'count', env)
    expect([end.status, end.outputs]).toEqual([status, { verdict }])
  })
})

describe('issue.yml', () => {
  /** A gh that logs its arguments and has the given issues. */
  function report(env: Record<string, string>, open: { number: number; title: string }[]) {
    const bin = mkdtempSync(join(tmpdir(), 'kernelcraft-gh-'))
    const log = join(bin, 'log')
    writeFileSync(log, '')
    writeFileSync(
      join(bin, 'gh'),
      `#!${process.execPath}
const fs = require('node:fs')
const args = process.argv.slice(2)
if (args[1] === 'list') {
  const [, name] = /select\\(\\.title == env\\.(\\w+)\\)/.exec(args[args.indexOf('--jq') + 1])
  const found = ${JSON.stringify(open)}.find(issue => issue.title === process.env[name])
  console.log(found ? found.number : '')
} else {
  fs.appendFileSync(${JSON.stringify(log)}, JSON.stringify(args) + '\\n')
  console.log('https://example.org/issue')
}
`,
    )
    chmodSync(join(bin, 'gh'), 0o755)
    const end = runStep('.github/workflows/issue.yml', 'issue', 'report', {
      SUBJECT: 'linux-next',
      VERDICT: 'splat',
      FINDING: '',
      FINGERPRINT: '',
      VERSION: '',
      ARTIFACT_URL: '',
      RUN_URL: 'https://example.org/run',
      ...env,
      PATH: `${bin}${delimiter}${process.env.PATH}`,
    })
    expect(end).toMatchObject({ status: 0, outputs: { url: 'https://example.org/issue' } })
    return JSON.parse(readFileSync(log, 'utf8')) as string[]
  }
  const FINDING = 'WARNING in foo_probe'

  it('opens an issue', () => {
    const env = {
      FINDING,
      FINGERPRINT: 'abc123',
      VERSION: 'next-20270104',
      ARTIFACT_URL: 'https://example.org/a',
    }
    expect(report(env, [{ number: 3, title: 'linux-next: WARNING in foo' }])).toEqual([
      'issue',
      'create',
      '--title',
      'linux-next: WARNING in foo_probe',
      '--body',
      [
        '`splat` at `next-20270104`: `WARNING in foo_probe`',
        '',
        '- https://example.org/run',
        '- console log and result: https://example.org/a',
        '- fingerprint `abc123`',
      ].join('\n'),
    ])
  })

  it('comments on the open issue of the same title', () => {
    const args = report({ FINDING }, [{ number: 7, title: 'linux-next: WARNING in foo_probe' }])
    expect(args.slice(0, 4)).toEqual(['issue', 'comment', '7', '--body'])
  })

  it('takes a title without a finding, and makes one line of any', () => {
    expect(report({ VERDICT: 'unknown' }, [])[3]).toBe('linux-next: unknown')
    const args = report({ FINDING: 'a `@team`\n## $(touch /tmp/x) "b"' }, [])
    expect(args[3]).toBe('linux-next: a @team ## $(touch /tmp/x) "b"')
    expect(args[5]?.split('\n')[0]).toBe('`splat`: `a @team ## $(touch /tmp/x) "b"`')
    expect(report({ FINDING: 'x'.repeat(500) }, [])[3]).toHaveLength(200)
  })
})

describe('scripts/release.mjs', () => {
  function check(tag: string, version: string, changelog?: string) {
    const root = mkdtempSync(join(tmpdir(), 'kernelcraft-release-'))
    writeFileSync(join(root, 'package.json'), JSON.stringify({ version }))
    writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ version }))
    if (changelog !== undefined) writeFileSync(join(root, 'CHANGELOG.md'), changelog)
    const end = spawnSync(process.execPath, [join(ROOT, 'scripts', 'release.mjs'), tag, root], {
      encoding: 'utf8',
    })
    return [end.status, end.stdout + end.stderr]
  }
  const changelog =
    '# Changes\n\n## Unreleased\n\n## 1.2.3 - 2027-01-04\n\n- one\n- two\n\n## [1.2.2]\n\n- old\n'

  it('prints the notes of a release on which everything agrees', () => {
    expect(check('v1.2.3', '1.2.3', changelog)).toEqual([0, '- one\n- two\n'])
    expect(check('v1.2.2', '1.2.2', changelog)).toEqual([0, '- old\n'])
  })

  it.each([
    ['a tag of another form', 'v1.2', '1.2.3', changelog, 'no tag of a release'],
    ['a tag of a candidate', 'v1.2.3-rc1', '1.2.3', changelog, 'no tag of a release'],
    ['another version', 'v1.2.3', '1.2.4', changelog, 'package.json says 1.2.4, the tag 1.2.3.'],
    ['no section', 'v1.2.1', '1.2.1', changelog, 'CHANGELOG.md has no section "## 1.2.1"'],
    [
      'a section without text',
      'v1.2.3',
      '1.2.3',
      '## 1.2.3\n\n## 1.2.2\n\n- old\n',
      'has no section "## 1.2.3" with text',
    ],
    ['no changelog', 'v1.2.3', '1.2.3', undefined, 'has no section'],
  ])('refuses %s', (_, tag, version, text, message) => {
    const [status, said] = check(tag, version, text)
    expect(status).toBe(1)
    expect(said).toContain(message)
  })
})

describe('examples/self-hosted', () => {
  it("the runner's image has every package that doctor checks for", () => {
    const packages = [...read('examples/self-hosted/Dockerfile').matchAll(/^ {8}([a-z0-9.+-]+) \\$/gm)].map(
      m => m[1],
    )
    expect(packages).toEqual(
      expect.arrayContaining([...toolsFor('x86_64').map(tool => tool.apt), 'python3-venv', 'zstd']),
    )
    expect(packages).toEqual([...packages].sort())
  })

  it('takes pins that are shipped', () => {
    const path = /\/opt\/kernelcraft\/(\S+requirements\.txt)/.exec(
      read('examples/self-hosted/Dockerfile'),
    )?.[1]
    expect(existsSync(join(ROOT, path ?? 'none'))).toBe(true)
  })

  it('pods request the resource that the plugin provides', () => {
    const [plugin] = [read('examples/self-hosted/device-plugin.yaml')].map(text => load(text)) as [
      { spec: { template: { spec: { containers: { args: string[] }[] } } } },
    ]
    const args = plugin.spec.template.spec.containers[0]?.args ?? []
    const domain = args[args.indexOf('--domain') + 1]
    const device = load(args[args.indexOf('--device') + 1] ?? '') as { name: string }
    for (const name of ['values.yaml', 'values-forks.yaml']) {
      const values = load(read(`examples/self-hosted/${name}`)) as {
        runnerScaleSetName: string
        template: {
          spec: {
            containers: { name: string; resources: { limits: Record<string, string> } }[]
            volumes: { name: string; hostPath?: unknown }[]
          }
        }
      }
      const [runner] = values.template.spec.containers
      expect(runner?.name).toBe('runner')
      expect(runner?.resources.limits).toHaveProperty([`${domain}/${device.name}`], '1')
      // what forks may run on keeps nothing
      const kept = values.template.spec.volumes.filter(volume => volume.hostPath !== undefined)
      expect(kept).toHaveLength(name === 'values.yaml' ? 1 : 0)
      expect(values.runnerScaleSetName).toBe(name === 'values.yaml' ? 'kvm' : 'kvm-forks')
    }
  })
})
