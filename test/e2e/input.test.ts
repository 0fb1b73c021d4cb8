import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { DISTRO_REPOSITORY, guest, kc, kcWith, ROOT, scratch } from '../kc.js'
import { kernelWords } from '../kernels.js'

let place = ''
beforeAll(() => {
  place = scratch('input')
})
afterAll(() => rmSync(place, { recursive: true, force: true }))

const lastLine = (text: string) => text.trimEnd().split('\n').pop() ?? ''

it.each([
  [['--commit=-x', '-e', 'true'], /^kc: ref is "-x": a ref cannot begin with a dash\.$/m],
  [['-c', '-x', '-e', 'true'], /^kc: ref is "-x": a ref cannot begin with a dash\.$/m],
  [['-m', '12x', '-e', 'true'], /^kc: memory is "12x"/],
  [['--run-timeout', '0', '-e', 'true'], /^kc: run-timeout is "0"/],
  [['--boot-timeout=-1', '-e', 'true'], /^kc: boot-timeout is "-1"/],
  [['-f', 'nowhere.config', '-e', 'true'], /^kc: config: "nowhere.config" does not exist/],
  [['--memroy', '1G', '-e', 'true'], /^kc: unknown option '--memroy'/],
  [['-C', '/nonexistent', '-e', 'true'], /^kc: path: "\/nonexistent" does not exist/],
  [['-e', ''], /^kc: run is empty/],
  [['frobnicate'], /^kc: /],
])('%j: status 2 and one sentence', async (args, sentence) => {
  const end = await kc(args)
  expect(end.status).toBe(2)
  expect(end.stderr).toMatch(sentence)
  expect(end.stdout.toString()).toBe('')
  expect(end.runDirectory).toBeUndefined()
})

it.each([
  ['an unknown tree', ['-r', 'mainlien', '-e', 'true'], /did you mean mainline\?/],
  ['an unknown ref', ['-r', 'distro', '-c', 'v9.99', '-e', 'true'], /distro has no commit "v9\.99"/],
  ['a path that is not a repository', ['-C', '/usr', '-e', 'true'], /is not a git checkout/],
  ['a repository that is not a kernel', ['-C', ROOT, '-e', 'true'], /Linux kernel tree/],
])('%s: source-failed', async (_what, args, sentence) => {
  const end = await kc(args)
  expect(end.status).toBe(9)
  expect(end.result?.verdict).toBe('source-failed')
  expect(lastLine(end.stderr)).toMatch(sentence)
})

it('an option that does not survive Kconfig: config-failed, with its origin and the reason', async () => {
  const series = '6.12'
  const fragment = join(place, `mine-${series}.config`)
  writeFileSync(fragment, '# mine\nCONFIG_VETH=m\nCONFIG_KVM_AMD=y\n# CONFIG_NET is not set\nCONFIG_NET=y\n')
  const items = [
    '--configitem',
    'CONFIG_KASSAN=y',
    '--configitem',
    'CONFIG_UNIX=m',
    '--configitem',
    '# CONFIG_CRC32 is not set',
  ]
  const end = await kc(['-r', 'distro', '-c', series, '-f', fragment, ...items, '-e', 'true'])
  expect(end.status).toBe(8)
  expect(end.result?.verdict).toBe('config-failed')
  const details = end.result?.error?.details.join('\n') ?? ''
  expect(details).toContain(
    `CONFIG_KVM_AMD=y (${basename(fragment)}:3) became n: it depends on VIRTUALIZATION [=n] and KVM [=n].`,
  )
  expect(details).toContain(
    'CONFIG_KASSAN (config-items:1): this tree has no such option; did you mean CONFIG_KASAN?',
  )
  expect(details).toMatch(/CONFIG_CRC32=n \(config-items:3\) became y: it is selected by /)
  // the user's word on VETH won over ours, and nothing of ours was lost on this source
  expect(readFileSync(join(end.runDirectory ?? '', 'result.json'), 'utf8')).not.toContain('CONFIG_VETH')
  expect(end.result?.warnings).toEqual([])
})

it.each(['virtme', 'defconfig'])(
  'the config base %s is generated, and requested options are checked',
  async base => {
    const end = await kc([
      '-r',
      'distro',
      '-c',
      '6.12',
      '--config-base',
      base,
      '--configitem',
      'CONFIG_NOPE=y',
      '-e',
      'true',
    ])
    expect(end.result?.error?.details).toEqual([
      expect.stringMatching(/^CONFIG_NOPE \(config-items:1\): this tree has no such option/),
    ])
    expect(end.result?.warnings).toEqual([])
    expect(readFileSync(join(end.runDirectory ?? '', 'config'), 'utf8')).toContain('CONFIG_NET_9P_VIRTIO=')
  },
)

it('a file as config base is taken as it is', async () => {
  const before = await guest(['-e', 'true'])
  const base = join(place, 'base.config')
  writeFileSync(base, readFileSync(join(before.runDirectory ?? '', 'config')))
  const words = ['--config-base', base, '--debug-info', 'none', '--accel', 'tcg', '-e', 'true']
  const end = await kcWith('tiny', ['-r', 'distro', '-c', '6.12', ...words])
  expect(end.result?.verdict, end.stderr).toBe('passed')
  expect(end.result?.kernel).toMatchObject({
    configBase: 'file',
    configHash: before.result?.kernel?.configHash,
    reused: true,
  })
})

it('an option of ours that depends on what the user took away gives way with a warning', async () => {
  const end = await kc([
    '-r',
    'distro',
    '-c',
    '6.12',
    '--configitem',
    'CONFIG_RTC_CLASS=n',
    '--configitem',
    'CONFIG_KVM_AMD=y',
    '-e',
    'true',
  ])
  expect(end.result?.warnings.join('\n')).toMatch(
    /Left out: CONFIG_RTC_DRV_CMOS=y \(kernelcraft\/userspace-x86_64\.config:\d+\)/,
  )
  expect(end.result?.error?.details).toHaveLength(1)
})

it('a line of a fragment that is not a config line is refused with its file and number', async () => {
  const fragment = join(place, 'bad.config')
  writeFileSync(fragment, 'CONFIG_A=y\nKVM=yes please\n')
  const end = await kc(['-r', 'distro', '-f', fragment, '-e', 'true'])
  expect([end.status, lastLine(end.stderr)]).toEqual([
    2,
    expect.stringContaining('bad.config:2: "KVM=yes please"'),
  ])
})

/** A PATH with every program of this machine but these. */
function pathWithout(...names: string[]): string {
  const directory = join(place, `without-${names.join('-')}`)
  mkdirSync(directory, { recursive: true })
  for (const dir of (process.env.PATH ?? '').split(':').reverse()) {
    let entries: string[] = []
    try {
      entries = readdirSync(dir)
    } catch {
      continue
    }
    for (const entry of entries) {
      if (names.includes(entry)) continue
      rmSync(join(directory, entry), { force: true })
      symlinkSync(join(dir, entry), join(directory, entry))
    }
  }
  return directory
}

it('a machine without QEMU: infra-error that says how to get it', async () => {
  const end = await kc(['-r', 'distro', '-e', 'true'], {
    env: { PATH: pathWithout('qemu-system-x86_64', 'qemu-kvm') },
  })
  expect(end.status).toBe(10)
  expect(lastLine(end.stderr)).toMatch(
    /needs qemu, which is not on this machine: run `(sudo )?apt-get install .*qemu-system-x86`/,
  )
})

it('a machine without virtme-ng: infra-error that says how to get it', async () => {
  const end = await kc(['-r', 'distro', '-e', 'true'], {
    env: { PATH: pathWithout('virtme-run', 'vng'), KERNELCRAFT_CACHE: join(place, 'empty-cache') },
  })
  expect(end.status).toBe(10)
  expect(lastLine(end.stderr)).toMatch(
    /virtme-run of virtme-ng 1\.42 or newer is missing.*`kc doctor --install`/,
  )
})

it('a cache that cannot be written: one sentence', async () => {
  const end = await kc(['-e', 'true'], { env: { KERNELCRAFT_CACHE: '/proc/kernelcraft' } })
  expect(end.status).toBe(2)
  expect(lastLine(end.stderr)).toMatch(/^kc: The run directory cannot be created under/)
})

it('a cache in which make cannot build: one sentence', async () => {
  const end = await kc(['-e', 'true'], { env: { KERNELCRAFT_CACHE: join(place, 'a cache') } })
  expect(end.status).toBe(2)
  expect(lastLine(end.stderr)).toMatch(/^kc: The cache directory ".*a cache" has a blank or a colon/)
})

it('a disk that fills up while the guest prints: infra-error, and the guest is ended', async () => {
  const disk = join(place, 'small disk')
  mkdirSync(disk)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=80m', 'tmpfs', disk])
  try {
    const end = await guest(['--run-directory', join(disk, 'run'), '-e', 'cat /dev/zero'])
    expect(end.status).toBe(10)
    expect(lastLine(end.stderr)).toMatch(/infra-error: .*full/)
  } finally {
    execFileSync('umount', [disk])
  }
})

it('a tree that does not compile: build-failed with file and line', async () => {
  // a commit of its own on top of the distribution's, in a checkout of its own
  const checkout = join(place, 'linux')
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', checkout, ...args], { encoding: 'utf8' }).trim()
  execFileSync('git', [
    'clone',
    '--quiet',
    '--shared',
    '--no-checkout',
    '--branch',
    '6.12',
    DISTRO_REPOSITORY,
    checkout,
  ])
  git('read-tree', 'HEAD')
  const broken = `${git('show', 'HEAD:init/version.c')}\nint broken(void) { return undeclared_thing; }\n`
  const blob = execFileSync('git', ['-C', checkout, 'hash-object', '-w', '--stdin'], {
    input: broken,
    encoding: 'utf8',
  }).trim()
  git('update-index', '--cacheinfo', `100644,${blob},init/version.c`)
  git('-c', 'user.name=t', '-c', 'user.email=t@t', 'commit', '--quiet', '-m', 'break init/version.c')
  // the options without the tree and the ref
  const end = await kc(['-C', checkout, ...kernelWords('tiny').slice(4), '--accel', 'tcg', '-e', 'true'])
  expect(end.status).toBe(7)
  expect(end.result?.error?.diagnostics[0]).toMatchObject({
    file: 'init/version.c',
    message: expect.stringContaining('undeclared_thing'),
  })
  expect(end.stderr).toMatch(/error: init\/version\.c:\d+:/)
  expect(end.result?.source?.subject).toBe('break init/version.c')
  expect(readFileSync(join(end.runDirectory ?? '', 'build.log'), 'utf8')).toContain('undeclared_thing')
})
