import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { XMLParser, XMLValidator } from 'fast-xml-parser'
import { describe, expect, it } from 'vitest'
import { toJunit } from '../../src/report/junit.js'
import { renderTests, testFacts, testsLine } from '../../src/report/tests.js'
import { ktapParser } from '../../src/triage/ktap.js'
import { LIMITS, noCounts, type TestCounts, type TestNode, type TestReport } from '../../src/triage/tests.js'

const FIXTURES = join(import.meta.dirname, '..', 'fixtures', 'ktap')
const ALL = readdirSync(FIXTURES)

const linesOf = (name: string) => readFileSync(join(FIXTURES, name), 'utf8').split('\n')

function parse(lines: Iterable<string>): TestReport | undefined {
  const parser = ktapParser()
  for (const line of lines) parser.line(line)
  return parser.end()
}

function report(lines: Iterable<string>): TestReport {
  const parsed = parse(lines)
  if (!parsed) throw new Error('the lines have no KTAP')
  return parsed
}

/** `name status: reason` of every test, subtests indented by a point. */
function outline(tests: readonly TestNode[], indent = ''): string[] {
  return tests.flatMap(({ name, status, reason, subtests }) => [
    `${indent}${name} ${status}${reason ? `: ${reason}` : ''}`,
    ...outline(subtests, `${indent}.`),
  ])
}

const counted = (counts: Partial<TestCounts>) => ({ ...noCounts(), ...counts })

const NO_RESULT = 'crashed: It started, but has no result.'
const PANIC = 'Kernel panic - not syncing: Fatal exception'

const cases: [string, Partial<TestCounts>, string[], string[]][] = [
  [
    'kunit.txt',
    { passed: 4, failed: 2, skipped: 1, total: 7 },
    [
      'ring failed',
      '.ring_empty passed',
      '.ring_full failed',
      '.ring_sizes passed',
      '..size 1 passed',
      '..size 2 skipped: too small',
      'tree passed',
      '.tree passed',
      // failed by itself: counted, although it has a subtest
      'exits failed',
      '.exits_fine passed',
    ],
    [],
  ],
  [
    'kselftest.txt',
    { passed: 7, failed: 3, skipped: 2, missing: 3, total: 15 },
    [
      'selftests: net: socket failed: exit=1',
      '.global.bind passed',
      '.global.listen failed',
      '.global.accept skipped: global.accept',
      'selftests: net: slow.sh failed: TIMEOUT 45 seconds',
      'selftests: net: absent skipped: no such device',
      'selftests: net: twice.sh passed',
      '.first passed',
      '.second passed',
      '.third passed: XFAIL known',
      'selftests: net: unhappy failed: exit=139',
      '.all is well passed',
      'selftests: net: short failed: A subtest did not pass.',
      '.one passed',
      '.missing tests missing: 3 planned tests never ran: Bail out! no memory',
      'selftests: net: plain.sh passed',
      '.is a result all the same passed',
    ],
    [],
  ],
  [
    'panic.txt',
    { passed: 3, crashed: 1, missing: 3, total: 7 },
    [
      'good passed',
      '.fine passed',
      `bad crashed: ${PANIC}`,
      '.before passed',
      `.during crashed: ${PANIC}`,
      `.missing tests missing: 1 planned test never ran: ${PANIC}`,
      `missing tests missing: 2 planned tests never ran: ${PANIC}`,
      'after passed',
    ],
    [],
  ],
  [
    'cut.txt',
    { passed: 2, missing: 2, total: 4 },
    [
      'selftests: mm: first passed',
      `selftests: mm: second ${NO_RESULT}`,
      '.one passed',
      '.missing tests missing: 1 planned test never ran',
      'missing tests missing: 1 planned test never ran',
    ],
    [],
  ],
  [
    'documents.txt',
    { passed: 6, failed: 1, total: 7 },
    [
      'builtin passed',
      '.case passed',
      'module_a passed',
      '.case passed',
      'module_b failed',
      '.case failed',
      'spec passed',
      '.x passed',
      '.y passed',
      'outer passed',
      '.inner passed',
      'last passed',
    ],
    [],
  ],
  [
    'directives.txt',
    { passed: 5, failed: 4, skipped: 5, total: 14 },
    [
      'a skipped: TODO not written yet',
      'b passed: TODO works already',
      'c skipped: XFAIL known',
      'd passed: XFAIL fails as it should',
      'e skipped: no device',
      'f skipped: lower case',
      'g skipped',
      'h failed: TIMEOUT 30 seconds',
      'i failed: ERROR out of memory',
      'j passed: rcode=0',
      'test #3 of a name passed',
      'test 12 passed',
      'only a reason failed: ERROR only a reason',
      'k failed: UNHEARD of',
    ],
    [],
  ],
  [
    'plans.txt',
    { passed: 9, crashed: 2, missing: 2, total: 13 },
    [
      'a passed',
      'b passed',
      'a passed',
      'extra passed',
      'a passed',
      'missing tests missing: 2 planned tests never ran',
      'without a plan passed',
      'Bail out! crashed: Bail out! no device',
      'hollow passed',
      `lost ${NO_RESULT}`,
      '.case passed',
      'other passed',
    ],
    [
      'A second plan, of 3 tests, is ignored.',
      'Expected test number 2, but found 3 (b).',
      'There are 2 results, but 1 test planned.',
      'KTAP version 2 is not known.',
      '0 tests ran: nothing to do.',
      'hollow: 0 tests ran.',
      'Expected test number 3, but found 2 (other).',
      'There are 3 results, but 2 tests planned.',
    ],
  ],
  [
    'mixed.txt',
    { passed: 2, total: 2 },
    [
      'selftests: lib: ring.sh passed',
      '.ring passed',
      '..ring_empty passed',
      'selftests: lib: proc.sh passed',
    ],
    [],
  ],
  [
    'hostile.txt',
    { passed: 4, failed: 3, missing: 99999999997, total: 100000000004 },
    [
      'a|b `c` <img src=x onerror=alert(1)> [x](y) &amp; ]]> "q" \'r\' failed',
      '</summary><script>alert(1)</script> failed',
      'true passed',
      'constructor passed',
      '::error::no command failed: @everyone #1 \\| |',
      '__proto__ failed: A subtest did not pass.',
      '.first passed',
      '.second passed',
      '.missing tests missing: 99999999997 planned tests never ran',
    ],
    ['__proto__: Expected test number 2, but found 1e+26 (second).'],
  ],
]

describe('KTAP', () => {
  it.each(cases)('%s', (name, counts, expected, errors) => {
    const parsed = report(linesOf(name))
    expect(outline(parsed.tests)).toEqual(expected)
    expect(parsed.counts).toEqual(counted(counts))
    expect(parsed.errors).toEqual(errors)
  })
  it('every fixture has an expectation', () => expect(cases.map(([name]) => name).sort()).toEqual(ALL.sort()))

  const prefixes: [string, (line: string) => string][] = [
    ['time stamps', line => `[    1.234567] ${line}`],
    ['time stamps and callers', line => `[    1.234567][   T12] ${line}`],
    ['time stamps and CPUs', line => `[12345.234567][    C0] ${line}`],
    ['levels', line => `<6>[    1.234567] ${line}`],
    ['dmesg -x', line => `kern  :info  : [    1.234567] ${line}`],
    ['dmesg -T', line => `[Mon Nov 23 10:00:00 2026] ${line}`],
    ['syslog', line => `Nov 23 10:00:00 some-host kernel: ${line}`],
    ['carriage returns', line => `${line}\r`],
    ['colours', line => `\x1b[32m[    1.234567] \x1b[0m\x1b[1m${line}\x1b[0m\r`],
    ['one space', line => ` ${line}`],
  ]
  it.each(prefixes)('%s change nothing', (_what, prefix) => {
    for (const name of ['kunit.txt', 'kselftest.txt', 'directives.txt', 'mixed.txt'])
      expect(report(linesOf(name).map(prefix))).toEqual(report(linesOf(name)))
  })

  it('unrelated lines are the log of the test that is running', () => {
    const ring = report(linesOf('kunit.txt')).tests[0]
    expect(ring?.log).toEqual([
      '# module: ring_test',
      '# ring: pass:2 fail:1 skip:0 total:3',
      '# Totals: pass:2 fail:1 skip:1 total:4',
    ])
    expect(ring?.subtests[1]?.log).toEqual([
      'e1000: eth0 NIC Link is Up',
      '# ring_full: EXPECTATION FAILED at lib/ring_test.c:41',
      'Expected ring_len(r) == 4, but',
      '    ring_len(r) == 3 (0x3)',
    ])
    expect(report(linesOf('kselftest.txt')).tests[0]?.subtests[0]?.log).toEqual([
      '# Starting 3 tests from 1 test cases.',
      '#            OK  global.bind',
    ])
  })

  it.each([
    ['nothing', []],
    ['a healthy log', ['Linux version 6.12.1', 'ok 1 this is not a test', '1..4', '# Subtest: neither']],
    ['a sentence about it', ['We speak KTAP version 1 here.', 'ok 1 a']],
  ])('%s is not KTAP', (_what, lines) => expect(parse(lines)).toBeUndefined())
})

describe('hostile KTAP', () => {
  it('nesting is limited', () => {
    const lines = Array.from({ length: 2000 }, (_, depth) => `${' '.repeat(depth)}KTAP version 1`)
    const parsed = report([...lines, `${' '.repeat(1999)}ok 1 deep`])
    expect(Math.max(...outline(parsed.tests).map(line => line.search(/[^.]/)))).toBeLessThan(LIMITS.depth)
    expect(parsed.errors).toContain('Tests are nested more than 16 deep.')
    expect(parsed.counts.failed + parsed.counts.crashed).toBeGreaterThan(0)
  })
  it('a flood of tests is counted, but not all are listed', () => {
    function* flood() {
      yield 'KTAP version 1'
      yield '  KTAP version 1'
      for (let number = 1; number <= LIMITS.tests + 1000; number++) {
        yield `  a line before ${number}`
        yield `  ${number % 2 ? 'ok' : 'not ok'} ${number} t`
      }
      yield 'not ok 1 all'
    }
    const parsed = report(flood())
    const listed = parsed.tests[0]?.subtests ?? []
    expect(listed.length).toBe(LIMITS.tests + 500)
    expect(parsed.counts.total).toBe(LIMITS.tests + 1000)
    expect(parsed.errors).toEqual(['Tests after the first 100000 are counted, but not all are listed.'])
    const logSize = listed.reduce((sum, { log }) => sum + log.join('').length, 0)
    expect(logSize).toBeLessThan(LIMITS.logs + LIMITS.lines * LIMITS.text)
    expect(Buffer.byteLength(renderTests(testFacts(parsed)))).toBeLessThan(200_000)
    expect(XMLValidator.validate(toJunit(parsed, 'flood'))).toBe(true)
  })
  it('logs, names and errors are bounded', () => {
    const long = 'x'.repeat(100_000)
    const parsed = report([
      'TAP version 13',
      ...Array.from({ length: 1000 }, (_, number) => `${number} ${long}`),
      `not ok 1 ${long}`,
      ...Array.from({ length: 1000 }, (_, at) => `not ok ${2 * at + 7} ${long}`),
    ])
    const first = parsed.tests[0]
    expect(first?.log.length).toBe(LIMITS.lines)
    expect(first?.log.at(-1)?.slice(0, 4)).toBe('999 ')
    expect(Math.max(...(first?.log.map(line => line.length) ?? []))).toBe(LIMITS.text)
    expect(first?.name.length).toBe(LIMITS.text)
    expect(parsed.errors.length).toBe(LIMITS.errors + 1)
    expect(parsed.errors.at(-1)).toBe('And 900 errors more.')
  })
  // in time that grows with the square of a line's length it would take minutes
  it('long lines are parsed in linear time', { timeout: 30_000 }, () => {
    const patterns = ['# ', '#', ' ', '\t', '[', '[1', '1..', 'ok 1 # ', '<6>', 'A ', '\x1b[', ' #']
    report(['KTAP version 1', ...patterns.flatMap(pattern => Array(50).fill(pattern.repeat(100_000)))])
    for (const head of ['ok 1 ', '# Subtest: ', '1..1', '# selftests: '])
      report(['KTAP version 1', ...patterns.map(pattern => head + pattern.repeat(100_000))])
  })
})

describe('JUnit XML', () => {
  const parser = new XMLParser({
    ignoreAttributes: false,
    attributeNamePrefix: '',
    parseAttributeValue: false,
    isArray: name => name === 'testsuite' || name === 'testcase',
  })
  const forbidden = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/u

  it.each(ALL)('%s is well-formed, and its numbers add up', name => {
    const xml = toJunit(report(linesOf(name)), 'ktap')
    expect(XMLValidator.validate(xml)).toBe(true)
    const { testsuites } = parser.parse(xml)
    const sums: Record<string, number> = { tests: 0, failures: 0, errors: 0, skipped: 0 }
    const elements = { failures: 'failure', errors: 'error', skipped: 'skipped' }
    for (const suite of testsuites.testsuite) {
      expect(suite.testcase).toHaveLength(Number(suite.tests))
      for (const key of Object.keys(sums)) sums[key] = (sums[key] ?? 0) + Number(suite[key])
      for (const [key, element] of Object.entries(elements)) {
        const own = suite.testcase.filter((test: object) => element in test)
        expect(own).toHaveLength(Number(suite[key]))
      }
    }
    for (const [key, sum] of Object.entries(sums)) expect(Number(testsuites[key])).toBe(sum)
  })
  it('suites are named by path, and a test that failed by itself is a case', () => {
    const { testsuites } = parser.parse(toJunit(report(linesOf('kunit.txt')), 'console'))
    const named = testsuites.testsuite.map(({ name, testcase }: { name: string; testcase: object[] }) => [
      name,
      testcase.map(test => Object(test).name),
    ])
    expect(named).toEqual([
      ['console/ring', ['ring_empty', 'ring_full']],
      ['console/ring/ring_sizes', ['size 1', 'size 2']],
      ['console/tree', ['tree']],
      ['console/exits', ['exits_fine', 'exits']],
    ])
  })
  it('has no character that XML forbids, and keeps all others', () => {
    const name = `true \0\x01\x0b\x1b\ufffe\ud800 <&>"']]> \u{1f427}`
    const test: TestNode = { name, status: 'failed', reason: name, log: [name, name], subtests: [] }
    const xml = toJunit({ counts: noCounts(), tests: [test], errors: [name] }, name)
    expect(xml).not.toMatch(forbidden)
    expect(XMLValidator.validate(xml)).toBe(true)
    const shown = `true ${'\u{fffd}'.repeat(6)} <&>"']]> \u{1f427}`
    const suite = parser.parse(xml).testsuites.testsuite[0]
    expect(suite.name).toBe(shown)
    expect(suite.testcase[0].name).toBe(shown)
    expect(suite.testcase[0].failure.message).toBe(shown)
    expect(suite.testcase[0]['system-out']).toBe(`${shown}\n${shown}`)
  })
  it('a report without tests is a suite without cases', () => {
    const xml = toJunit(report(['TAP version 14', '1..0']), 'empty')
    expect(parser.parse(xml).testsuites.testsuite[0]).toMatchObject({ name: 'empty', tests: '0' })
  })
})

describe('the summary of tests', () => {
  it.each([
    ['kunit.txt', '7 tests: 4 passed, 2 failed, 1 skipped'],
    ['panic.txt', '7 tests: 3 passed, 1 crashed, 3 missing'],
    ['documents.txt', '7 tests: 6 passed, 1 failed'],
  ])('%s', (name, line) => expect(testsLine(report(linesOf(name)))).toBe(line))
  it('zero tests and one test', () => {
    expect(testsLine(report(['KTAP version 1', '1..0']))).toBe('0 tests')
    // what a kernel with KUnit and no suite prints at every boot
    expect(report(['KTAP version 1', '1..0']).errors).toEqual([])
    expect(report(['KTAP version 1']).errors).toEqual(['0 tests ran.'])
    expect(testsLine(report(['KTAP version 1', 'ok 1 a']))).toBe('1 test: 1 passed')
  })
  it('what failed, by path', () => {
    expect(testFacts(report(linesOf('kunit.txt'))).failures).toMatchObject([
      { path: 'ring/ring_full', status: 'failed' },
      { path: 'exits', status: 'failed' },
    ])
    expect(
      testFacts(report(linesOf('panic.txt'))).failures.map(({ path, status }) => [path, status]),
    ).toEqual([
      ['bad/during', 'crashed'],
      ['bad/missing tests', 'missing'],
      ['missing tests', 'missing'],
    ])
  })
  it('what failed comes first in the summary, then what was skipped', () => {
    const rows = renderTests(testFacts(report(linesOf('kselftest.txt')))).match(/^\| .*$/gm)
    expect(rows?.slice(1).map(row => row.split('|')[1]?.split(' ')[2])).toEqual([
      ...['failed', 'failed', 'failed', 'missing', 'skipped', 'skipped'],
    ])
  })
  it('no test escapes from its cell in the summary', () => {
    const text = renderTests(testFacts(report(linesOf('hostile.txt'))))
    expect(text).not.toMatch(/^[^`\n]*(?<!\\)<(?:script|img)/m)
    expect(text).toContain('| ❌ failed | a\\|b \\`c\\` \\<img src=x')
    expect(text).toContain('<summary>&lt;/summary>&lt;script>alert(1)&lt;/script></summary>')
    // the fence is longer than any in the log, so that the log's HTML is inside a code block
    expect(text).toContain('````text\n# ``` closes nothing\n# </details></summary><h1>out</h1>\n````')
  })
  it('many failures are limited', () => {
    const lines = Array.from({ length: 500 }, (_, at) => [`log ${at}`, `not ok ${at + 1} t${at}`]).flat()
    const text = renderTests(testFacts(report(['TAP version 13', ...lines])))
    expect(text).toContain('\n\nand 450 more\n\n')
    expect(text.match(/<details>/g)).toHaveLength(5)
  })
})
