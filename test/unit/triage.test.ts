import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseFailOn, parseIgnore } from '../../src/request/finding-rules.js'
import type { Finding } from '../../src/triage/finding.js'
import type { IgnoreWindow } from '../../src/triage/ignore-windows.js'
import { applyRules, ignoreWindows } from '../../src/triage/rules.js'
import { parseFrame, titleName } from '../../src/triage/stack.js'
import { type Triage, triage } from '../../src/triage/triage.js'

const FIXTURES = join(import.meta.dirname, '..', 'fixtures', 'console')

interface Fixture {
  name: string
  /** undefined: it contains no report */
  title?: string
  type?: string
  fingerprint?: string
  log: string
}

/** A file is a header of `# name: value` lines, an empty line, and a console log. */
function read(name: string): Fixture {
  const text = readFileSync(join(FIXTURES, name), 'latin1')
  const end = text.indexOf('\n\n')
  const header = text.slice(0, end)
  const field = (key: string) => new RegExp(`^# ${key}: (.*)$`, 'm').exec(header)?.[1]
  const log = text.slice(end + 2)
  return { name, title: field('title'), type: field('type'), fingerprint: field('fingerprint'), log }
}

const all = readdirSync(FIXTURES).map(read)
const reports = all.filter(({ title }) => title !== undefined)

function parse(log: string, windows: readonly IgnoreWindow[] = [], size = 65536): Triage {
  const parser = triage({ windows })
  const bytes = Buffer.from(log, 'latin1')
  for (let at = 0; at < bytes.length; at += size) parser.push(bytes.subarray(at, at + size))
  return parser.end()
}

describe('a console log', () => {
  it.each(reports)('$name', ({ log, title, type, fingerprint }) => {
    expect(parse(log).findings[0]).toMatchObject({ title, type, fingerprint })
  })
  it.each(all.filter(({ title }) => title === undefined))('$name has no report', ({ log }) => {
    expect(parse(log).findings.map(finding => finding.title)).toEqual([])
  })
  it('names the processes that the OOM killer ended', () => {
    expect(parse(read('oom-kill.txt').log).oomKills).toMatchObject([{ process: 'tail' }])
  })
  it('the line is the one at which the report begins', () => {
    const [finding] = parse(read('kernel-bug-in-lkdtm-bug.txt').log).findings
    expect(read('kernel-bug-in-lkdtm-bug.txt').log.split('\n')[(finding?.line ?? 0) - 1]).toContain(
      'kernel BUG at',
    )
  })
})

/** The same log in the form of other transports. */
const TRANSPORTS: Record<string, (log: string) => string> = {
  'CR-LF': log => log.replaceAll('\n', '\r\n'),
  colours: log => log.replace(/^(\[.*?\] )(.*)$/gm, '\x1b[32m$1\x1b[0m\x1b[31m$2\x1b[0m'),
  'no time stamps': log => log.replace(/^\[ *\d+\.\d+\](\[ *[TC]\d+\])? /gm, ''),
  'no callers': log => log.replace(/^(\[ *\d+\.\d+\])\[ *[TC]\d+\]/gm, '$1'),
  levels: log => log.replace(/^\[/gm, '<4>['),
  syslog: log => log.replace(/^\[/gm, 'Nov 25 01:02:03 host kernel: ['),
  'CPU prefixes': log => log.replace(/^\[/gm, 'CPU1: ['),
  'byte by byte': log => log,
}

describe.each(Object.entries(TRANSPORTS))('%s', (transport, change) => {
  it.each(reports)('$name', ({ log, title, type, fingerprint }) => {
    const size = transport === 'byte by byte' ? 1 : 4096
    expect(parse(change(log), [], size).findings[0]).toMatchObject({ title, type, fingerprint })
  })
})

describe('hostile logs', () => {
  it('truncated anywhere, nothing is thrown or invented', () => {
    for (const { log, title } of reports) {
      for (let cut = 0; cut < log.length; cut += 997) {
        const [finding] = parse(log.slice(0, cut)).findings
        // a part of a report may have a shorter title, but never that of another kind of bug
        if (finding) expect(finding.title.split(' in ')[0]?.slice(0, 4)).toBe(title?.slice(0, 4))
      }
    }
  })
  it('two interleaved reports are separated by their callers', () => {
    const one = read('warning-in-lkdtm-warning.txt')
    const two = read('kernel-bug-in-lkdtm-bug.txt')
    const [a, b] = [one, two].map(({ log }, index) =>
      log.replace(/^(\[ *\d+\.\d+\])\[ *[TC]\d+\]/gm, `$1[   T${900 + index}]`).split('\n'),
    ) as [string[], string[]]
    const mixed = a.flatMap((line, index) => [line, b[index] ?? '']).join('\n')
    const found = parse(mixed).findings.map(({ title, fingerprint }) => [title, fingerprint])
    expect(found).toContainEqual([one.title, one.fingerprint])
    expect(found).toContainEqual([two.title, two.fingerprint])
  })
  it('a line without end and a flood of reports are limited', () => {
    const long = triage()
    for (let at = 0; at < 200; at++) long.push(Buffer.alloc(1 << 20, 'BUG: x '))
    expect(long.end().findings.length).toBeLessThan(10)
    const many = triage()
    for (let at = 0; at < 5000; at++)
      many.push(Buffer.from(`[    1.000000] WARNING: CPU: 0 PID: 1 at a/b.c:${at} f${at}+0x1/0x2\n`))
    expect(many.end().findings.length).toBeLessThanOrEqual(200)
  })
  it('the same report twice is one finding with a count', () => {
    const { log } = read('warning-in-lkdtm-warning.txt')
    expect(parse(log + log.replaceAll('0x', '0x1')).findings).toMatchObject([{ count: 2 }])
  })
  it('the panic that follows a report is not a second finding', () => {
    const { log } = read('kernel-bug-in-lkdtm-bug.txt')
    const dying = `${log}[    9.000000][   T79] Kernel panic - not syncing: Fatal exception\n`
    expect(parse(dying).findings).toMatchObject([{ panic: 'Kernel panic - not syncing: Fatal exception' }])
  })
})

describe('other architectures', () => {
  const cases: [string, string, string][] = [
    [
      'arm64',
      `[    1.0000] Unable to handle kernel paging request at virtual address ffff800008f0\n[    1.0000] Internal error: Oops: 96000047 [#1] SMP\n[    1.0000] CPU: 0 PID: 70 Comm: sh\n[    1.0000] pc : bad_write+0x14/0x20\n[    1.0000] lr : do_it+0x10/0x20\n[    1.0000] Call trace:\n[    1.0000]  bad_write+0x14/0x20\n`,
      'BUG: unable to handle kernel paging request in bad_write',
    ],
    [
      'riscv',
      `[    1.0000] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000\n[    1.0000] Oops [#1]\n[    1.0000] CPU: 0 PID: 70 Comm: sh\n[    1.0000] epc : bad_read+0x8/0x10\n[    1.0000]  ra : do_it+0x10/0x20\n`,
      'BUG: unable to handle kernel NULL pointer dereference in bad_read',
    ],
    [
      'arm',
      `[    1.0000] 8<--- cut here ---\n[    1.0000] Unable to handle kernel NULL pointer dereference at virtual address 00000000\n[    1.0000] Internal error: Oops: 805 [#1] SMP ARM\n[    1.0000] PC is at bad_write+0xc/0x10\n[    1.0000] LR is at do_it+0x10/0x20\n`,
      'BUG: unable to handle kernel NULL pointer dereference in bad_write',
    ],
  ]
  it.each(cases)('%s', (_arch, log, title) => {
    expect(parse(log).findings.map(finding => finding.title)).toEqual([title])
  })
})

describe('frames', () => {
  it.each([
    [' foo+0x1/0x20', 'foo'],
    [' foo.isra.0+0x1/0x20 [mod]', 'foo.isra.0'],
    [' [<ffffffff81234567>] foo+0x1/0x20', 'foo'],
    [' <IRQ>  [<ffffffff81234567>] foo+0x1/0x20', 'foo'],
    [' foo+0x1/0x20 drivers/foo.c:12', 'foo'],
    ['RIP: 0010:foo+0x1/0x20', 'foo'],
    ['RIP: 0033:0x7f0000000000', undefined],
    [' ? foo+0x1/0x20', undefined],
    ['Code: 00 00 00', undefined],
  ])('%s', (text, symbol) => expect(parseFrame(text)?.symbol).toBe(symbol))
  it.each([
    ['__x64_sys_mount', 'sys_mount'],
    ['__do_sys_mount', 'sys_mount'],
    ['SyS_mount', 'sys_mount'],
    ['foo.constprop.0.isra.0', 'foo'],
    ['foo.cold', 'foo'],
  ])('%s is %s in a title', (symbol, name) => expect(titleName(symbol)).toBe(name))
})

describe('rules', () => {
  const finding = { title: 'WARNING in foo_bar', type: 'WARNING', fingerprint: '0123456789abcdef' } as Finding
  const NOW = new Date('2026-06-01T12:00:00Z')
  const judged = (failOn: string[], yaml: string) =>
    applyRules([finding], parseFailOn(failOn), parseIgnore(yaml, 'f.yml'), NOW)
  it.each<[string[], boolean]>([
    [['all'], true],
    [['none'], false],
    [['KASAN-*'], false],
    [['KASAN-*', 'WARNING'], true],
    [['KASAN-*, WARNING'], true],
    [['title:*foo*'], true],
    [['title:WARNING in bar'], false],
    [['fingerprint:0123456789abcdef'], true],
  ])('fail-on %s', (failOn, fails) => {
    expect(judged(failOn, '').findings[0]?.ignored === undefined).toBe(fails)
  })
  it.each([
    ['title: "WARNING in foo*"', true],
    ['title: "WARNING in fo"', false],
    ['type: warning', true],
    ['fingerprint: 0123456789abcdef', true],
  ])('ignore %s', (select, ignored) => {
    const { findings } = judged(['all'], `- {${select}, reason: known, expires: 2026-06-01}`)
    expect(findings[0]?.ignored).toBe(ignored ? 'known' : undefined)
  })
  it('an expired rule gets a warning and ignores nothing', () => {
    const { findings, warnings } = judged(['all'], '- {type: WARNING, reason: known, expires: 2026-05-31}')
    expect(findings[0]?.ignored).toBeUndefined()
    expect(warnings).toEqual([
      'ignore: rule 1 of f.yml expired on 2026-05-31 and no longer ignores "WARNING in foo_bar" (known).',
    ])
  })
  it.each([
    ['- {type: WARNING, expires: 2026-05-31}', /rule 1 of f.yml: a rule needs a reason/],
    ['- {type: WARNING, reason: x}', /needs the day on which it expires/],
    ['- {type: WARNING, reason: x, expires: soon}', /needs the day/],
    ['- {reason: x, expires: 2026-05-31}', /exactly one of/],
    ['- {type: A, title: B, reason: x, expires: 2026-05-31}', /exactly one of/],
    ['- {typ: A, reason: x, expires: 2026-05-31}', /"typ" is unknown/],
    ['- {between: [a], reason: x, expires: 2026-05-31}', /between takes two/],
    ['title: x', /not a list of rules/],
    ['- {', /not valid YAML/],
  ])('%s is refused', (yaml, sentence) => expect(() => parseIgnore(yaml, 'f.yml')).toThrow(sentence))
  it.each(['KASAN:*', 'a b c d!', ':'])('fail-on %s is refused', item =>
    expect(() => parseFailOn([item])).toThrow(/is not a finding type/),
  )
  it('reports between two lines are marked, others are not', () => {
    const { log, title } = read('warning-in-lkdtm-warning.txt')
    const rules = parseIgnore('- {between: [begins, ends], reason: provoked, expires: 2999-01-01}', 'f.yml')
    const outcome = (text: string) => {
      const output = parse(text, ignoreWindows(rules))
      return [
        applyRules(output.findings, [{ by: 'all' }], rules, NOW).findings.map(at => at.ignored),
        output.unclosed,
      ]
    }
    expect(outcome(`test begins\n${log}test ends\n`)).toEqual([['provoked'], []])
    expect(outcome(`test begins\ntest ends\n${log}`)).toEqual([[undefined], []])
    expect(outcome(`test begins\n${log}`)).toEqual([[undefined], [0]])
    expect(outcome(`test begins\n${log}test ends\n${log}`)).toEqual([['provoked', undefined], []])
    expect(title).toBe('WARNING in lkdtm_WARNING')
  })
})
