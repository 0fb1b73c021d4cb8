import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Kernel } from '../../src/build/build-kernel.js'
import { configKeyOf, differences, type Identity, kernelKey } from '../../src/build/identity.js'
import {
  entryPath,
  findKernel,
  holdKernel,
  listKernels,
  pruneKernels,
  storeKernel,
} from '../../src/build/kernel-cache.js'
import { isAlive, processId } from '../../src/host/proc.js'

const IDENTITY: Identity = {
  tree: 'a'.repeat(40),
  toolchain: { gcc: 'gcc 12 [1]', ld: 'ld 2 [2]' },
  arch: 'x86_64',
  localversion: '-rc',
  modules: true,
}

describe('the identity of a kernel', () => {
  const others: [string, Identity][] = [
    ['the source', { ...IDENTITY, tree: 'b'.repeat(40) }],
    ['a tool', { ...IDENTITY, toolchain: { ...IDENTITY.toolchain, gcc: 'gcc 12 [3]' } }],
    ['one more tool', { ...IDENTITY, toolchain: { ...IDENTITY.toolchain, rustc: 'rustc 1 [4]' } }],
    ['the architecture', { ...IDENTITY, arch: 'arm64' }],
    ['the suffix', { ...IDENTITY, localversion: '' }],
    ['the modules', { ...IDENTITY, modules: false }],
  ]
  it.each(others)('%s makes another one, and is named', (_what, other) => {
    expect(kernelKey(other, 'config')).not.toBe(kernelKey(IDENTITY, 'config'))
    expect(configKeyOf(other, 'asked')).not.toBe(configKeyOf(IDENTITY, 'asked'))
    const made = { values: new Map<string, string>(), commit: 'c' }
    expect(differences({ ...made, identity: IDENTITY }, { ...made, identity: other })).toHaveLength(1)
  })
  it('so does the configuration', () =>
    expect(kernelKey(IDENTITY, 'one')).not.toBe(kernelKey(IDENTITY, 'two')))
  it('the order in which tools were found does not', () => {
    const toolchain = Object.fromEntries(Object.entries(IDENTITY.toolchain).reverse())
    expect(kernelKey({ ...IDENTITY, toolchain }, 'config')).toBe(kernelKey(IDENTITY, 'config'))
  })
})

describe('the store', () => {
  const root = mkdtempSync(join(tmpdir(), 'kernelcraft-store-'))
  const before = process.env.KERNELCRAFT_CACHE
  const out = join(root, 'out')
  beforeEach(() => {
    process.env.KERNELCRAFT_CACHE = mkdtempSync(join(root, 'cache-'))
    mkdirSync(out, { recursive: true })
    for (const name of ['image', 'vmlinux', '.config', 'Module.symvers'])
      writeFileSync(join(out, name), `${name}\n`)
  })
  afterEach(() => {
    if (before === undefined) delete process.env.KERNELCRAFT_CACHE
    else process.env.KERNELCRAFT_CACHE = before
  })
  afterAll(() => rmSync(root, { recursive: true, force: true }))

  const KERNEL: Kernel = {
    ...{ arch: 'x86_64', release: '6.12.0-rc', configHash: 'c', configBase: 'minimal', compiler: 'gcc' },
    ...{ image: join(out, 'image'), vmlinux: join(out, 'vmlinux'), reused: false },
  }
  const key = (digit: number) => String(digit).repeat(64)
  const commit = { sha: 'a'.repeat(40), subject: 'a commit' }
  const store = (digit: number, kernel = KERNEL) =>
    storeKernel(key(digit), { kernel, out, identity: IDENTITY, commit })
  const silent = () => {
    throw new Error('nothing was to be said')
  }

  it('gives back what it was given, and nothing for another key', async () => {
    await store(1)
    expect(await findKernel(key(1), silent)).toMatchObject({
      release: '6.12.0-rc',
      image: entryPath(key(1), 'image'),
    })
    expect(await findKernel(key(2), silent)).toBeUndefined()
    expect(readdirSync(entryPath(key(1))).sort()).toEqual([
      'config',
      'devel.tar',
      'image',
      'manifest.json',
      'vmlinux',
    ])
  })

  it.each(['image', 'vmlinux', 'config', 'devel.tar'])('a damaged %s is a miss, and told of', async name => {
    await store(1)
    writeFileSync(entryPath(key(1), name), 'something else\n')
    const told: string[] = []
    expect(await findKernel(key(1), sentence => told.push(sentence))).toBeUndefined()
    expect(told).toEqual([expect.stringContaining(`(${name} is not what was stored)`)])
    expect(existsSync(entryPath(key(1)))).toBe(false)
  })

  it('does not give a whole kernel up for one without vmlinux', async () => {
    await store(1)
    const brought = await store(1, { ...KERNEL, vmlinux: join(out, 'none'), builtOn: 'host' })
    expect([brought.builtOn, existsSync(brought.vmlinux)]).toEqual(['host', true])
  })

  it('loses what was used last at last, and never what somebody holds', async () => {
    for (const digit of [1, 2, 3]) await store(digit)
    for (const [index, digit] of [2, 3, 1].entries()) {
      const used = 1000 * (index + 1)
      utimesSync(entryPath(key(digit), 'manifest.json'), used, used)
      // this process holds them all; the notes of one that has ended say nothing
      rmSync(join(process.env.KERNELCRAFT_CACHE ?? '', 'kernels', 'held', key(digit)), { recursive: true })
    }
    const [{ bytes = 0 } = {}] = await listKernels()
    expect((await pruneKernels(2 * bytes)).map(({ manifest }) => manifest.key)).toEqual([key(2)])
    await holdKernel(key(3))
    expect((await pruneKernels(0)).map(({ manifest }) => manifest.key)).toEqual([key(1)])
    expect((await listKernels()).map(({ manifest }) => manifest.key)).toEqual([key(3)])
  })
})

describe('who holds something', () => {
  const self = processId(process.pid)
  it.each([
    ['this process', self, true],
    ['its number, of one that started at another time', { ...self, start: '1' }, false],
    ['one of another boot', { ...self, boot: 'another' }, false],
    ['one of another PID namespace', { ...self, namespace: 'pid:[1]', pid: 1 }, true],
    [
      'one of another PID namespace, a day ago',
      { ...self, namespace: 'pid:[1]', noted: Date.now() - 86400_000 },
      false,
    ],
  ])('%s', (_what, id, alive) => expect(isAlive(id)).toBe(alive))

  it('a container has a namespace of its own', () => {
    const words = ['--pid', '--fork', '--mount-proc', 'readlink', '/proc/self/ns/pid']
    const other = execFileSync('unshare', words, { encoding: 'utf8' }).trim()
    expect(other).toMatch(/^pid:\[\d+\]$/)
    expect(other).not.toBe(self.namespace)
  })
})
