import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ARCH_NAMES, archOf, findArch } from '../../src/arch.js'
import { MAX_SHELLS, requestLine } from '../../src/boot/guest-requests.js'
import type { GuestLimits } from '../../src/boot/outcome.js'
import { type SupervisorOptions, superviseGuest } from '../../src/boot/supervise.js'
import { bridgeAllowed, macOf } from '../../src/host/bridge.js'
import { chooseGuest } from '../../src/host/choose-guest.js'
import { withEnvironment } from '../../src/host/proc.js'
import { RUN_VARIABLE, type RunningGuest } from '../../src/host/registry.js'
import type { Log } from '../../src/log.js'
import { isBundled } from '../../src/request/bundled-fragments.js'
import { OPTIONS } from '../../src/request/options.js'
import type { Request } from '../../src/request/request.js'
import { parseNetwork } from '../../src/request/values.js'
import { ROOT } from '../kc.js'

describe('architectures', () => {
  it('are those of the option --arch', () => {
    const option = OPTIONS.find(({ name }) => name === 'arch')
    expect(option?.choices).toEqual(ARCH_NAMES)
  })

  it.each(ARCH_NAMES)('%s has a fragment, the machine name that uname prints, and enough consoles', name => {
    expect(isBundled(name)).toBe(true)
    const arch = archOf(name)
    expect(findArch(arch.machine)).toBe(name)
    expect(findArch(arch.debian)).toBe(name)
    // HVC_ALLOC_TTY_ADAPTERS
    expect(arch.firstTerminal + MAX_SHELLS).toBeLessThan(8)
  })

  it.each(ARCH_NAMES.filter(name => archOf(name).panic === 'platform'))(
    '%s does not enable a device that its machine lacks',
    name => {
      const path = join(ROOT, 'src', 'config', 'fragments', `${name}.config`)
      expect(existsSync(path)).toBe(true)
      expect(readFileSync(path, 'utf8')).toContain('# CONFIG_PVPANIC is not set')
    },
  )
})

describe("requests to the guest's init", () => {
  it('are one line, whatever the value of TERM', () => {
    const shell = { verb: 'attach', number: 2, rows: 25, columns: 80 } as const
    expect(requestLine({ ...shell, term: 'tmux-256color', colorTerm: 'truecolor' })).toBe(
      'attach 2 25 80 tmux-256color truecolor\n',
    )
    expect(requestLine({ ...shell, term: 'x"; reboot #\nattach 1' })).toBe('attach 2 25 80 xrebootattach1\n')
    expect(requestLine({ ...shell, term: '"' })).toBe('attach 2 25 80 dumb\n')
    expect(requestLine({ ...shell, term: 'x'.repeat(9000) }).length).toBeLessThanOrEqual(512)
    expect(requestLine({ verb: 'size', number: 0, rows: 1, columns: 2 })).toBe('size 0 1 2\n')
    expect(requestLine({ verb: 'detach', number: 3 })).toBe('detach 3\n')
  })
})

/** Paths of the files that this process has open. */
const openFiles = () =>
  readdirSync('/proc/self/fd').flatMap(fd => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)]
    } catch {
      return []
    }
  })

describe('the supervision of a guest', () => {
  let directory: string
  let run: string
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'kc-supervise-'))
    run = join(directory, 'run')
    for (const path of [run, join(directory, 'tmp')]) await mkdir(path)
    vi.stubEnv('TMPDIR', join(directory, 'tmp'))
    vi.stubEnv('KERNELCRAFT_CACHE', join(directory, 'cache'))
  })
  afterEach(async () => {
    vi.unstubAllEnvs()
    await rm(directory, { recursive: true, force: true })
  })

  const request = {
    ...{ arch: 'x86_64', command: { kind: 'script', text: 'true' }, cpus: 1, memoryMiB: 64 },
    ...{ network: { kind: 'none' }, disks: [], append: [], opts: [], qemuOpts: [], numa: [], shares: [] },
  } as unknown as Request
  const never = Number.POSITIVE_INFINITY
  const limits: GuestLimits = { boot: never, run: never, idle: never, banner: never }
  const ignore = () => {}
  const log = { info: ignore, warning: ignore, detail: ignore, guest: ignore } as unknown as Log

  /** `script` takes the place of virtme-run. */
  const supervise = async (
    script: string,
    options: Partial<SupervisorOptions> = {},
    changes: Partial<Request> = {},
  ) => {
    const file = join(directory, 'virtme-run')
    await writeFile(file, `run=${run}\n${script}`)
    const launch = { virtmeRun: file, image: '/image', root: '/', accel: 'tcg', runDirectory: run } as const
    return await superviseGuest({ ...request, ...changes }, launch, limits, {
      ...{ wrapper: ['/bin/sh'], log, vmlinux: '/vmlinux', release: '6.12' },
      ...{ onConsole: () => false, onStdout: ignore, dump: async () => true },
      ...options,
    })
  }
  const leftovers = async () => ({
    processes: withEnvironment(RUN_VARIABLE, run),
    openFiles: openFiles().filter(path => path.startsWith(directory)),
    sockets: await readdir(join(directory, 'tmp')),
    registered: await readdir(join(directory, 'cache', 'running')).catch(() => []),
  })
  const NOTHING = { processes: [], openFiles: [], sockets: [], registered: [] }
  /** with a process that has left the group */
  const ENDLESS = 'setsid sleep 1000 &\necho Linux version >> $run/console.log\nsleep 1000\n'

  it('reports how virtme-run ended, and reads what was written last', async () => {
    const outcome = await supervise('echo "init 6.12\ncommands\nstatus 3" >> $run/control.log\nexit 5\n')
    expect(outcome).toMatchObject({ started: true, status: 3, release: '6.12', exit: { status: 5 } })
    await expect.poll(leftovers).toEqual(NOTHING)
  })

  it('ends the guest when it is cancelled', async () => {
    const cancel = new AbortController()
    const onConsole = () => {
      cancel.abort()
      return false
    }
    const outcome = await supervise(ENDLESS, { cancel: cancel.signal, onConsole })
    expect(outcome).toMatchObject({ cancelled: true, exit: { signal: 'SIGTERM' } })
    await expect.poll(leftovers).toEqual(NOTHING)
  })

  it('leaves nothing behind when a step throws', async () => {
    const onConsole = () => {
      throw new Error('a bug of ours')
    }
    await expect(supervise(ENDLESS, { onConsole })).rejects.toThrow('a bug of ours')
    await expect.poll(leftovers).toEqual(NOTHING)
    await expect(supervise(ENDLESS, {}, { append: ['x'.repeat(5000)] })).rejects.toThrow('append')
    await expect.poll(leftovers).toEqual(NOTHING)
  })

  it('leaves nothing behind when virtme-run cannot be started', async () => {
    expect(await supervise('', { wrapper: ['/nonexistent'] })).toMatchObject({ started: false, exit: {} })
    expect(readFileSync(join(run, 'virtme.log'), 'utf8')).toContain('ENOENT')
    await expect.poll(leftovers).toEqual(NOTHING)
  })
})

describe('choosing a guest', () => {
  const guest = (name: string) => ({ runDirectory: `/runs/2026-11-25-101010-${name}` }) as RunningGuest
  const [a, b] = [guest('aaaaaa'), guest('bbbbbb')]
  it('takes the only one, or one by name or directory', () => {
    expect(chooseGuest([a], undefined, 'kc attach')).toBe(a)
    expect(chooseGuest([a, b], 'bbbbbb', 'kc attach')).toBe(b)
    expect(chooseGuest([a, b], a.runDirectory, 'kc attach')).toBe(a)
  })
  it.each([
    [[], undefined, 'There is no running guest of kc for kc attach.'],
    [[], 'x', 'No running guest has the name or run directory x.'],
    [[a], 'x', 'No running guest has the name or run directory x; choose one of:\n    kc attach aaaaaa'],
    [[a, b], undefined, '2 guests are running, choose one:\n    kc attach aaaaaa\n    kc attach bbbbbb'],
  ])('lists the choices otherwise', (guests, wanted, sentence) => {
    expect(() => chooseGuest(guests, wanted, 'kc attach')).toThrow(sentence)
  })
})

describe('bridges', () => {
  it.each([
    ['none', { kind: 'none' }],
    ['user', { kind: 'user' }],
    ['loop', { kind: 'loop' }],
    ['bridge', { kind: 'bridge', bridge: 'virbr0' }],
    ['bridge=br-lan.1', { kind: 'bridge', bridge: 'br-lan.1' }],
  ])('%s is %j', (text, network) => expect(parseNetwork(text)).toEqual(network))

  it.each(['user=br0', 'bridge=', 'tap'])('%s is not a network', text =>
    expect(() => parseNetwork(text)).toThrow(),
  )

  // the rules of QEMU's helper: one line allows, and none denies
  it.each([
    ['', false],
    ['allow br0\n', true],
    ['  allow\tbr0  \n', true],
    ['# allow br0\n', false],
    ['allow all\ndeny br0\n', false],
    ['deny all\nallow br0\n', false],
    ['allow br1\n', false],
    ['include more\n', true],
    ['include again\n', false],
  ])('%j: %s', (text, expected) => {
    const files: Record<string, string> = { more: 'allow br0\n', again: 'include again\n' }
    expect(bridgeAllowed(text, 'br0', path => files[path] ?? '')).toBe(expected)
  })

  it('guests have different addresses with the prefix of QEMU', () => {
    const [one, two] = [macOf('/runs/a'), macOf('/runs/b')]
    expect(one).toMatch(/^52:54:00(:[0-9a-f]{2}){3}$/)
    expect(one).not.toBe(two)
  })
})
