import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Outcome } from '../../src/boot/outcome.js'
import { withoutHashes } from '../../src/boot/secrets.js'
import { countCcache } from '../../src/build/ccache.js'
import { parseDiagnostic, parseStep } from '../../src/build/diagnostics.js'
import { helpText } from '../../src/commands/help.js'
import { VERSION } from '../../src/commands/version.js'
import { holds, parseConfigLine } from '../../src/config/fragments.js'
import { describeLoss, nearest, parseReasons } from '../../src/config/kconfig.js'
import { artifactName } from '../../src/github/artifacts.js'
import { readInputs, unknownInputs } from '../../src/github/inputs.js'
import { childEnvironment } from '../../src/host/environment.js'
import { shellQuote } from '../../src/host/shell-quote.js'
import { judge, type OutputFacts } from '../../src/judge/verdict.js'
import { codeBlock, inline } from '../../src/report/markdown.js'
import { repeatCommand } from '../../src/report/repeat-command.js'
import { summarize } from '../../src/report/summary.js'
import type { Request } from '../../src/request/request.js'
import type { Result } from '../../src/result.js'
import { packageTag } from '../../src/source/distro.js'
import { redactUrl, splitAncestor } from '../../src/source/fetch.js'
import { kernelVersion } from '../../src/source/locate.js'
import type { Finding } from '../../src/triage/finding.js'

const ROOT = join(import.meta.dirname, '..', '..')

describe('the verdict of an outcome', () => {
  const outcome = (facts: Partial<Outcome>): Outcome => ({
    started: true,
    panicked: false,
    cancelled: false,
    exit: { status: 0 },
    timestamps: { banner: 0.3 },
    modules: {},
    leaks: [],
    ...facts,
  })
  const request = { deadlines: { boot: 1, run: 2, idle: 3 } } as Request
  const cases: [string, Partial<Outcome>, string][] = [
    ['status 0 and a power-off', { status: 0, shutdown: 'guest-shutdown' }, 'passed'],
    ['status 7', { status: 7, shutdown: 'guest-shutdown' }, 'test-failed'],
    ['a panic after status 0', { status: 0, panicked: true }, 'panic'],
    ['a reset after status 0', { status: 0, shutdown: 'guest-reset' }, 'panic'],
    ['a panic while the commands ran', { panicked: true }, 'panic'],
    ['a panic before the commands', { started: false, panicked: true }, 'boot-failed'],
    ['a reset before the commands', { started: false, shutdown: 'guest-reset' }, 'boot-failed'],
    ['the boot deadline', { started: false, expired: 'boot' }, 'boot-failed'],
    ['the run deadline', { expired: 'run' }, 'hang'],
    ['a stuck power-off', { status: 0, expired: 'shutdown' }, 'hang'],
    ['no status at all', { exit: { signal: 'SIGKILL' } }, 'infra-error'],
    ['a power-off without a status', { shutdown: 'guest-shutdown' }, 'test-failed'],
    ['no banner under KVM', { started: false, expired: 'banner', timestamps: {} }, 'infra-error'],
    ['QEMU that did not start', { started: false, exit: { status: 1 }, timestamps: {} }, 'infra-error'],
    ['a full disk beats the status', { status: 0, outputLimit: 'full' }, 'infra-error'],
    ['a cancelled run', { cancelled: true, panicked: true }, 'cancelled'],
  ]
  it.each(cases)('%s', (_what, facts, verdict) =>
    expect(judge(outcome(facts), request, { findings: [], oomKills: [] }).verdict).toBe(verdict),
  )
})

describe('the verdict with findings and tests', () => {
  const outcome = (facts: Partial<Outcome>): Outcome => ({
    ...{ started: true, panicked: false, cancelled: false, exit: { status: 0 }, timestamps: { banner: 0.3 } },
    ...{ modules: {}, leaks: [] },
    ...facts,
  })
  const request = { deadlines: { boot: 1, run: 2, idle: 3 } } as Request
  const finding = (title: string, more: Partial<Finding> = {}): Finding => ({
    ...{ title, type: 'WARNING', fingerprint: title, line: 1, stack: [], report: [], count: 1 },
    ...more,
  })
  const counts = { passed: 1, failed: 0, skipped: 0, crashed: 0, missing: 0, total: 1 }
  const tests = (more: Partial<typeof counts>) => ({ counts: { ...counts, ...more }, tests: [], errors: [] })
  const frame = (symbol: string) => ({ symbol, exact: false })
  const cases: [string, Partial<Outcome>, Partial<OutputFacts>, string, string][] = [
    ['a splat beats success', { status: 0 }, { findings: [finding('a'), finding('b')] }, 'splat', 'a'],
    ['a splat beats a failed test', { status: 1 }, { findings: [finding('a')] }, 'splat', 'a'],
    [
      'a panic is named by the fatal finding',
      { panicked: true },
      { findings: [finding('a'), finding('b', { panic: 'p' }), finding('c')] },
      'panic',
      'b',
    ],
    [
      'a hang is named by the stalled task',
      { expired: 'run' },
      { findings: [finding('a'), finding('b', { type: 'HANG' })] },
      'hang',
      'b',
    ],
    [
      'a hang is not named by a CPU that waits for the stalled one',
      { expired: 'run' },
      {
        findings: [
          finding('a', { type: 'HANG', stack: [frame('multi_cpu_stop')] }),
          finding('b', { type: 'HANG' }),
        ],
      },
      'hang',
      'b',
    ],
    [
      'a hang without a report gets a sentence',
      { expired: 'run' },
      { findings: [finding('a')] },
      'hang',
      'The commands did not end within 2 s (run-timeout).',
    ],
    [
      'tests that failed',
      { status: 0 },
      { tests: tests({ failed: 2 }) },
      'test-failed',
      'The commands succeeded, but 2 tests failed.',
    ],
    [
      'tests that never ran',
      { status: 0 },
      { tests: tests({ missing: 1 }) },
      'test-failed',
      'The commands succeeded, but 1 test failed.',
    ],
    [
      'a process that the OOM killer ended',
      { status: 137 },
      { oomKills: [{ pid: 1, process: 'eater', line: 1 }] },
      'test-failed',
      'The commands exited with status 137; the kernel had killed eater for lack of memory.',
    ],
    [
      'a reset before the first line',
      { started: false, shutdown: 'guest-reset', timestamps: {} },
      {},
      'boot-failed',
      'The guest was reset before it printed a line.',
    ],
    [
      'a guest that resets while its hang state is collected',
      { expired: 'run', shutdown: 'guest-reset' },
      {},
      'hang',
      'The commands did not end within 2 s (run-timeout).',
    ],
  ]
  it.each(cases)('%s', (_what, facts, output, verdict, title) => {
    const judgement = judge(outcome(facts), request, { findings: [], oomKills: [], ...output })
    expect([judgement.verdict, judgement.title]).toEqual([verdict, title])
  })
})

describe('config lines', () => {
  it.each([
    ['CONFIG_A=y', { name: 'A', value: 'y' }],
    ['# CONFIG_B is not set', { name: 'B', value: 'n' }],
    ['CONFIG_C="a \\" b"', { name: 'C', value: '"a \\" b"' }],
    ['CONFIG_D=0x10', { name: 'D', value: '0x10' }],
  ])('%s', (line, ask) => expect(parseConfigLine(line, 'f:1', 'user')).toMatchObject(ask))
  it('comments and empty lines say nothing', () => {
    expect(parseConfigLine('# a comment', 'f:1', 'user')).toBeUndefined()
    expect(parseConfigLine('  ', 'f:1', 'user')).toBeUndefined()
  })
  it.each(['KVM=y', 'CONFIG_X', 'CONFIG_X=yes', 'CONFIG_X="open', 'CONFIG_X=y; reboot'])(
    '%s is refused with its place',
    line => {
      expect(() => parseConfigLine(line, 'my.config:3', 'user')).toThrow(
        /^my\.config:3: .*is not a config line/,
      )
    },
  )
  it.each([
    ['n', undefined, true],
    ['y', 'm', false],
    ['m', 'y', false],
    ['0x10', '16', true],
    ['16', '0x10', true],
    ['""', undefined, true],
    ['"a"', '"b"', false],
  ])('requested %s, got %s: %s', (requested, got, expected) => {
    const option = { name: 'X', value: requested, origin: '', requestedBy: 'user' as const }
    expect(holds(option, new Map(got === undefined ? [] : [['X', got]]))).toBe(expected)
  })
})

describe('losses', () => {
  const ask = { name: 'KVM_AMD', value: 'y', origin: 'my.config:3', requestedBy: 'user' as const }
  const reasons = parseReasons(
    'symbol KVM_AMD tristate n\nprompt yes\nunmet VIRTUALIZATION [=n]\nunmet KVM [=n]\nunmet KVM [=n]\nsymbol NOPE unknown -\nsymbol CRC32 tristate y\nprompt yes\nselected ACPI [=y] && A [=y]\n',
  )
  it('names option, place and unmet dependency', () => {
    expect(describeLoss(ask, 'n', reasons.get('KVM_AMD'), undefined)).toBe(
      'CONFIG_KVM_AMD=y (my.config:3) became n: it depends on VIRTUALIZATION [=n] and KVM [=n].',
    )
  })
  it('names the nearest option', () => {
    expect(nearest('KASSAN', ['KASAN', 'KCSAN', 'NET'])).toBe('KASAN')
    expect(nearest('QQQQ', ['KASAN', 'NET'])).toBeUndefined()
    expect(describeLoss({ ...ask, name: 'NOPE' }, 'n', reasons.get('NOPE'), 'NOP')).toContain(
      'did you mean CONFIG_NOP?',
    )
  })
  it('names what selects it', () => {
    expect(
      describeLoss({ ...ask, name: 'CRC32', value: 'n' }, 'y', reasons.get('CRC32'), undefined),
    ).toContain('selected by ACPI')
  })
})

describe('compiler output', () => {
  it.each([
    [
      '../kernel/fork.c:12:5: error: expected',
      { file: 'kernel/fork.c', line: 12, column: 5, message: 'expected' },
    ],
    ['/w/src/fs/x.c:3: error: no', { file: 'fs/x.c', line: 3, message: 'no' }],
    ['../include/a.h:1:10: fatal error: b.h: No such file', { file: 'include/a.h', line: 1 }],
  ])('%s', (line, diagnostic) => expect(parseDiagnostic(line, '/w/src')).toMatchObject(diagnostic))
  it.each(['../a.c:1:2: warning: unused', '  CC      a.o', 'note: error: not at a place'])(
    '%s is no error',
    line => expect(parseDiagnostic(line, '/w')).toBeUndefined(),
  )
  it('knows Kbuild steps', () => {
    expect(parseStep('  CC [M]  drivers/a.o')).toEqual({ verb: 'CC', what: 'drivers/a.o' })
    expect(parseStep('make[1]: Entering')).toBeUndefined()
  })
  it('counts ccache', () => {
    expect(
      countCcache('# a.c\ndirect_cache_hit\npreprocessed_cache_hit\ncache_miss\nlocal_storage_hit\n'),
    ).toEqual({ hits: 2, misses: 1 })
  })
})

describe('sources', () => {
  it.each([
    ['main~2', { base: 'main', depth: 2 }],
    ['HEAD^^', { base: 'HEAD', depth: 2 }],
    ['v6.1~3^', { base: 'v6.1', depth: 4 }],
    ['v6.1', undefined],
  ])('%s', (ref, parts) => expect(splitAncestor(ref)).toEqual(parts))
  it('tags of packages are refs', () => {
    expect(packageTag('6.12.117-1~deb12u1')).toBe('debian/6.12.117-1_deb12u1')
    expect(packageTag('1:2.0-1')).toBe('debian/1%2.0-1')
  })
  it('a URL is shown without its token', () => {
    expect(redactUrl('https://user:token@host/x.git')).toBe('https://host/x.git')
  })
  it('reads a kernel Makefile, and no other', () => {
    const makefile =
      'VERSION = 6\nPATCHLEVEL = 13\nSUBLEVEL = 0\nEXTRAVERSION = -rc1\nKERNELVERSION = $(shell x)\n'
    expect(kernelVersion(makefile)).toBe('6.13.0-rc1')
    expect(kernelVersion('VERSION = 2\nPATCHLEVEL = 1\nall:\n')).toBeUndefined()
  })
})

describe('what is said', () => {
  const nasty = '```\n\x1b[31mred\x1b[0m <script>alert(1)</script>\n| a | b |\n::error::x\n````\n\0'
  it('a code block cannot be closed from within', () => {
    const block = codeBlock(nasty, 20)
    expect(block.startsWith('`````text\n')).toBe(true)
    expect(block).not.toContain('\x1b')
    expect(block).not.toContain('\0')
  })
  it('a line of Markdown is only text', () => {
    expect(inline('a|b <img> [x](y) `c`\nd')).toBe('a\\|b \\<img\\> \\[x\\](y) \\`c\\` d')
  })
  it('the summary stays small whatever happened', () => {
    const result: Result = {
      schema: 1,
      verdict: 'build-failed',
      title: 'x'.repeat(5000),
      reason: '',
      findings: [],
      started: '',
      seconds: 1,
      runDirectory: '/nonexistent',
      repeat: `kc -e '${'y'.repeat(200_000)}'`,
      timings: [],
      warnings: Array(500).fill('w'.repeat(2000)),
      files: {},
      error: {
        message: '',
        details: Array(1000).fill('d'.repeat(1000)),
        diagnostics: Array(100).fill({ file: 'f'.repeat(999), line: 1, message: 'm'.repeat(9999) }),
      },
    }
    expect(Buffer.byteLength(summarize(result))).toBeLessThan(100_000)
  })
  describe('a summary', () => {
    const failed: Result = {
      ...{ schema: 1, verdict: 'config-failed', title: 'A became n.', reason: 'A became n.', findings: [] },
      ...{ started: '', seconds: 1, runDirectory: '/nonexistent', repeat: 'kc', timings: [] },
      ...{ warnings: [], files: {}, error: { message: '', details: ['A became n.'], diagnostics: [] } },
    }
    it('says nothing twice', () => {
      expect(summarize(failed).match(/A became n/g)).toHaveLength(1)
      const more = { message: '', details: ['A became n.', 'B became m.'], diagnostics: [] }
      expect(summarize({ ...failed, error: more })).toContain('```text\nA became n.\nB became m.\n```')
    })
    it('draws no table of which nothing is known', () => {
      expect(summarize(failed)).not.toContain('What was tested')
    })
    it.each([
      [1, 1],
      [45, 5],
      [400, 60],
      [100_000, 3600],
    ])('a run of %i seconds has few marks on its axis', (seconds, every) => {
      const timings = ['source', 'boot'].map(stage => ({ stage, seconds: seconds / 2, summary: '' }))
      expect(summarize({ ...failed, timings } as Result)).toContain(`\n  tickInterval ${every}second\n`)
    })
    it('names what opens a vmcore by the paths of the reader', () => {
      const open = '/venv/bin/drgn -c /nonexistent/vmcore -s /nonexistent/vmlinux'
      const dumped: Result = { ...failed, vmcore: { bytes: 1, open } as Result['vmcore'] }
      expect(summarize(dumped)).toContain(`\n${open}\n`)
      expect(summarize(dumped, { dumpUploaded: true })).toContain('\ndrgn -c vmcore -s vmlinux\n')
    })
  })
  it('the line that repeats a run keeps quotes and leaves paths of the runner out', () => {
    const raw = {
      release: 'next',
      ref: 'main',
      run: "echo 'a b'",
      path: '/runner/work',
      append: ['x=1', 'y'],
      'skip-build': 'true',
      memory: '1G',
    }
    expect(repeatCommand(raw, 'abc')).toBe(`kc -r next -c abc -e 'echo '\\''a b'\\''' -s -a x=1 -a y`)
  })
  it('a word for the shell is one word', () => {
    expect(shellQuote("it's $HOME")).toBe(`'it'\\''s $HOME'`)
  })
  it('help fits a tall screen', () => {
    const lines = helpText().split('\n')
    expect(lines.length).toBeLessThanOrEqual(80)
    expect(Math.max(...lines.map(line => line.length))).toBeLessThanOrEqual(100)
  })
})

describe('inputs of the action', () => {
  it('are read as the runner names them', () => {
    expect(
      readInputs({
        INPUT_RUN: ' a\n',
        'INPUT_CONFIG-ITEMS': 'CONFIG_A=y\n\n  CONFIG_B=m\n',
        INPUT_MEMORY: '',
        INPUT_REF: ' v1 ',
      }),
    ).toEqual({
      run: ' a\n',
      'config-items': ['CONFIG_A=y', 'CONFIG_B=m'],
      ref: 'v1',
    })
  })
  it('unknown ones are reported with the nearest name', () => {
    expect(unknownInputs({ INPUT_CONFG: 'x', INPUT_ZZZZZZ: '', INPUT_RUN: '' })).toEqual([
      'There is no input "confg"; did you mean config?',
      'There is no input "zzzzzz".',
    ])
  })
  it('artifact names are what GitHub takes', () => {
    expect(artifactName('a:b/c', { GITHUB_JOB: 'j"x', GITHUB_RUN_ATTEMPT: '2' }, 'u')).toBe('a_b_c-j_x-2-u')
  })
})

it('children inherit no token', () => {
  const env = {
    PATH: '/bin',
    GITHUB_TOKEN: 'x',
    INPUT_RUN: 'x',
    ACTIONS_RUNTIME_TOKEN: 'x',
    LC_ALL: 'C',
    https_proxy: 'p',
    SSH_AUTH_SOCK: 's',
  }
  expect(childEnvironment('plain', {}, env)).toEqual({ PATH: '/bin', LC_ALL: 'C', https_proxy: 'p' })
  expect(childEnvironment('network', {}, env)).toHaveProperty('SSH_AUTH_SOCK')
})

it('hashes leave the shadow file, accounts stay', () => {
  expect(withoutHashes('root:$6$abc:19000:0:::\nbin:*:1::\nnobody::2:\n')).toBe(
    'root:*:19000:0:::\nbin:*:1::\nnobody::2:\n',
  )
})

it('the version is the one of package.json', () => {
  expect(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version).toBe(VERSION)
})
