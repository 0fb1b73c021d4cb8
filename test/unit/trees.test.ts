import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { InputError } from '../../src/errors.js'
import { CONFIG_BASES, type RawOptions } from '../../src/request/options.js'
import { parseRequest } from '../../src/request/parse.js'
import { projectOptions } from '../../src/request/project-file.js'
import { findTree, KNOWN_TREES, makeTreesFile, userTrees } from '../../src/request/trees.js'

const home = mkdtempSync(join(tmpdir(), 'kernelcraft-trees-'))
const conf = join(home, '.kernelcraft.conf')
const checkout = join(home, 'linux')
const project = join(checkout, '.kernelcraft.json')
const before = process.env.HOME
beforeAll(() => {
  process.env.HOME = home
  mkdirSync(join(checkout, '.git'), { recursive: true })
  mkdirSync(join(checkout, 'drivers'))
  writeFileSync(join(checkout, 'ci.config'), 'CONFIG_X=y\n')
  writeFileSync(join(home, 'outside.config'), 'CONFIG_X=y\n')
  symlinkSync('/etc/hostname', join(checkout, 'link.config'))
})
afterAll(() => {
  process.env.HOME = before
  rmSync(home, { recursive: true, force: true })
})

const parse = (raw: RawOptions, local = true) =>
  parseRequest({ run: 'true', ...raw }, { cwd: checkout, env: {}, local })
const thrown = (work: () => unknown): InputError => {
  try {
    work()
  } catch (error) {
    if (error instanceof InputError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('~/.kernelcraft.conf', () => {
  it('is created when a tree is named locally, never by the action, and never overwritten', () => {
    rmSync(conf, { force: true })
    rmSync(project, { force: true })
    parse({ release: 'mainline' }, false)
    parse({ release: 'https://example.org/linux' })
    parse({})
    expect(() => readFileSync(conf)).toThrow()
    parse({ release: 'mainline' })
    expect(JSON.parse(readFileSync(conf, 'utf8'))).toEqual(KNOWN_TREES)
    expect(userTrees(conf)).toEqual(KNOWN_TREES)
    writeFileSync(conf, '{"mine": {"repo": "https://example.org/mine.git"}}')
    expect(makeTreesFile(conf)).toBe(false)
    // a built-in tree that is newer than the file
    const { trees } = parse({ release: 'mainline' })
    expect(Object.keys(trees)).toEqual([...Object.keys(KNOWN_TREES), 'mine'])
  })
  it('has the usual trees over https, and the Ubuntu series', () => {
    for (const name of ['mainline', 'next', 'stable', 'jammy', 'noble', 'resolute', 'stonking']) {
      const { repo, mirrors = [] } = findTree(name)
      for (const url of [repo, ...mirrors]) expect(new URL(url).protocol).toBe('https:')
    }
  })
  it('replaces a known tree', () => {
    writeFileSync(
      conf,
      '{"mainline": {"repo": "git@example.org:linux", "branch": "fixes/one", "mirrors": ["file:///srv/linux"]}}',
    )
    expect(findTree('mainline', parse({ release: 'mainline' }).trees)).toEqual({
      repo: 'git@example.org:linux',
      branch: 'fixes/one',
      mirrors: ['file:///srv/linux'],
    })
  })
  it.each([
    ['', 1, /a value is missing here: add it/],
    [
      '{\n"a": {"repo": "https://x/y"},\n}',
      3,
      /a name in double quotes is missing here: add it, or remove the comma/,
    ],
    ['{\n"a": {"repo": "https://x/y"}\n"b": {}}', 3, /a comma is missing before this: add it/],
    ['{\n"a": {"repo": "https://x/y"}', 2, /a closing } is missing/],
    ["{\n'a': {}}", 2, /double quotes/],
    ['{\n// mine\n}', 2, /comment, which JSON does not have: remove it/],
    ['{} {}', 1, /more after the end/],
    ['[]', 1, /The file is not an object/],
    [
      '{"a": {"repo": "https://x/y"},\n"a": {"repo": "https://x/z"}}',
      2,
      /"a" already exists in line 1: keep one/,
    ],
    ['{"a": {"repo": "https://x/y",\n"repo": "https://x/z"}}', 2, /"repo" already exists in line 1/],
    ['{"a": {\n"url": "https://x/y"}}', 2, /Tree "a" has no "url": it takes repo, branch, mirrors/],
    ['{"a": {"repo": "https://x/y",\n"brnach": "main"}}', 2, /did you mean "branch"/],
    ['{\n"a": {"branch": "main"}}', 2, /tree "a" has no "repo": add one/],
    ['{\n"a": "https://x/y"}', 2, /Tree "a" is not an object/],
    ['{\n"a/../b": {"repo": "https://x/y"}}', 2, /is not a valid name for a tree/],
    ['{"a": {"repo":\n"ext::sh -c date"}}', 1, /remote helpers are not used here/],
    ['{"a": {"repo": "--upload-pack=x"}}', 1, /cannot begin with a dash/],
    ['{"a": {"repo": "somewhere"}}', 1, /write a URL/],
    ['{"a": {"repo": 7}}', 1, /repo is not a text/],
    ['{"a": {"repo": "https://x/y", "branch": "-x"}}', 1, /"-x" is not a branch name/],
    ['{"a": {"repo": "https://x/y", "mirrors": "https://x/z"}}', 1, /mirrors is not a list/],
    ['{"a": {"repo": "https://x/y", "mirrors": [\n"https://x/z",\n"-x"]}}', 3, /mirror is "-x"/],
  ])('%j: the line and the correction', (text, line, sentence) => {
    writeFileSync(conf, text)
    const { message } = thrown(() => parse({ release: 'mainline' }))
    expect(message).toMatch(sentence)
    expect(message.startsWith(`${conf}:${line}: `)).toBe(true)
    expect(message).toMatch(/^[^\n]*\.$/)
  })
  it('is not read by a run that names no tree', () => {
    writeFileSync(conf, '{')
    expect(parse({}).release).toBeUndefined()
  })
})

describe('.kernelcraft.json of a checkout', () => {
  const write = (content: unknown) => {
    rmSync(conf, { force: true })
    writeFileSync(project, typeof content === 'string' ? content : JSON.stringify(content))
  }
  it('has trees and defaults; options of the run override them', () => {
    write({
      trees: { ours: { repo: 'https://example.org/ours.git', branch: 'for-next' } },
      defaults: {
        memory: '512M',
        cpus: 2,
        config: ['ci.config', 'lockdep'],
        'config-items': 'CONFIG_A=y',
        'config-base': 'defconfig',
        'skip-modules': true,
        'boot-timeout': '30s',
      },
    })
    for (const path of ['.', 'drivers']) {
      const request = parse({ release: 'ours', path, memory: '1G', 'config-items': ['CONFIG_B=y'] })
      expect(findTree('ours', request.trees).branch).toBe('for-next')
      expect(request).toMatchObject({
        memoryMiB: 1024,
        cpus: 2,
        fragments: [join(checkout, 'ci.config'), 'lockdep'],
        configItems: ['CONFIG_A=y', 'CONFIG_B=y'],
        configBase: { kind: 'defconfig' },
        skipModules: true,
        deadlines: { boot: 30 },
      })
    }
  })
  it.each(CONFIG_BASES)('has the config base %s, which is not a file', kind => {
    write({ defaults: { 'config-base': kind } })
    expect(parse({}).configBase).toEqual({ kind })
  })
  it('a tree of the user replaces one of the project', () => {
    write({ trees: { ours: { repo: 'https://example.org/ours.git' } } })
    writeFileSync(conf, '{"ours": {"repo": "https://example.org/mine.git"}}')
    expect(findTree('ours', parse({ release: 'ours' }).trees).repo).toBe('https://example.org/mine.git')
  })
  it('cannot configure the host, what fails a run, or what is run', () => {
    expect(projectOptions().map(({ name }) => name)).toEqual([
      'config-base',
      'config',
      'config-items',
      'debug-info',
      'localversion',
      'skip-modules',
      'cpus',
      'memory',
      'append',
      'boot-timeout',
      'run-timeout',
      'idle-timeout',
    ])
  })
  it.each([
    ['{"defaults": {\n"run": "true"}}', 2, /defaults has no "run": it takes config-base/],
    ['{"defaults": {\n"root": "/"}}', 2, /has no "root"/],
    ['{"defaults": {\n"memroy": "1G"}}', 2, /did you mean "memory"/],
    ['{"default": {}}', 1, /did you mean "defaults"/],
    ['{"defaults": {\n"memory": "lots"}}', 2, /memory is "lots"/],
    ['{"defaults": {"append": "a",\n"cpus": 0}}', 2, /cpus is "0"/],
    ['{"defaults": {"config": [\n"../outside.config"]}}', 2, /lies outside of the checkout/],
    ['{"defaults": {"config": [\n"/etc/hostname"]}}', 2, /lies outside of the checkout/],
    ['{"defaults": {"config": [\n"link.config"]}}', 2, /lies outside of the checkout/],
    ['{"defaults": {\n"config-base": "../outside.config"}}', 2, /lies outside of the checkout/],
    ['{"defaults": {"config": [\n"nowhere.config"]}}', 2, /is not a file of the checkout/],
    ['{"defaults": {"config": [{}]}}', 1, /config is not a text/],
    ['{"trees": {\n"mainline": {"repo": "https://x/y"}}}', 2, /is a built-in tree/],
    ['{"trees": {"ours": {\n"repo": "file:///srv/secret"}}}', 2, /https, git and ssh URLs only/],
    ['{"trees": {"ours": {\n"repo": "/srv/secret"}}}', 2, /https, git and ssh URLs only/],
  ])('%j: the line and the correction', (text, line, sentence) => {
    write(text)
    const { message } = thrown(() => parse({}))
    expect(message).toMatch(sentence)
    expect(message.startsWith(`${project}:${line}: `)).toBe(true)
  })
  it('an invalid option of the run is not located in the file', () => {
    write({ defaults: { memory: '512M' } })
    expect(thrown(() => parse({ memory: 'lots' })).message).toMatch(/^memory is "lots"/)
  })
})
