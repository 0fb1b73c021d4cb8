import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { BuiltKernel } from '../../src/build/build-kernel.js'
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
  it.each(others)('%s changes its keys, and is named', (_what, other) => {
    expect(kernelKey(other, 'config')).not.toBe(kernelKey(IDENTITY, 'config'))
    expect(configKeyOf(other, 'requested')).not.toBe(configKeyOf(IDENTITY, 'requested'))
    const rest = { values: new Map<string, string>(), commit: 'c' }
    expect(differences({ ...rest, identity: IDENTITY }, { ...rest, identity: other })).toHaveLength(1)
  })
  it('the configuration changes its key', () =>
    expect(kernelKey(IDENTITY, 'one')).not.toBe(kernelKey(IDENTITY, 'two')))
  it('the order in which tools were found does not change it', () => {
    const toolchain = Object.fromEntries(Object.entries(IDENTITY.toolchain).reverse())
    expect(kernelKey({ ...IDENTITY, toolchain }, 'config')).toBe(kernelKey(IDENTITY, 'config'))
  })
})

describe('the kernel cache', () => {
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

  const KERNEL: BuiltKernel = {
    ...{ arch: 'x86_64', release: '6.12.0-rc', configHash: 'c', compiler: 'gcc' },
    ...{ image: join(out, 'image'), vmlinux: join(out, 'vmlinux'), reused: false },
  }
  const key = (digit: number) => String(digit).repeat(64)
  const commit = { sha: 'a'.repeat(40), subject: 'a commit' }
  const store = (digit: number, kernel = KERNEL) =>
    storeKernel(key(digit), { kernel, out, identity: IDENTITY, commit })
  const silent = () => {
    throw new Error('unexpected warning')
  }

  it('returns what was stored, and nothing for another key', async () => {
    await store(1)
    expect(await findKernel(key(1), silent)).toMatchObject({
      release: '6.12.0-rc',
      image: entryPath(key(1), 'image'),
    })
    expect(await findKernel(key(2), silent)).toBeUndefined()
    expect(readdirSync(entryPath(key(1))).sort()).toEqual([
      'config',
      'image',
      'kdir.tar',
      'manifest.json',
      'vmlinux',
    ])
  })

  it.each(['image', 'vmlinux', 'config', 'kdir.tar'])(
    'a damaged %s is a miss, with a warning',
    async name => {
      await store(1)
      writeFileSync(entryPath(key(1), name), 'something else\n')
      const warnings: string[] = []
      expect(await findKernel(key(1), message => warnings.push(message))).toBeUndefined()
      expect(warnings).toEqual([expect.stringContaining(`(${name} is not what was stored)`)])
      expect(existsSync(entryPath(key(1)))).toBe(false)
    },
  )

  it('does not replace a kernel with vmlinux by one without', async () => {
    await store(1)
    const stored = await store(1, { ...KERNEL, vmlinux: join(out, 'none'), builtOn: 'host' })
    expect([stored.builtOn, existsSync(stored.vmlinux)]).toEqual(['host', true])
  })

  it('removes the least recently used first, and never what a process holds', async () => {
    for (const digit of [1, 2, 3]) await store(digit)
    for (const [index, digit] of [2, 3, 1].entries()) {
      const used = 1000 * (index + 1)
      utimesSync(entryPath(key(digit), 'manifest.json'), used, used)
      // as if this process had ended, which holds them all
      rmSync(join(process.env.KERNELCRAFT_CACHE ?? '', 'kernels', 'held', key(digit)), { recursive: true })
    }
    const [{ bytes = 0 } = {}] = await listKernels()
    expect((await pruneKernels(2 * bytes)).map(({ manifest }) => manifest.key)).toEqual([key(2)])
    await holdKernel(key(3))
    expect((await pruneKernels(0)).map(({ manifest }) => manifest.key)).toEqual([key(1)])
    expect((await listKernels()).map(({ manifest }) => manifest.key)).toEqual([key(3)])
  })
})

describe('the process that holds something', () => {
  const self = processId(process.pid)
  it.each([
    ['this process', self, true],
    ['another one with its number, started at another time', { ...self, start: '1' }, false],
    ['one of another boot', { ...self, boot: 'another' }, false],
    ['one of another PID namespace', { ...self, namespace: 'pid:[1]', pid: 1 }, true],
    [
      'one of another PID namespace, a day ago',
      { ...self, namespace: 'pid:[1]', noted: Date.now() - 86400_000 },
      false,
    ],
  ])('%s', (_what, id, alive) => expect(isAlive(id)).toBe(alive))

  it('a container has a namespace of its own', () => {
    const args = ['--pid', '--fork', '--mount-proc', 'readlink', '/proc/self/ns/pid']
    const other = execFileSync('unshare', args, { encoding: 'utf8' }).trim()
    expect(other).toMatch(/^pid:\[\d+\]$/)
    expect(other).not.toBe(self.namespace)
  })
})
