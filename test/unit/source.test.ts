import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { StageError } from '../../src/errors.js'
import { findPython } from '../../src/host/virtme.js'
import type { Log } from '../../src/log.js'
import type { Request } from '../../src/request.js'
import { locateSource } from '../../src/source/source.js'
import { checkOut, takeWorkspace } from '../../src/source/workspace.js'

const home = mkdtempSync(join(tmpdir(), 'kernelcraft-source-'))
const origin = join(home, 'origin with blank')
const url = `file://${origin}`
const warnings: string[] = []
const log: Log = {
  stage() {},
  stageEnd() {},
  info() {},
  warning: message => warnings.push(message),
  diagnostic() {},
  progress() {},
  detail() {},
  guest() {},
}
const identity = {
  GIT_AUTHOR_NAME: 'a',
  GIT_AUTHOR_EMAIL: 'a@b',
  GIT_COMMITTER_NAME: 'a',
  GIT_COMMITTER_EMAIL: 'a@b',
}
const git = (where: string, ...args: string[]) =>
  execFileSync('git', ['-C', where, '-c', 'init.defaultBranch=main', ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...identity },
  }).trim()

const shas: string[] = []
function commit(sublevel: number): void {
  writeFileSync(
    join(origin, 'Makefile'),
    `VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = ${sublevel}\nKERNELVERSION = x\n`,
  )
  writeFileSync(join(origin, `file${sublevel}.c`), `int x${sublevel};\n`.repeat(1000))
  git(origin, 'add', '-A')
  git(origin, 'commit', '-q', '-m', `release ${sublevel}`)
  shas.push(git(origin, 'rev-parse', 'HEAD'))
}

beforeAll(() => {
  process.env.KERNELCRAFT_CACHE = join(home, 'cache')
  mkdirSync(origin)
  git(origin, 'init', '-q')
  for (const sublevel of [0, 1, 2, 3]) commit(sublevel)
  git(origin, 'tag', '-a', '-m', 'tag', 'v6.12.1', shas[1] ?? '')
  git(origin, 'update-ref', 'refs/pull/7/merge', shas[2] ?? '')
})
afterAll(() => {
  delete process.env.KERNELCRAFT_CACHE
  rmSync(home, { recursive: true, force: true })
})

const locate = (request: Partial<Request>) => locateSource({ path: home, ...request } as Request, log)

describe('a remote tree', () => {
  it.each([
    ['no ref', undefined, 3],
    ['a branch', 'main', 3],
    ['an annotated tag', 'v6.12.1', 1],
    ['a ref of the server', 'refs/pull/7/merge', 2],
    ['an ancestor', 'main~2', 1],
    ['a parent of a tag', 'v6.12.1^', 0],
  ])('%s', async (_what, ref, index) => {
    expect((await locate({ release: url, ref })).sha).toBe(shas[index])
  })
  it('a full SHA, a short SHA, and an ancestor of one', async () => {
    expect((await locate({ release: url, ref: shas[0] })).sha).toBe(shas[0])
    expect((await locate({ release: url, ref: shas[2]?.slice(0, 10) })).sha).toBe(shas[2])
    expect((await locate({ release: url, ref: `${shas[2]?.slice(0, 10)}~1` })).sha).toBe(shas[1])
  })
  it('is fetched one commit deep', async () => {
    process.env.KERNELCRAFT_CACHE = join(home, 'cache-depth')
    const source = await locate({ release: url })
    process.env.KERNELCRAFT_CACHE = join(home, 'cache')
    expect(git(source.gitDir, 'rev-list', '--count', source.sha)).toBe('1')
    expect(source).toMatchObject({ subject: 'release 3', version: '6.12.3', ref: 'HEAD' })
  })
  it('borrows the objects of the checkout one stands in', async () => {
    process.env.KERNELCRAFT_CACHE = join(home, 'cache-borrow')
    const clone = join(home, 'clone')
    git(home, 'clone', '-q', url, clone)
    const source = await locate({ release: url, path: clone })
    const files = readdirSync(join(source.gitDir, 'objects')).filter(name => /^[0-9a-f]{2}$/.test(name))
    const packs = existsSync(join(source.gitDir, 'objects', 'pack'))
      ? readdirSync(join(source.gitDir, 'objects', 'pack'))
      : []
    expect([...files, ...packs.filter(name => name.endsWith('.pack'))]).toEqual([])
    // and survives that the clone goes away
    rmSync(clone, { recursive: true })
    expect((await locate({ release: url, ref: 'v6.12.1' })).sha).toBe(shas[1])
    process.env.KERNELCRAFT_CACHE = join(home, 'cache')
  })
})

describe('what cannot be found ends as source-failed with one sentence', () => {
  it.each([
    ['an unknown tree', { release: 'mainlin' }, /no tree called "mainlin"; did you mean mainline\?/],
    ['an unknown ref', { release: url, ref: 'v9.9' }, /has no ref "v9\.9"/],
    ['an unknown SHA', { release: url, ref: 'f'.repeat(40) }, /has no ref/],
    ['a URL that is no repository', { release: `file://${home}/nowhere` }, /cannot be read/],
    ['a path that is no repository', { path: '/' }, /is not a git checkout/],
  ])('%s', async (_what, request, sentence) => {
    const error = await locate(request).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(StageError)
    expect(error).toMatchObject({ verdict: 'source-failed', message: expect.stringMatching(sentence) })
  })
  it('a repository that is no kernel', async () => {
    const other = join(home, 'other')
    mkdirSync(other)
    git(other, 'init', '-q')
    writeFileSync(join(other, 'Makefile'), 'all:\n')
    git(other, 'add', '-A')
    git(other, 'commit', '-q', '-m', 'x')
    await expect(locate({ path: other })).rejects.toThrow(/is no Linux kernel tree/)
  })
})

describe('a checkout', () => {
  const files = (dir: string) =>
    execFileSync('find', [dir, '-type', 'f', '-printf', '%p %s %T@ %i\n'], { encoding: 'utf8' })
      .split('\n')
      .sort()

  it('is read, and not one file of it is touched', async () => {
    const checkout = join(home, 'check out')
    cpSync(origin, checkout, { recursive: true })
    writeFileSync(join(checkout, 'Makefile'), 'changed by the user\n')
    writeFileSync(join(checkout, 'untracked'), '')
    const before = files(checkout)
    const source = await locate({ path: checkout, ref: 'HEAD~1' })
    expect(source.sha).toBe(shas[2])
    expect(warnings.at(-1)).toContain('uncommitted changes')
    const workspace = await takeWorkspace(source)
    await checkOut(source, workspace)
    expect(readFileSync(join(workspace.source, 'Makefile'), 'utf8')).toContain('SUBLEVEL = 2')
    expect(existsSync(join(workspace.source, 'untracked'))).toBe(false)

    // the next commit touches only what changed, and an edit in our tree is put right
    const kept = statSync(join(workspace.source, 'file0.c')).mtimeMs
    writeFileSync(join(workspace.source, 'file1.c'), 'tampered\n')
    await checkOut({ ...source, sha: shas[3] ?? '' }, workspace)
    expect(readFileSync(join(workspace.source, 'Makefile'), 'utf8')).toContain('SUBLEVEL = 3')
    expect(readFileSync(join(workspace.source, 'file1.c'), 'utf8')).toContain('int x1')
    expect(statSync(join(workspace.source, 'file0.c')).mtimeMs).toBe(kept)
    expect(files(checkout)).toEqual(before)

    // a second run at the same time gets a tree of its own
    const second = await takeWorkspace(source)
    expect(second.directory).not.toBe(workspace.directory)
    await Promise.all([workspace.release(), second.release()])
    expect((await takeWorkspace(source)).directory).toBe(workspace.directory)
  })
})

it('a Python that is too old is named', async () => {
  const old = join(home, 'python3')
  writeFileSync(old, '#!/bin/sh\necho 3.6\n', { mode: 0o755 })
  await expect(findPython([old])).rejects.toThrow(/needs Python 3\.10 or newer, and this machine has 3\.6/)
})
