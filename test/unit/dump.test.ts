import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Qmp } from '../../src/boot/qmp.js'
import { checkDump, parseBuildId } from '../../src/dump/check-dump.js'
import { judgeCrash } from '../../src/dump/crash.js'
import { openCommand } from '../../src/dump/debuggers.js'
import { decodeFrames, parseAddr2line } from '../../src/dump/decode-stack.js'
import { isFlattened, unflatten } from '../../src/dump/flatten.js'
import { parseVmcoreinfo } from '../../src/dump/kdump.js'
import { treeRelative, treeRoot } from '../../src/dump/paths.js'
import { parseEntry, SymbolTable } from '../../src/dump/symbols.js'
import { takeDump } from '../../src/dump/take-dump.js'

const FIXTURES = join(import.meta.dirname, '..', 'fixtures', 'dump')

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kc-dump-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const pair = (offset: bigint, size: bigint) => {
  const bytes = Buffer.alloc(16)
  bytes.writeBigInt64BE(offset, 0)
  bytes.writeBigInt64BE(size, 8)
  return bytes
}
const piece = (offset: number, data: Buffer) =>
  Buffer.concat([pair(BigInt(offset), BigInt(data.length)), data])
const END = pair(-1n, -1n)
const header = () => {
  const bytes = Buffer.alloc(4096)
  bytes.write('makedumpfile')
  return bytes
}

const PAGE = 4096
const RELEASE = '6.12.0-rc'

/** A dump of two pages, as QEMU writes it: with the machine as the only name. */
function kdump(vmcoreinfo = `OSRELEASE=${RELEASE}\nBUILD-ID=abcd\n`): Buffer {
  const bytes = Buffer.alloc(6 * PAGE + 100)
  bytes.write('KDUMP   ')
  bytes.write('x86_64', 12 + 4 * 65)
  bytes.writeInt32LE(PAGE, 428)
  bytes.writeInt32LE(1, 432)
  bytes.writeUInt32LE(2, 436)
  bytes.writeBigUInt64LE(BigInt(PAGE + 200), PAGE + 32)
  bytes.writeBigUInt64LE(BigInt(vmcoreinfo.length), PAGE + 40)
  bytes.write(vmcoreinfo, PAGE + 200)
  bytes.writeUInt8(0b101, 3 * PAGE)
  for (const [page, offset] of [5 * PAGE, 6 * PAGE].entries()) {
    bytes.writeBigUInt64LE(BigInt(offset), 4 * PAGE + page * 24)
    bytes.writeUInt32LE(100, 4 * PAGE + page * 24 + 8)
  }
  return bytes
}

/** The flattened form, in two pieces of which the second comes first. */
function flattened(plain = kdump()): Buffer {
  return Buffer.concat([header(), piece(PAGE, plain.subarray(PAGE)), piece(0, plain.subarray(0, PAGE)), END])
}

describe('the flattened format', () => {
  const MAX_BYTES = 1 << 24
  const unflattened = async (bytes: Buffer, maxBytes = MAX_BYTES) => {
    const from = join(directory, 'flat')
    const to = join(directory, 'plain')
    await writeFile(from, bytes)
    const size = await unflatten(from, to, maxBytes)
    return { size, bytes: await readFile(to) }
  }

  it('is distinguished from the plain one', async () => {
    const path = join(directory, 'x')
    for (const [bytes, expected] of [
      [flattened(), true],
      [kdump(), false],
      [Buffer.alloc(0), false],
    ] as const) {
      await writeFile(path, bytes)
      expect(await isFlattened(path)).toBe(expected)
    }
  })

  it('is unflattened, with pieces in any order and larger than the buffer', async () => {
    const plain = Buffer.alloc(3_000_000, 7)
    kdump().copy(plain)
    const flat = Buffer.concat([
      header(),
      piece(2_500_000, plain.subarray(2_500_000)),
      piece(1_000, plain.subarray(1_000, 2_500_000)),
      piece(0, plain.subarray(0, 1_000)),
      END,
    ])
    const { size, bytes } = await unflattened(flat)
    expect([size, bytes.equals(plain)]).toEqual([plain.length, true])
  })

  const whole = flattened()
  it.each([
    ['without its signature', Buffer.concat([Buffer.alloc(4096), whole.subarray(4096)]), /no signature/],
    ['truncated in a piece', whole.subarray(0, 9000), /middle of a piece/],
    ['truncated in a header', whole.subarray(0, -3), /middle of a header/],
    ['without its end mark', whole.subarray(0, -16), /middle of a header/],
    ['with bytes after its end', Buffer.concat([whole, Buffer.alloc(1)]), /continues after/],
    ['with a negative offset', Buffer.concat([header(), pair(-2n, 8n), Buffer.alloc(8), END]), /offset -2/],
    ['with a negative size', Buffer.concat([header(), pair(0n, -8n), END]), /-8 bytes/],
    ['with an empty piece', Buffer.concat([header(), pair(0n, 0n), END]), /0 bytes/],
    ['with a huge offset', Buffer.concat([header(), pair(1n << 62n, 8n), Buffer.alloc(8), END]), /offset/],
    ['of something else', Buffer.concat([header(), piece(0, Buffer.alloc(64)), END]), /no kdump signature/],
    ['of nothing', Buffer.concat([header(), END]), /no kdump signature/],
  ])('is refused %s', async (_what, bytes, message) => {
    await expect(unflattened(bytes)).rejects.toThrow(message)
  })

  it('is refused if it is larger than the limit', async () => {
    await expect(unflattened(whole, PAGE)).rejects.toThrow(/bytes at offset/)
  })
})

describe('taking a dump', () => {
  /** A fake QEMU that writes these bytes; `over` replaces replies. */
  function qemu(bytes: Buffer, over: Record<string, (args?: Record<string, unknown>) => unknown> = {}) {
    const formats: string[] = []
    const replies: typeof over = {
      'query-dump-guest-memory-capability': () => ({ formats: ['elf', 'kdump-zlib'] }),
      'dump-guest-memory': async args => {
        formats.push(String(args?.format))
        await writeFile(String(args?.protocol).replace('file:', ''), bytes, { mode: 0o400 })
        return {}
      },
      'query-dump': () => ({ status: 'completed', completed: 1, total: 1 }),
      ...over,
    }
    const qmp: Qmp = { execute: async (command, args) => replies[command]?.(args), close: () => {} }
    return { qmp, formats }
  }
  const limits = { maxBytes: 1 << 24, deadline: 20, machine: 'x86_64' }
  const target = () => join(directory, 'vmcore')

  it('unflattens it, fills in the names, and leaves one file', async () => {
    const result = await takeDump(qemu(flattened()).qmp, target(), limits)
    expect(result).toMatchObject({ ok: true, bytes: kdump().length })
    expect(await readdir(directory)).toEqual(['vmcore'])
    const bytes = await readFile(target())
    expect(bytes.subarray(PAGE)).toEqual(kdump().subarray(PAGE))
    const name = (index: number) => bytes.toString('latin1', 12 + index * 65).split('\0')[0]
    expect([0, 1, 2, 3, 4, 5].map(name)).toEqual(['Linux', '(none)', RELEASE, '#1', 'x86_64', '(none)'])
    expect((await stat(target())).mode & 0o777).toBe(0o600)
  })

  it('chooses the plain format where QEMU has it', async () => {
    const { qmp, formats } = qemu(kdump(), {
      'query-dump-guest-memory-capability': () => ({ formats: ['kdump-zlib', 'kdump-raw-zlib'] }),
    })
    expect(await takeDump(qmp, target(), limits)).toMatchObject({ ok: true })
    expect(formats).toEqual(['kdump-raw-zlib'])
  })

  const refuse = () => {
    throw new Error('dump-guest-memory: no')
  }
  const active = () => ({ status: 'active', completed: 1, total: 2 })
  it.each([
    ['refuses', qemu(flattened(), { 'dump-guest-memory': refuse }), {}, 'refused', false],
    ['has exited', qemu(flattened(), { 'query-dump': refuse }), {}, 'refused', true],
    ['fails', qemu(flattened(), { 'query-dump': () => ({ status: 'failed' }) }), {}, 'refused', false],
    [
      'has no zlib',
      qemu(flattened(), { 'query-dump-guest-memory-capability': () => ({ formats: ['elf'] }) }),
      {},
      'refused',
      false,
    ],
    ['writes too much', qemu(Buffer.alloc(3 << 20), { 'query-dump': active }), {}, 'too-large', true],
    ['is too slow', qemu(flattened(), { 'query-dump': active }), { deadline: 0.2 }, 'deadline', true],
    [
      'is cancelled',
      qemu(flattened(), { 'query-dump': active }),
      { cancel: AbortSignal.abort() },
      'cancelled',
      true,
    ],
    ['writes half of it', qemu(flattened().subarray(0, 9000)), {}, 'broken', false],
    ['writes nonsense', qemu(Buffer.from('nonsense')), {}, 'broken', false],
    ['writes nothing', qemu(Buffer.alloc(0)), {}, 'broken', false],
  ] as const)('leaves nothing behind where QEMU %s', async (_what, { qmp }, over, failure, writing) => {
    const result = await takeDump(qmp, target(), {
      maxBytes: 1 << 20,
      deadline: 20,
      machine: 'x86_64',
      ...over,
    })
    expect(result).toMatchObject({ ok: false, failure, writing, reason: expect.stringMatching(/\w/) })
    expect(await readdir(directory)).toEqual([])
  })

  it('reports why a file cannot be written', async () => {
    const result = await takeDump(qemu(flattened()).qmp, join(directory, 'none', 'vmcore'), limits)
    expect(result).toMatchObject({ ok: false, failure: 'refused', reason: expect.stringContaining('ENOENT') })
  })
})

describe('checking a dump', () => {
  const check = async (bytes: Buffer) => {
    const path = join(directory, 'vmcore')
    await writeFile(path, bytes)
    return await checkDump(path, process.execPath)
  }
  const broken = (change: (bytes: Buffer) => void) => {
    const bytes = kdump()
    change(bytes)
    return bytes
  }
  it.each([
    ['truncated', kdump().subarray(0, -1), /incomplete/],
    ['truncated in its header', kdump().subarray(0, 100), /too early/],
    ['of another format', flattened(), /no kdump signature/],
    ['with an invalid header', broken(bytes => bytes.writeInt32LE(-1, 432)), /invalid header/],
    ['with an invalid VMCOREINFO', broken(bytes => bytes.writeInt32LE(-1, PAGE + 40)), /invalid VMCOREINFO/],
    [
      'without VMCOREINFO',
      broken(bytes => bytes.writeBigUInt64LE(0n, PAGE + 40)),
      /does not name its kernel/,
    ],
    ['of another kernel', kdump(), /build id/],
  ])('refuses one %s', async (_what, bytes, reason) => {
    expect(await check(bytes)).toMatchObject({ ok: false, reason: expect.stringMatching(reason) })
  })
  it('refuses one that does not exist', async () => {
    expect(await checkDump(join(directory, 'none'), process.execPath)).toMatchObject({ ok: false })
  })
  it('reads build ids and VMCOREINFO', () => {
    expect(parseBuildId('  GNU  0x14 NT_GNU_BUILD_ID\n    Build ID: 00ff\n')).toBe('00ff')
    expect(parseBuildId('')).toBeUndefined()
    expect([...parseVmcoreinfo('OSRELEASE=6.1\nNUMBER(X)=a=b\n=\nnone\n')]).toEqual([
      ['OSRELEASE', '6.1'],
      ['NUMBER(X)', 'a=b'],
    ])
  })
})

describe('the output of crash', () => {
  const read = (name: string) => readFile(join(FIXTURES, name), 'utf8')
  it('shows that it is older than the kernel', async () => {
    const probe = judgeCrash(await read('crash-too-old.stdout'), await read('crash-too-old.stderr'))
    expect(probe).toMatchObject({ works: false, reason: expect.stringContaining('does not understand') })
  })
  it('shows that it does not find all tasks', async () => {
    const probe = judgeCrash(await read('crash-some-tasks.stdout'), '')
    expect(probe).toMatchObject({ works: false, reason: expect.stringContaining('all tasks') })
  })
  it('is accepted without errors', async () => {
    // the same without the errors
    const text = (await read('crash-some-tasks.stdout'))
      .replace(/^(WARNING|bt): .*$/gm, '')
      .replace(/^WARNING.*$/m, '')
    expect(judgeCrash(text, '')).toMatchObject({
      works: true,
      text: expect.stringContaining('sysrq_handle_crash'),
    })
    expect(judgeCrash(text.replace(/^ #.*$/gm, ''), '')).toMatchObject({ works: false })
    expect(judgeCrash(text.replace(/^>? +\d+ .*$/gm, ''), '')).toMatchObject({ works: false })
    expect(judgeCrash(`${text}\x1b[2J`, '')).toMatchObject({
      works: true,
      text: expect.not.stringContaining('\x1b'),
    })
  })
})

describe('the tree', () => {
  const OUT = '/home/me/kernel/src/.out-x86_64'
  it.each([
    ['absolute, other directory', `${OUT}/../init/main.c`, `${OUT}/../kernel/panic.c`, 'kernel/panic.c'],
    [
      "another tree's, out of the cache",
      `${OUT}/../init/main.c`,
      '/else/.out-x86_64/../mm/slub.c',
      'mm/slub.c',
    ],
    ['with steps inside', `${OUT}/../init/main.c`, `${OUT}/../arch/x86/../../lib/x.c`, 'lib/x.c'],
    ['relative', '../init/main.c', '../drivers/tty/sysrq.c', 'drivers/tty/sysrq.c'],
    ['relative, generated', '../init/main.c', './include/generated/x.h', 'include/generated/x.h'],
    ['built in the tree', '/s/init/main.c', '/s/net/core/dev.c', 'net/core/dev.c'],
    ['mapped', 'init/main.c', 'net/core/dev.c', 'net/core/dev.c'],
    ['mapped, hidden', 'init/main.c', '.tmp/x.c', '.tmp/x.c'],
    ['of a module outside of the tree', '/s/init/main.c', '/home/me/mod/x.c', '/home/me/mod/x.c'],
    ['without a root', '', '../mm/slub.c', 'mm/slub.c'],
  ])('%s', (_what, anchor, file, expected) => {
    expect(treeRelative(file, treeRoot(anchor))).toBe(expected)
  })
})

describe('code addresses', () => {
  const LISTING = [
    'vmlinux:     file format elf64-x86-64',
    '',
    'SYMBOL TABLE:',
    'ffffffff81000000 l    d  .text\t0000000000000000 .text',
    '0000000000000000 l    df *ABS*\t0000000000000000 panic.c',
    'ffffffff81000100 l     F .text\t0000000000000031 name_show',
    'ffffffff81000140 g     F .text\t00000000000000f7 .hidden panic',
    'ffffffff81000240 l     F .text\t000000000000005a name_show',
    'ffffffff810002a0 l     F .text\t0000000000000010 lock.constprop.0.llvm.123',
    'ffffffff82000000 g     O .data\t0000000000000010 panic_cpu',
    'ffffffff81f00000 g     F .init.text\t00000000000006c2 start_kernel',
  ]
  it('of ppc64 are parsed with st_other before their names', () => {
    const line = 'c000000000473784 l     F .text\t000000000000002c 0x60 lkdtm_WARNING'
    expect(parseEntry(line)).toMatchObject({
      name: 'lkdtm_WARNING',
      address: 0xc000000000473784n,
      size: 0x2cn,
    })
  })

  const table = new SymbolTable(LISTING.flatMap(line => parseEntry(line) ?? []))
  it.each([
    ['panic', 0x10, 0x100, '.text', 0xffffffff81000150n],
    ['name_show', 1, 0x40, '.text', 0xffffffff81000101n],
    ['name_show', 1, 0x60, '.text', 0xffffffff81000241n],
    ['name_show', 0x50, undefined, '.text', 0xffffffff81000290n],
    ['lock.constprop.0', 0, 0x10, '.text', 0xffffffff810002a0n],
    ['start_kernel', 4, 0x6c2, '.init.text', 0xffffffff81f00004n],
  ] as const)('%s+%i/%i', (name, offset, size, section, address) => {
    expect(table.find(name, offset, size)).toEqual({ address, section })
  })
  it.each([
    ['panic', 0x200],
    ['panic_cpu', 0],
    ['nothing', 0],
    ['constructor', 0],
  ])('%s+%i is unknown', (name, offset) => expect(table.find(name, offset)).toBeUndefined())

  it('are found by addr2line, inlined ones first', () => {
    const lines = parseAddr2line([
      '0xffffffff81000150',
      'inner',
      '/s/kernel/a.h:7 (discriminator 3)',
      'panic',
      '/s/kernel/panic.c:9',
      '0xffffffff81000151',
      '??',
      '??:0',
      '0xffffffff81000152',
      'asm',
      '/s/entry.S:?',
      '0xffffffff81000153',
    ])
    expect(lines).toEqual([
      [
        { function: 'inner', file: '/s/kernel/a.h', line: 7, inlined: true },
        { function: 'panic', file: '/s/kernel/panic.c', line: 9, inlined: false },
      ],
      [],
      [],
      [],
    ])
  })

  it('stay unknown without debug information', async () => {
    const address = { symbol: 'panic', offset: 1, size: 2, exact: false }
    expect(await decodeFrames({ vmlinux: join(directory, 'none') }, [address])).toEqual([[]])
    expect(await decodeFrames({ vmlinux: '' }, [])).toEqual([])
  })
})

describe('the command that opens a dump', () => {
  it.each([
    ['drgn', '/r/vmcore', '/r/vmlinux', 'drgn -c /r/vmcore -s /r/vmlinux'],
    ['crash', "/it's/vmcore", '/r/vmlinux', "crash /r/vmlinux '/it'\\''s/vmcore'"],
  ] as const)('%s', (name, vmcore, vmlinux, line) => {
    expect(openCommand(vmcore, vmlinux, { name })).toBe(line)
  })
})
