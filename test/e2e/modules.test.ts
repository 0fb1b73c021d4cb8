import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { guest as boot, kcWith, ROOT } from '../kc.js'
import { kernelFor, kernelWords } from '../kernels.js'

const guest: typeof boot = (args, options) => boot(args, { kernel: 'minimal', ...options })

const FIXTURES = join(ROOT, 'test', 'fixtures', 'modules')
const [HELLO, USES, PACKAGE, BROKEN] = ['hello', 'uses', 'package', 'broken'].map(name =>
  join(FIXTURES, name),
) as [string, string, string, string]
const load = (...directories: string[]) => directories.flatMap(directory => ['--modules', directory])

describe('external modules', () => {
  it('are built against this very kernel, also one from the cache, loaded in order, and removed', async () => {
    const end = await kcWith('minimal', [
      ...[...kernelWords('minimal'), '--accel', 'tcg', ...load(HELLO, USES, PACKAGE)],
      ...['-e', 'cut -d" " -f1 /proc/modules | sort; modinfo -F description kc_package'],
    ])
    expect([end.status, end.stdout.toString()], end.stderr).toEqual([
      0,
      'kc_hello\nkc_package\nkc_uses\nA DKMS package\n',
    ])
    expect(end.result?.kernel?.cache?.hit).toBe(true)
    expect(end.result?.modules).toEqual([
      { name: 'kc_hello', source: HELLO, loaded: true },
      { name: 'kc_uses', source: USES, loaded: true },
      { name: 'kc_package', source: PACKAGE, loaded: true },
    ])
    const console = readFileSync(join(end.runDirectory ?? '', 'console.log'), 'latin1')
    // loaded before the one that uses it, removed after it
    expect(console).toMatch(
      /hello: loaded[\s\S]*uses: 42[\s\S]*removing kc_uses[\s\S]*removing kc_hello[\s\S]*hello: goodbye/,
    )
    // nothing was written beside the sources, and nothing is left of what was needed to build
    expect(readdirSync(HELLO)).toEqual(['Makefile', 'kc-hello.c'])
    // what is left is the kernel's build directory for the next run
    expect(readdirSync(join(await kernelFor('minimal'), 'modules'))).toHaveLength(1)
  })

  it('are cross-compiled', async () => {
    const end = await boot([...load(HELLO), '-e', 'cut -d" " -f1 /proc/modules'], { kernel: 'arm64' })
    expect([end.status, end.stdout.toString()], end.stderr).toEqual([0, 'kc_hello\n'])
  })

  it('are charged with their splats, at a line of their source', async () => {
    const end = await guest([...load(HELLO, USES), ...['-e', 'echo 1 > /sys/module/kc_uses/parameters/warn']])
    expect([end.result?.verdict, end.result?.title], end.stderr).toEqual(['splat', 'WARNING in set_warn'])
    const [finding] = end.result?.findings ?? []
    const line = readFileSync(join(USES, 'kc_uses.c'), 'utf8')
      .split('\n')
      .findIndex(text => /WARN\(/.test(text))
    expect([finding?.module, finding?.around?.file, finding?.around?.line]).toEqual([
      'kc_uses',
      'test/fixtures/modules/uses/kc_uses.c',
      line + 1,
    ])
    expect(end.stderr).toContain(
      `error: test/fixtures/modules/uses/kc_uses.c:${line + 1}: WARNING in set_warn`,
    )
  })

  it('are charged with what they leak, by the name that the code had', async () => {
    // kmemleak takes whatever is left of a pointer, on a stack or in a slab, for a reference: of several one is lost
    const leak = 'for i in 1 2 3 4 5 6; do echo 1 > /sys/module/kc_uses/parameters/leak; done'
    const end = await boot([...load(HELLO, USES), '-e', leak], { kernel: 'kasan' })
    expect([end.result?.verdict, end.result?.title, end.result?.findings[0]?.module], end.stderr).toEqual([
      'splat',
      'memory leak in set_leak',
      'kc_uses',
    ])
  })

  it('leak nothing when they leak nothing', async () => {
    const end = await boot([...load(HELLO, USES), '-e', 'true'], { kernel: 'kasan' })
    expect([end.result?.verdict, end.result?.findings], end.stderr).toEqual(['passed', []])
  })

  it('that refuse to load fail the run, and the commands are not run', async () => {
    const end = await guest([...load(PACKAGE), '-a', 'kc_package.refuse=1', '-e', 'echo ran'])
    expect([end.result?.verdict, end.result?.title, end.stdout.toString()], end.stderr).toEqual([
      'test-failed',
      expect.stringMatching(
        /^The module kc_package did not load, and the commands were not run: .*(?:I\/O|Input\/output) error\.$/,
      ),
      '',
    ])
  })

  it('that cannot be removed fail the run', async () => {
    const end = await guest([...load(HELLO, USES), ...['-e', 'echo 1 > /sys/module/kc_uses/parameters/hold']])
    expect([end.status, end.result?.title], end.stderr).toEqual([
      1,
      expect.stringMatching(/^The module kc_uses could not be removed: .*unavailable\.$/),
    ])
  })

  it('that do not compile fail as builds do, with file and line', async () => {
    const end = await guest([...load(BROKEN), '-e', 'true'])
    expect(end.result?.verdict, end.stderr).toBe('build-failed')
    expect(end.result?.error?.diagnostics[0]).toMatchObject({
      file: 'test/fixtures/modules/broken/kc_broken.c',
      line: 6,
      external: true,
      message: expect.stringContaining('no_such_function'),
    })
    expect(readFileSync(join(end.runDirectory ?? '', 'build.log'), 'utf8')).toContain('no_such_function')
  })

  it('that use an undefined symbol fail as builds do', async () => {
    const end = await guest([...load(USES), '-e', 'true'])
    expect([end.result?.verdict, end.result?.title], end.stderr).toEqual([
      'build-failed',
      expect.stringMatching(/^The module \S*uses does not build: .*"kc_hello_count".* undefined!/),
    ])
  })
})
