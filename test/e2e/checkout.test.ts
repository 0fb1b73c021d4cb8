import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { linkShared } from '../cache.js'
import { DISTRO_REPOSITORY, type Ended, kc, kcWith, ROOT, scratch } from '../kc.js'
import { kernelWords } from '../kernels.js'
import { git, tinyKernel } from '../repository.js'

let place = ''
let home = ''
let cache = ''
let origin = ''
let shas: string[] = []

beforeAll(() => {
  place = scratch('checkout')
  home = join(place, 'home')
  cache = join(place, 'cache')
  mkdirSync(home)
  // virtme-ng, which every run looks for first
  linkShared(cache, ['venv', 'kvm'])
  origin = join(place, 'origin')
  shas = tinyKernel(origin)
  writeConf({ mainline: { repo: `file://${origin}`, branch: 'main' } })
})
afterAll(() => rmSync(place, { recursive: true, force: true }))

const writeConf = (trees: unknown) =>
  writeFileSync(join(home, '.kernelcraft.conf'), JSON.stringify(trees, undefined, 2))
const at = async (cwd: string, ...args: string[]) =>
  await kc(args, { cwd, env: { HOME: home, KERNELCRAFT_CACHE: cache } })
const clone = (name: string) => {
  const path = join(place, name)
  git(place, 'clone', '-q', origin, path)
  return path
}
const refs = (path: string) => git(path, 'for-each-ref')
/** What the tree under test says when it is configured: so far these runs get. */
const marker = (end: Ended) => /^marker.*$/m.exec(end.result?.error?.details.join('\n') ?? '')?.[0]
/** A server of this repository, at a URL that a project may name. */
async function daemon(): Promise<{ url: string; child: ChildProcess }> {
  const port = await new Promise<number>(done => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => done(typeof address === 'object' && address ? address.port : 0))
    })
  })
  const words = ['--export-all', `--base-path=${place}`, '--listen=127.0.0.1', `--port=${port}`, place]
  const child = spawn('git', ['daemon', ...words], { stdio: 'ignore' })
  const answers = async () =>
    await new Promise<boolean>(done => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.destroy()
        done(true)
      }).on('error', () => done(false))
    })
  while (child.exitCode === null && !(await answers())) await pause(50)
  return { url: `git://127.0.0.1:${port}/origin`, child }
}

describe('what kc builds in a checkout', () => {
  it('HEAD, a commit that is named, and a ref that only the server has', async () => {
    const path = clone('plain')
    const own = [
      ['HEAD', shas[3]],
      ['HEAD~2', shas[1]],
      ['v6.12.1', shas[1]],
      [shas[0]?.slice(0, 8), shas[0]],
    ]
    const served = ['refs/pull/7/merge', 'refs/changes/34/1234/5'].map(ref => [
      ref,
      git(origin, 'rev-parse', ref),
    ])
    const before = refs(path)
    for (const [ref = '', sha = ''] of [...own, ...served]) {
      const end = await at(path, '-c', ref, '-e', 'true')
      expect(end.result?.source).toMatchObject({ sha, ref, tree: path })
      expect(end.result?.verdict).toBe('config-failed')
      expect(end.result?.repeat).toBe(`kc -c ${sha} -e true`)
    }
    expect(refs(path)).toBe(before)
    expect(marker(await at(path, '-e', 'true'))).toBe('marker 3')
  })
  it('uncommitted changes, and the result says so', async () => {
    const path = clone('dirty')
    writeFileSync(join(path, 'marker'), 'marker of mine\n')
    const end = await at(path, '-e', 'true')
    expect(end.result?.source).toMatchObject({ sha: shas[3], dirty: true })
    expect(marker(end)).toBe('marker of mine')
    expect(end.stderr).toContain('HEAD is tested with one uncommitted change: marker')
    expect(end.stderr).toContain(`${shas[3]?.slice(0, 12)}+dirty ("release 3")`)
    // the line that repeats it builds the changes again
    expect(end.result?.repeat).toBe('kc -e true')
    const read = (name: string) => readFileSync(join(end.runDirectory ?? '', name), 'utf8')
    expect(read('summary.md')).toContain(`${shas[3]?.slice(0, 12)}+dirty`)
    const schema = JSON.parse(readFileSync(join(ROOT, 'schema', 'result.schema.json'), 'utf8'))
    const validate = new Ajv2020({ strict: true }).compile(schema)
    validate(JSON.parse(read('result.json')))
    expect(validate.errors).toBeNull()
    for (const words of [['-c', 'HEAD'], ['--force']]) {
      const committed = await at(path, ...words, '-e', 'true')
      expect(marker(committed)).toBe('marker 3')
      expect(committed.result?.source?.dirty).toBeUndefined()
      expect(committed.stderr).toContain('without one uncommitted change (they stay in the checkout): marker')
    }
    expect(git(path, 'status', '--porcelain')).toBe('M marker')
  })
  it('a change that does not compile; and with -s the kernel that is there, which says what is not in it', async () => {
    const path = join(place, 'linux')
    git(place, 'clone', '-q', '--shared', '--no-checkout', '--branch', '6.12', DISTRO_REPOSITORY, path)
    git(path, 'sparse-checkout', 'set', 'init')
    git(path, 'checkout', '-q')
    // the options without the tree and the ref
    const words = [...kernelWords('tiny').slice(4), '--accel', 'tcg', '-e', 'true']
    const run = (...more: string[]) => kcWith('tiny', more, { cwd: path })
    const before = await run(...words)
    expect(before.result).toMatchObject({ verdict: 'passed', kernel: { reused: true }, warnings: [] })
    writeFileSync(join(path, 'init', 'version.c'), '#error of mine\n')
    const end = await run(...words, '-s')
    const sha = git(path, 'rev-parse', 'HEAD')
    expect(end.result?.verdict).toBe('passed')
    expect(end.result?.warnings).toEqual([
      `The kernel under test was built from ${sha.slice(0, 12)}, not from ${sha.slice(0, 12)}+dirty as it is now.`,
    ])
    expect(end.result?.source).toMatchObject({ sha, treeId: before.result?.source?.treeId })
    expect(end.result?.source?.dirty).toBeUndefined()
    const built = await run(...words)
    expect(built.result).toMatchObject({
      verdict: 'build-failed',
      source: { sha, dirty: true },
      error: {
        diagnostics: [{ file: 'init/version.c', line: 1, message: expect.stringContaining('of mine') }],
      },
    })
    const cleaned = await run('-x')
    expect(cleaned.stderr).toMatch(/removed .*\n.*removed .*\n.*stays as it is, with 1 uncommitted changes/)
    const none = await run(...words, '-s')
    expect(none.result?.reason).toMatch(/no kernel to test without building one/)
  })
  it("a project's defaults, under what is typed, and its trees", async () => {
    const { url, child } = await daemon()
    try {
      const path = clone('project')
      const file = join(path, '.kernelcraft.json')
      writeFileSync(file, JSON.stringify({ trees: { ours: { repo: url, branch: 'fixes/one' } } }))
      const end = await at(path, '-r', 'ours', '-e', 'true')
      expect(end.result?.source).toMatchObject({ sha: shas[1], tree: 'ours', ref: 'fixes/one' })
      expect(git(path, 'remote', 'get-url', 'ours')).toBe(url)
      writeFileSync(file, '{\n  "defaults": {\n    "memory": "lots"\n  }\n}\n')
      const wrong = await at(path, '-e', 'true')
      expect(wrong.status).toBe(2)
      expect(wrong.stderr).toBe(`kc: ${file}:3: memory is "lots": write a size such as 512M or 2G.\n`)
      expect((await at(path, '-m', '512M', '-e', 'true')).result?.source?.sha).toBe(shas[3])
    } finally {
      child.kill()
    }
  })
})

describe('a tree by name', () => {
  it('is added to the checkout as a remote, and fetched', async () => {
    const path = clone('with remote')
    const end = await at(path, '-r', 'mainline', '-c', 'v6.12.1', '-e', 'true')
    expect(end.result?.source).toMatchObject({ sha: shas[1], tree: 'mainline', ref: 'v6.12.1' })
    expect(end.stderr).toContain(`added the remote mainline, file://${origin}, to this repository`)
    expect(git(path, 'for-each-ref', '--format=%(refname)', 'refs/remotes/mainline')).toBe(
      'refs/remotes/mainline/tags/v6.12.1',
    )
    expect(git(path, 'symbolic-ref', 'HEAD')).toBe('refs/heads/main')
    git(path, 'remote', 'set-url', 'mainline', 'https://example.org/fork.git')
    const other = await at(path, '-r', 'mainline', '-e', 'true')
    expect(other.status).toBe(9)
    expect(other.result?.reason).toMatch(/already has a remote mainline .*https:\/\/example\.org\/fork\.git/)
  })
  it('needs no checkout', async () => {
    const end = await at(home, '-r', 'mainline', '-c', 'main~2', '-e', 'true')
    expect(end.result?.source).toMatchObject({ sha: shas[1], tree: 'mainline' })
    expect(existsSync(join(home, '.git'))).toBe(false)
  })
  it('that is unknown is refused, and the file where one could name it is made', async () => {
    const fresh = join(place, 'fresh home')
    mkdirSync(fresh)
    const end = await kc(['-r', 'mainlien', '-e', 'true'], {
      cwd: fresh,
      env: { HOME: fresh, KERNELCRAFT_CACHE: cache },
    })
    expect(end.status).toBe(9)
    expect(end.result?.reason).toMatch(
      /did you mean mainline\?.*known: mainline, next, stable, .*noble.*distro/,
    )
    const made = JSON.parse(readFileSync(join(fresh, '.kernelcraft.conf'), 'utf8'))
    expect(made.mainline.repo).toMatch(/^https:\/\/git\.kernel\.org\/.*torvalds\/linux\.git$/)
  })
  it('in a file with a mistake: status 2, the line and the mend', async () => {
    const broken = join(place, 'broken home')
    mkdirSync(broken)
    writeFileSync(
      join(broken, '.kernelcraft.conf'),
      '{\n  "mine": {"repo": "https://x/y"},\n  "mine": {}\n}\n',
    )
    const end = await kc(['-r', 'mine', '-e', 'true'], {
      cwd: broken,
      env: { HOME: broken, KERNELCRAFT_CACHE: cache },
    })
    expect(end.status).toBe(2)
    expect(end.stderr).toBe(
      `kc: ${broken}/.kernelcraft.conf:3: "mine" already exists in line 2: keep one of the two.\n`,
    )
  })
})

describe('kc -i', () => {
  it('makes a repository, and takes it further only by force, naming what that drops', async () => {
    const path = join(place, 'made')
    const made = await at(place, '-i', 'made')
    expect(made.stderr).toContain(`${path} is at ${shas[3]?.slice(0, 12)}, main of mainline`)
    expect(made.status).toBe(0)
    expect(git(path, 'status', '--porcelain', '--branch')).toBe('## main...mainline/main')
    expect(marker(await at(path, '-c', 'HEAD~1', '-e', 'true'))).toBe('marker 2')
    expect((await at(path, '-i')).stderr).toContain('already')

    writeFileSync(join(path, 'marker'), 'of mine\n')
    const fetched = await at(path, '-i', '-c', 'v6.12.1')
    expect(fetched.stderr).toMatch(/fetched .*stays at .*: --force checks out the fetched commit/)
    expect(git(path, 'status', '--porcelain', '--branch')).toBe('## main...mainline/main\n M marker')
    const forced = await at(path, '-i', '-c', 'v6.12.1', '--force')
    expect(forced.stderr).toMatch(/discarded from .*made:\n\s+changed +marker\n(.*\n)*.*is at .*; it was at/)
    expect(git(path, 'status', '--porcelain', '--branch')).toBe('## HEAD (no branch)')
    expect(git(path, 'rev-parse', 'HEAD', 'main')).toBe(`${shas[1]}\n${shas[3]}`)
  })
  it('a tag is checked out without a branch', async () => {
    expect((await at(place, '-i', 'tagged', '-c', 'v6.12.1')).status).toBe(0)
    expect(git(join(place, 'tagged'), 'status', '--porcelain', '--branch')).toBe('## HEAD (no branch)')
  })
  it('a directory with files that are in no repository is refused', async () => {
    const path = join(place, 'full')
    mkdirSync(path)
    writeFileSync(join(path, 'precious'), '')
    for (const words of [[], ['--force']]) {
      const end = await at(path, '-i', ...words)
      expect(end.status).toBe(2)
      expect(end.stderr).toMatch(/^kc: .*full has files and is not a repository/)
    }
    expect(readdirSync(path)).toEqual(['precious'])
  })
})

describe('kc -x', () => {
  const kept = () =>
    readdirSync(join(cache, 'work')).filter(name => existsSync(join(cache, 'work', name, 'origin')))
  it('removes what is kept for this checkout, and touches the checkout only by force', async () => {
    const path = clone('to clean')
    const others = kept()
    writeFileSync(join(path, 'marker'), 'of mine\n')
    writeFileSync(join(path, 'new.c'), '')
    writeFileSync(join(path, '.git', 'info', 'exclude'), '*.o\n')
    writeFileSync(join(path, 'old.o'), '')
    await at(path, '-e', 'true')
    // the work tree, and the files of the change
    expect(kept().length).toBe(others.length + 2)
    const end = await at(join(path, '.git', '..'), '-x')
    expect(end.status).toBe(0)
    expect(kept()).toEqual(others)
    expect(end.stderr).toContain('stays as it is, with 1 uncommitted changes and 2 files or directories')
    expect(git(path, 'status', '--porcelain')).toBe('M marker\n?? new.c')

    const forced = await at(path, '-x', '--force')
    expect(forced.stderr).toMatch(
      /discarded from .*to clean:\n\s+changed +marker\n\s+untracked +new\.c\n\s+ignored +old\.o\n/,
    )
    expect(git(path, 'status', '--porcelain', '--ignored')).toBe('')
  })
  it('outside of a checkout it says so', async () => {
    const end = await at('/', '-x')
    expect(end.status).toBe(2)
    expect(end.stderr).toMatch(/^kc: \/ is not in a git checkout/)
  })
})
