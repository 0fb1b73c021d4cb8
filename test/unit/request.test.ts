import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { InputError } from '../../src/errors.js'
import { CONFIG_BASES } from '../../src/request/options.js'
import { parseRequest } from '../../src/request/parse.js'
import { parseDuration, parseMemory, parseRef } from '../../src/request/values.js'

const cwd = mkdtempSync(join(tmpdir(), 'kernelcraft-unit-'))
writeFileSync(join(cwd, 'a, b.img'), '')
writeFileSync(join(cwd, 'my fragment'), 'CONFIG_X=y\n')
mkdirSync(join(cwd, 'empty'))

const parse = (raw: Record<string, string | string[]>, argv: string[] = []) =>
  parseRequest({ run: 'true', ...raw }, { cwd, env: { SET: 'value' }, argv })

it.each([
  ['512M', 512],
  ['1024', 1024],
  ['1G', 1024],
  ['1.5G', 1536],
  ['2GiB', 2048],
])('memory %s is %d MiB', (text, size) => expect(parseMemory('memory', text)).toBe(size))

it.each([
  ['90', 90],
  ['90s', 90],
  ['5m', 300],
  ['1h', 3600],
  ['0.5s', 0.5],
  ['off', Number.POSITIVE_INFINITY],
])('duration %s is %d s', (text, seconds) => expect(parseDuration('run-timeout', text)).toBe(seconds))

it.each([
  'v6.1-rc3',
  'HEAD~2',
  'refs/pull/7/merge',
  'FETCH_HEAD',
  '0123abc',
  'refs/changes/34/1234/5',
  'feature/x@y',
  'HEAD^',
])('the ref %s is taken as it is', ref => expect(parseRef(ref)).toBe(ref))

const refused: [string, Record<string, string | string[]>, RegExp][] = [
  ['memory', { memory: '12x' }, /^memory is "12x": write a size/],
  ['memory of nothing', { memory: '0' }, /^memory is "0"/],
  ['memory beyond the host', { memory: '999T' }, /this machine has/],
  ['a zero timeout', { 'run-timeout': '0' }, /^run-timeout is "0": write a time above zero/],
  ['a negative timeout', { 'boot-timeout': '-5' }, /^boot-timeout is "-5"/],
  ['an endless timeout', { 'idle-timeout': '9999999h' }, /at most a week/],
  ['a ref with a dash', { ref: '-x' }, /^ref is "-x": a ref cannot begin with a dash/],
  ['a ref with a colon', { ref: 'a:b' }, /^ref is "a:b"/],
  ['a ref with a blank', { ref: 'a b' }, /write one commit/],
  ['a range', { ref: 'a..b' }, /write one commit/],
  ['a tree with a dash', { release: '--upload-pack=touch /tmp/x' }, /cannot begin with a dash/],
  ['a remote helper', { release: 'ext::sh -c true' }, /remote helpers/],
  [
    'a fragment that is not there',
    { config: ['nowhere.config'] },
    /^config: "nowhere.config" does not exist/,
  ],
  ['a fragment that is a directory', { config: ['empty'] }, /is a directory/],
  ['a path that is not there', { path: 'nowhere' }, /^path: "nowhere" does not exist/],
  ['a path that is a file', { path: 'my fragment' }, /is not a directory/],
  ['a root without a shell', { root: 'empty' }, /has no \/bin\/sh/],
  ['a disk with a comma', { disk: ['a, b.img'] }, /has a comma/],
  ['CPUs', { cpus: '0' }, /^cpus is "0": it takes a number/],
  ['an accelerator', { accel: 'xen' }, /^accel is "xen": it takes auto, kvm, tcg/],
  ['a network', { network: 'user,hostfwd=tcp::22-:22' }, /^network is/],
  ['a boolean', { ccache: 'maybe' }, /^ccache is "maybe"/],
  ['a suffix', { localversion: ' $(reboot)' }, /^localversion is/],
  ['a ccache size', { 'ccache-max-size': 'big' }, /^ccache-max-size is "big"/],
  ['a variable', { env: ['1X=y'] }, /^env: "1X=y"/],
  ['a variable that is not set', { env: ['UNSET'] }, /^env: UNSET is not set here/],
  ['a config base', { 'config-base': 'maximal' }, /^config-base: "maximal" does not exist/],
  ['no commands', { run: '  \n' }, /^run is empty/],
]

describe('invalid input is refused with one sentence', () => {
  it.each(refused)('%s', (_what, raw, sentence) => {
    expect(() => parse(raw)).toThrow(InputError)
    expect(() => parse(raw)).toThrow(sentence)
  })

  it('and names the option', () => {
    let error: unknown
    try {
      parse({ memory: '12x' })
    } catch (thrown) {
      error = thrown
    }
    expect(error).toMatchObject({ option: 'memory' })
  })

  it('commands given twice', () => {
    expect(() => parse({ run: 'true' }, ['false'])).toThrow(/given twice/)
  })
})

it('defaults, lists and relative paths come out typed', () => {
  const request = parse({
    config: ['my fragment', 'test'],
    append: ['a=1 b', 'c'],
    env: ['SET', 'X=a=b'],
    opts: "--cwd 'a b'",
  })
  expect(request).toMatchObject({
    path: cwd,
    root: '/',
    memoryMiB: 1024,
    localversion: '-rc',
    configBase: { kind: 'minimal' },
    fragments: [join(cwd, 'my fragment'), 'test'],
    append: ['a=1', 'b', 'c'],
    env: { SET: 'value', X: 'a=b' },
    opts: ['--cwd', 'a b'],
    deadlines: { boot: 120, run: 1800, idle: Number.POSITIVE_INFINITY },
    command: { kind: 'script', text: 'true' },
  })
})

it.each(CONFIG_BASES)('%s is a config base, not a file', kind => {
  expect(parse({ 'config-base': kind }).configBase).toEqual({ kind })
})

it('an empty suffix is a suffix', () => {
  expect(parse({ localversion: '' }).localversion).toBe('')
})

describe("virtme-run's own --net among its options", () => {
  it.each([
    [{ opts: '--net bridge' }, { kind: 'bridge', bridge: 'virbr0' }, []],
    [
      { opts: '--sound --net=bridge=br0 --balloon' },
      { kind: 'bridge', bridge: 'br0' },
      ['--sound', '--balloon'],
    ],
    [{ opts: '--balloon --net user' }, { kind: 'user' }, ['--balloon']],
    // a network option takes precedence, and virtme-run gets its own option unchanged
    [{ opts: '--net loop', network: 'user' }, { kind: 'user' }, ['--net', 'loop']],
    [{ opts: '--net' }, { kind: 'none' }, ['--net']],
  ])('%j: %s', (raw, network, opts) => {
    const request = parse({ run: 'true', ...raw })
    expect([request.network, request.opts]).toEqual([network, opts])
  })

  it('has to be a network', () =>
    expect(() => parse({ run: 'true', opts: '--net tap' })).toThrow(/^network is "tap"/))
})
