import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { toJunit } from '../../src/report/junit.js'
import { ktapParser } from '../../src/triage/ktap.js'
import type { TestNode, TestReport } from '../../src/triage/tests.js'
import { DISTRO_REPOSITORY, ROOT } from '../cache.js'
import { buildKernel } from '../kernels.js'

// the tree comes with the first kernel that is built from it
if (!existsSync(DISTRO_REPOSITORY)) await buildKernel('tiny')

/** What the kernel's own parser says of a log. */
interface Said {
  status: string
  passed: number
  failed: number
  crashed: number
  skipped: number
  errors: number
  /** names of tests, with those of their subtests */
  names: Names
}
type Names = [string, Names][]

/** Prints what kunit_parser.py finds in each log, as one JSON object by path. */
const ORACLE = `
import json, sys
sys.path.insert(0, sys.argv[1])
import kunit_parser, kunit_printer
kunit_printer.Printer.print = lambda *args: None
def names(test):
    return [[sub.name, names(sub)] for sub in test.subtests]
said = {}
for path in sys.argv[2:]:
    with open(path, errors='replace') as log:
        test = kunit_parser.parse_run_tests(log.readlines())
    said[path] = {'status': test.status.name, 'names': names(test), **vars(test.counts)}
print(json.dumps(said))
`

/** Reads JUnit XML from standard input with expat, which knows no mercy. */
const EXPAT = 'import sys, xml.etree.ElementTree as tree; print(tree.parse(sys.stdin.buffer).getroot().tag)'

/** Where our report differs from the kernel's parser on purpose. */
const DIFFERENCES: Readonly<Record<string, Partial<Said> & { why: string }>> = {
  'test_is_test_passed-kselftest.log': {
    why: 'It takes what stands behind "# " as a diagnostic. For us the results of the programs that kselftest ran are tests.',
    passed: 4,
    names: [
      [
        'selftests: membarrier: membarrier_test_single_thread',
        [
          ['sys_membarrier available', []],
          [
            'sys membarrier invalid command test: command = -1, flags = 0, errno = 22. Failed as expected',
            [],
          ],
        ],
      ],
      [
        'selftests: membarrier: membarrier_test_multi_thread',
        [
          ['sys_membarrier available', []],
          [
            'sys membarrier invalid command test: command = -1, flags = 0, errno = 22. Failed as expected',
            [],
          ],
        ],
      ],
    ],
  },
  'test_kernel_panic_interrupt.log': {
    why: 'It adds a nameless test for each one that never ran, and three errors. For us one node stands for them, and its status is no error on top.',
    errors: 0,
    names: [
      [
        'kunit-resource-test',
        [
          ['kunit_resource_test_init_resources', []],
          ['kunit_resource_test_alloc_resource', []],
          ['kunit_resource_test_destroy_resource', []],
          ['kunit_resource_test_cleanup_resources', []],
          ['kunit_resource_test_proper_free_ordering', []],
        ],
      ],
      [
        'kunit-try-catch-test',
        [
          ['kunit_test_try_catch_successful_try_no_catch', []],
          ['kunit_test_try_catch_unsuccessful_try_does_catch', []],
        ],
      ],
      [
        'string-stream-test',
        [
          ['string_stream_test_empty_on_creation', []],
          ['missing tests', []],
        ],
      ],
    ],
  },
  'test_insufficient_memory.log': { why: 'Without KTAP there is no report.', errors: 0 },
  'test_is_test_passed-no_tests_run_no_header.log': { why: 'Without KTAP there is no report.', errors: 0 },
  'test_is_test_passed-no_tests_run_with_header.log': {
    why: 'A kernel with KUnit and no suite prints an empty plan at every boot: for us that is no error.',
    errors: 0,
  },
}

function parse(path: string): TestReport | undefined {
  const parser = ktapParser()
  for (const line of readFileSync(path, 'utf8').split('\n')) parser.line(line)
  return parser.end()
}

function statusOf(report: TestReport): string {
  const { counts } = report
  if (counts.total === 0) return 'NO_TESTS'
  if (counts.crashed + counts.missing > 0) return 'TEST_CRASHED'
  if (counts.failed > 0) return 'FAILURE'
  return counts.passed > 0 ? 'SUCCESS' : 'SKIPPED'
}

const namesOf = (tests: readonly TestNode[]): Names =>
  tests.map(({ name, subtests }) => [name, namesOf(subtests)])

/** Our report in the words of the kernel's parser, for which tests that never ran have crashed. */
function inItsWords(report: TestReport | undefined): Said {
  if (!report)
    return {
      status: 'FAILURE_TO_PARSE_TESTS',
      passed: 0,
      failed: 0,
      crashed: 0,
      skipped: 0,
      errors: 0,
      names: [],
    }
  const { passed, failed, crashed, missing, skipped } = report.counts
  return {
    status: statusOf(report),
    passed,
    failed,
    crashed: crashed + missing,
    skipped,
    errors: report.errors.length,
    names: namesOf(report.tests),
  }
}

describe('KTAP as the kernel reads it', () => {
  const directory = mkdtempSync(join(tmpdir(), 'kernelcraft-ktap-'))
  const archive = execFileSync(
    'git',
    ['--git-dir', DISTRO_REPOSITORY, 'archive', '6.12', 'tools/testing/kunit'],
    { maxBuffer: 64 * 1024 * 1024 },
  )
  execFileSync('tar', ['-x', '-C', directory], { input: archive })
  const kunit = join(directory, 'tools', 'testing', 'kunit')
  const logs = readdirSync(join(kunit, 'test_data')).filter(name => name.endsWith('.log'))
  const paths = logs.map(name => join(kunit, 'test_data', name))
  const said: Record<string, Said> = JSON.parse(
    execFileSync('python3', ['-B', '-c', ORACLE, kunit, ...paths], { encoding: 'utf8' }),
  )
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  it("covers all logs that the kernel's own tests speak of", () => {
    const tests = readFileSync(join(kunit, 'kunit_tool_test.py'), 'utf8')
    const spoken = [...tests.matchAll(/'(test_[\w-]+\.log)'/g)].map(match => match[1])
    expect(spoken.length).toBeGreaterThan(15)
    expect(logs).toEqual(expect.arrayContaining(spoken))
    expect(logs).toEqual(expect.arrayContaining(Object.keys(DIFFERENCES)))
  })

  it.each(logs)('%s', name => {
    const path = join(kunit, 'test_data', name)
    const { why, ...difference } = DIFFERENCES[name] ?? { why: '' }
    // expect says what differs: a difference that is gone fails, too
    expect({ ...said[path], ...difference }, why).toEqual(inItsWords(parse(path)))
    for (const key of Object.keys(difference) as (keyof Said)[])
      expect(said[path]?.[key], `${name} differs no more in ${key}`).not.toEqual(difference[key])
  })

  const fixtures = join(ROOT, 'test', 'fixtures', 'ktap')
  it.each(readdirSync(fixtures))('JUnit XML of %s is read by expat', name => {
    const report = parse(join(fixtures, name))
    const xml = report ? toJunit(report, 'ktap') : ''
    expect(execFileSync('python3', ['-c', EXPAT], { input: xml, encoding: 'utf8' }).trim()).toBe('testsuites')
  })
})
