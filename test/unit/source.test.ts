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
import type { Request } from '../../src/request/request.js'
import { locateSource } from '../../src/source/locate.js'
import type { Source } from '../../src/source/source.js'
import { acquireWorkspace, checkOut } from '../../src/source/workspace.js'
import { git, tinyKernel } from '../repository.js'

const home = mkdtempSync(join(tmpdir(), 'kernelcraft-source-'))
const origin = join(home, 'origin with blank')
const url = `file://${origin}`
const warnings: string[] = []
const infos: string[] = []
const log: Log = {
  stage() {},
  stageEnd() {},
  info: message => infos.push(message),
  warning: message => warnings.push(message),
  diagnostic() {},
  progress() {},
  detail() {},
  guest() {},
}
let shas: string[] = []

beforeAll(() => {
  process.env.KERNELCRAFT_CACHE = join(home, 'cache')
  shas = tinyKernel(origin)
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
    ['an ancestor', 'main~2', 1],
    ['a parent of a tag', 'v6.12.1^', 0],
  ])('%s', async (_what, ref, index) => {
    expect((await locate({ release: url, ref })).sha).toBe(shas[index])
  })
  it.each([
    ['refs/pull/7/merge', 2],
    ['refs/changes/34/1234/5', 0],
  ])('a ref that only servers have: %s', async (ref, parent) => {
    const source = await locate({ release: url, ref })
    expect(source.sha).toBe(git(origin, 'rev-parse', ref))
    expect((await locate({ release: url, ref: `${ref}^` })).sha).toBe(shas[parent])
  })
  it('mirrors are tried in order where the tree cannot be read, up to the first that can', async () => {
    const trees = {
      far: { repo: `file://${home}/nowhere`, mirrors: [`file://${home}/neither`, url], branch: 'main' },
    }
    expect((await locate({ release: 'far', trees })).sha).toBe(shas[3])
    expect(warnings.slice(-2).join('\n')).toMatch(
      /nowhere cannot be read; trying .*neither\.\n.*neither cannot/,
    )
    await expect(locate({ release: 'far', ref: 'v9.9', trees })).rejects.toThrow(
      /with blank has no ref "v9\.9"/,
    )
    const lost = { lost: { repo: `file://${home}/nowhere`, mirrors: [`file://${home}/neither`] } }
    await expect(locate({ release: 'lost', trees: lost })).rejects.toThrow(
      /nowhere, file:.*neither cannot be read/,
    )
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
  it('borrows the objects of the checkout in the current directory', async () => {
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
  it('a repository that is not a kernel', async () => {
    const other = join(home, 'other')
    mkdirSync(other)
    git(other, 'init', '-q')
    writeFileSync(join(other, 'Makefile'), 'all:\n')
    git(other, 'add', '-A')
    git(other, 'commit', '-q', '-m', 'x')
    await expect(locate({ path: other })).rejects.toThrow(/is not a Linux kernel tree/)
  })
})

/** Every file of a directory with size, time and inode; git sets the time of what it borrows, so that no gc removes it. */
const files = (dir: string) =>
  execFileSync('find', [dir, '-type', 'f', '-printf', '%p %s %T@ %i\n'], { encoding: 'utf8' })
    .split('\n')
    .map(line => (/\/objects\/|\/sharedindex\./.test(line) ? line.replace(/ [\d.]+ (\d+)$/, ' $1') : line))
    .sort()

/** A clone with its own objects; its origin has more refs than it. */
function cloned(name: string, ...words: string[]): string {
  const path = join(home, name)
  git(home, 'clone', '-q', ...words, url, path)
  return path
}

/** The files of a source as they are built. */
async function built(source: Source): Promise<(file: string) => string | undefined> {
  const workspace = await acquireWorkspace(source)
  await checkOut(source, workspace)
  await workspace.release()
  return file => {
    const path = join(workspace.source, file)
    return existsSync(path) ? readFileSync(path, 'utf8') : undefined
  }
}

describe('a checkout', () => {
  it('is read, and not one file of it is touched', async () => {
    const checkout = join(home, 'check out')
    cpSync(origin, checkout, { recursive: true })
    writeFileSync(join(checkout, 'Makefile'), 'changed by the user\n')
    writeFileSync(join(checkout, 'untracked'), '')
    const before = files(checkout)
    const source = await locate({ path: checkout, ref: 'HEAD~1' })
    expect(source.sha).toBe(shas[2])
    expect(infos.at(-1)).toBe(
      'HEAD~1 is tested as it is committed, without one uncommitted change (they stay in the checkout): Makefile',
    )
    const workspace = await acquireWorkspace(source)
    await checkOut(source, workspace)
    expect(readFileSync(join(workspace.source, 'Makefile'), 'utf8')).toContain('SUBLEVEL = 2')
    expect(existsSync(join(workspace.source, 'untracked'))).toBe(false)

    // the next commit touches only what changed, and an edit in our tree is put right
    const kept = statSync(join(workspace.source, 'file0.c')).mtimeMs
    writeFileSync(join(workspace.source, 'file1.c'), 'tampered\n')
    await checkOut({ ...source, treeId: git(origin, 'rev-parse', 'HEAD^{tree}') }, workspace)
    expect(readFileSync(join(workspace.source, 'Makefile'), 'utf8')).toContain('SUBLEVEL = 3')
    expect(readFileSync(join(workspace.source, 'file1.c'), 'utf8')).toContain('int x1')
    expect(statSync(join(workspace.source, 'file0.c')).mtimeMs).toBe(kept)
    expect(files(checkout)).toEqual(before)

    // a second run at the same time gets a tree of its own
    const second = await acquireWorkspace(source)
    expect(second.directory).not.toBe(workspace.directory)
    await Promise.all([workspace.release(), second.release()])
    expect((await acquireWorkspace(source)).directory).toBe(workspace.directory)
  })
})

describe('uncommitted changes', () => {
  it('are built, and nothing of the checkout is touched', async () => {
    const path = cloned('dirty "one"\n# two')
    const clean = await locate({ path })
    expect(clean).toMatchObject({ sha: shas[3], version: '6.12.3' })
    expect(clean.dirty).toBeUndefined()

    writeFileSync(
      join(path, 'Makefile'),
      readFileSync(join(origin, 'Makefile'), 'utf8').replace('= 3', '= 9'),
    )
    writeFileSync(join(path, 'added.c'), 'int added;\n')
    git(path, 'add', 'added.c')
    writeFileSync(join(path, 'intended.c'), 'int intended;\n')
    git(path, 'add', '--intent-to-add', 'intended.c')
    rmSync(join(path, 'file0.c'))
    writeFileSync(join(path, 'un tracked'), '')
    const before = files(path)
    const source = await locate({ path })
    expect(files(path)).toEqual(before)
    expect(source).toMatchObject({ sha: shas[3], dirty: true, version: '6.12.9', ref: 'HEAD', tree: path })
    expect(source.treeId).not.toBe(clean.treeId)
    expect(infos.at(-1)).toBe(
      'HEAD is tested with 4 uncommitted changes: Makefile, added.c, file0.c, intended.c',
    )
    expect(warnings.at(-1)).toMatch(/not built, .*: "un tracked"$/)
    const read = await built(source)
    expect(read('Makefile')).toContain('SUBLEVEL = 9')
    expect(read('added.c')).toBe('int added;\n')
    expect(read('intended.c')).toBe('int intended;\n')
    expect(read('file0.c')).toBeUndefined()
    expect(read('un tracked')).toBeUndefined()
    expect(files(path)).toEqual(before)

    // the same changes are the same tree, and work goes on where the committed one is built
    expect((await locate({ path })).treeId).toBe(source.treeId)
    const workspaces = [await acquireWorkspace(source)]
    await workspaces[0]?.release()
    workspaces.push(await acquireWorkspace(clean))
    await workspaces[1]?.release()
    expect(workspaces[0]?.directory).toBe(workspaces[1]?.directory)
    // a commit that is named, or --force, is tested as it is committed
    for (const wanted of [{ ref: 'HEAD' }, { force: true }]) {
      const committed = await locate({ path, ...wanted })
      expect(committed).toMatchObject({ sha: shas[3], treeId: clean.treeId })
      expect(committed.dirty).toBeUndefined()
      expect(infos.at(-1)).toContain(
        'without 4 uncommitted changes (they stay in the checkout): Makefile, added.c',
      )
    }
  })
  it('an edit as old as the index is seen', async () => {
    const path = cloned('racy')
    // same size, and written so soon after the index that only the contents tell
    for (let round = 0; round < 8; round++) {
      git(path, 'checkout', '-q', '-f', 'HEAD')
      writeFileSync(join(path, 'marker'), `marker ${'abcdefghijklmnopqrst'[round]}\n`)
      git(path, 'add', 'marker')
      writeFileSync(join(path, 'marker'), `marker ${'ABCDEFGHIJKLMNOPQRST'[round]}\n`)
      const read = await built(await locate({ path }))
      expect(read('marker')).toBe(`marker ${'ABCDEFGHIJKLMNOPQRST'[round]}\n`)
    }
  })
  it('of a linked work tree, a split index, a shallow and a partial clone', async () => {
    const main = cloned('main clone')
    const linked = join(home, 'linked')
    git(main, 'worktree', 'add', '-q', '--detach', linked)
    const split = cloned('split')
    git(split, 'update-index', '--split-index')
    git(origin, 'config', 'uploadpack.allowFilter', 'true')
    const partial = cloned('partial', '--filter=blob:none', '--no-checkout')
    git(partial, 'reset', '-q')
    git(partial, 'checkout', '-q', 'HEAD', '--', 'Makefile', 'marker')
    git(partial, 'update-index', '--skip-worktree', ...[0, 1, 2, 3].map(number => `file${number}.c`))
    for (const path of [linked, split, cloned('shallow', '--depth=1'), partial]) {
      writeFileSync(join(path, 'marker'), 'changed\n')
      const before = files(path)
      const source = await locate({ path })
      expect(source).toMatchObject({ sha: shas[3], dirty: true })
      const read = await built(source)
      expect(read('marker')).toBe('changed\n')
      // in the partial clone it had to be asked for
      expect(read('file1.c')).toBe('int x1;\n'.repeat(1000))
      expect(files(path)).toEqual(before)
    }
  })
  it('of a sparse checkout are built with what it leaves out', async () => {
    mkdirSync(join(origin, 'drivers'))
    writeFileSync(join(origin, 'drivers', 'a.c'), 'int a;\n')
    git(origin, 'add', 'drivers')
    const path = join(home, 'sparse')
    git(home, 'clone', '-q', '--no-checkout', url, path)
    git(
      path,
      'fetch',
      '-q',
      'origin',
      git(origin, 'commit-tree', '-p', 'HEAD', '-m', 'x', git(origin, 'write-tree')),
    )
    git(origin, 'reset', '-q', '--hard')
    git(path, 'sparse-checkout', 'set', '--sparse-index')
    git(path, 'checkout', '-q', 'FETCH_HEAD')
    expect(existsSync(join(path, 'drivers'))).toBe(false)
    for (const text of ['marker 3\n', 'of mine\n']) {
      writeFileSync(join(path, 'marker'), text)
      const before = files(path)
      const source = await locate({ path })
      expect(source.dirty ?? false).toBe(text === 'of mine\n')
      const read = await built(source)
      expect([read('marker'), read('drivers/a.c')]).toEqual([text, 'int a;\n'])
      expect(files(path)).toEqual(before)
    }
  })
  it('are not the files that a clone without a checkout lacks', async () => {
    const path = cloned('empty', '--no-checkout')
    for (const index of ['no index', 'an index']) {
      const source = await locate({ path })
      expect([index, source.sha, source.dirty]).toEqual([index, shas[3], undefined])
      git(path, 'read-tree', 'HEAD')
    }
  })
  it('with conflicts are refused, unless the commit is requested', async () => {
    const path = cloned('conflict')
    for (const [branch, word] of [
      ['a', 'one'],
      ['b', 'two'],
    ] as const) {
      git(path, 'checkout', '-q', '-b', branch, shas[3] ?? '')
      writeFileSync(join(path, 'marker'), `${word}\n`)
      git(path, 'commit', '-q', '-a', '-m', word)
    }
    expect(() => git(path, 'merge', '-q', 'a')).toThrow()
    await expect(locate({ path })).rejects.toMatchObject({
      message: expect.stringMatching(/1 files with conflicts: finish the merge, or .*--commit HEAD/),
      details: ['marker'],
    })
    expect((await locate({ path, ref: 'HEAD' })).sha).toBe(git(path, 'rev-parse', 'b'))
    expect((await locate({ path, force: true })).sha).toBe(git(path, 'rev-parse', 'b'))
  })
})

describe('what a checkout does not have comes from its origin', () => {
  it.each([
    ['refs/pull/7/merge', 'refs/pull/7/merge'],
    ['refs/changes/34/1234/5^', shas[0]],
    ['late', 'late'],
  ])('%s', async ref => {
    const path = join(home, `origin ${ref.replaceAll('/', '-')}`)
    git(home, 'clone', '-q', url, path)
    git(origin, 'branch', '-f', 'late', shas[2] ?? '')
    const before = files(path)
    const source = await locate({ path, ref })
    expect(source.sha).toBe(git(origin, 'rev-parse', ref))
    expect(source.tree).toBe(path)
    expect(files(path)).toEqual(before)
    git(origin, 'branch', '-D', '-q', 'late')
  })
  it('FETCH_HEAD is the checkout itself', async () => {
    const path = cloned('fetched')
    await expect(locate({ path, ref: 'FETCH_HEAD' })).rejects.toThrow(/has no commit "FETCH_HEAD"\.$/)
    git(path, 'fetch', '-q', 'origin', 'refs/changes/34/1234/5')
    expect((await locate({ path, ref: 'FETCH_HEAD' })).sha).toBe(
      git(origin, 'rev-parse', 'refs/changes/34/1234/5'),
    )
  })
  it('and where that does not have it, both are named', async () => {
    const path = cloned('neither has')
    await expect(locate({ path, ref: 'v9.9' })).rejects.toThrow(
      /neither has has no commit "v9\.9", and fetching it from its remote origin failed: file:.* has no ref "v9\.9"\.$/,
    )
  })
})

describe('a tree by name in a local checkout', () => {
  const trees = { tiny: { repo: url, branch: 'main' } }
  const refs = (path: string) => git(path, 'for-each-ref', '--format=%(refname)').split('\n')

  it('becomes a remote, and is fetched below refs/remotes', async () => {
    const path = join(home, 'of my own')
    git(home, 'clone', '-q', '--no-tags', '--single-branch', '-b', 'fixes/one', url, path)
    git(path, 'remote', 'rename', 'origin', 'upstream')
    git(path, 'pack-refs', '--all')
    const [before, head] = [refs(path), files(join(path, '.git', 'HEAD'))]
    const found = await locate({ path, release: 'tiny', trees, local: true })
    expect(found).toMatchObject({ sha: shas[3], tree: 'tiny', ref: 'main', repository: join(path, '.git') })
    expect(git(path, 'remote', 'get-url', 'tiny')).toBe(url)
    for (const ref of [
      'v6.12.1',
      'main~2',
      'fixes/one',
      'refs/changes/34/1234/5',
      shas[2]?.slice(0, 9) ?? '',
    ]) {
      const { sha } = await locate({ path, release: 'tiny', ref, trees, local: true })
      expect(sha).toBe(git(origin, 'rev-parse', `${ref}^{commit}`))
    }
    expect(refs(path).filter(ref => !before.includes(ref))).toEqual(
      ['changes/34/1234/5', 'fixes/one', 'main', 'tags/v6.12.1'].map(ref => `refs/remotes/tiny/${ref}`),
    )
    expect(files(join(path, '.git', 'HEAD'))).toEqual(head)
    expect(existsSync(join(path, '.git', 'FETCH_HEAD'))).toBe(false)
    await expect(locate({ path, release: 'tiny', ref: 'v9.9', trees, local: true })).rejects.toThrow(
      /has no ref/,
    )
  })
  it('an existing remote of that name is kept if its URL is the same, and an error if not', async () => {
    const path = cloned('with remotes')
    git(path, 'remote', 'add', 'tiny', `${url}/`)
    expect((await locate({ path, release: 'tiny', trees, local: true })).sha).toBe(shas[3])
    expect(git(path, 'remote', 'get-url', 'tiny')).toBe(`${url}/`)
    git(path, 'remote', 'set-url', 'tiny', 'https://example.org/other.git')
    await expect(locate({ path, release: 'tiny', trees, local: true })).rejects.toThrow(
      /already has a remote tiny with the URL https:\/\/example\.org\/other\.git, not file:/,
    )
  })
  it.each([
    ['in the action', { local: false }, []],
    ['a shallow clone', { local: true }, ['--depth=1']],
  ])('%s: the repository stays as it is', async (_what, around, words) => {
    const path = cloned(`untouched ${words.length}`, ...words)
    const before = files(path)
    expect((await locate({ path, release: 'tiny', ref: 'v6.12.1', trees, ...around })).sha).toBe(shas[1])
    expect(files(path)).toEqual(before)
  })
  it('a repository that is not a kernel stays as it is', async () => {
    const path = join(home, 'no kernel')
    git(home, 'init', '-q', path)
    git(path, 'commit', '-q', '--allow-empty', '-m', 'x')
    expect((await locate({ path, release: 'tiny', trees, local: true })).sha).toBe(shas[3])
    expect(git(path, 'remote')).toBe('')
  })
})

it('a Python that is too old is named', async () => {
  const old = join(home, 'python3')
  writeFileSync(old, '#!/bin/sh\necho 3.6\n', { mode: 0o755 })
  await expect(findPython([old])).rejects.toThrow(/needs Python 3\.10 or newer, and this machine has 3\.6/)
})
