import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { CACHE, KERNEL, kc, scratch, startKc } from '../kc.js'

const GUEST = [...KERNEL, '-s', '--accel', 'tcg']
const RUNNING = join(CACHE, 'running')

/** Notes of the guests that run. */
const notes = (): { runDirectory: string; monitor: string }[] =>
  readdirSync(RUNNING).map(name => JSON.parse(readFileSync(join(RUNNING, name), 'utf8')))

/** Tells QEMU something over the monitor that is free for others. */
function tell(monitor: string, command: string): Promise<void> {
  return new Promise((done, reject) => {
    const socket = createConnection(monitor)
    socket.on('error', reject)
    socket.on('data', text => {
      if (String(text).includes('"QMP"')) socket.write('{"execute":"qmp_capabilities"}\n')
      else if (String(text).includes('"id": "told"')) {
        socket.destroy()
        done()
      } else if (String(text).includes('"return"')) socket.write(`{"execute":"${command}","id":"told"}\n`)
    })
  })
}

it('a running guest is dumped into a file that drgn opens, and finishes its commands', async () => {
  const run = startKc([...GUEST, '-e', 'echo up >&2; sleep 8; echo done'])
  await run.saw('up')
  const file = join(scratch('dump'), 'a vmcore')
  const dumped = await kc(['-d', '--dump-file', file])
  expect(dumped.status, dumped.stderr).toBe(0)
  expect(dumped.stderr).toMatch(/6\.12\.\d+-rc: \d+ MiB in .* the guest runs on/)
  // a second dump to the same file would lose the first
  const again = await kc(['--dump-file', file])
  expect([again.status, again.stderr]).toEqual([2, expect.stringContaining('is there already')])
  const end = await run.ended
  expect([end.result?.verdict, end.stdout.toString()]).toEqual(['passed', 'done\n'])
  const vmlinux = /vmlinux: (.*)\)/.exec(dumped.stderr)?.[1] ?? ''
  const stacks = execFileSync(
    join(CACHE, 'venv', 'bin', 'drgn'),
    ['-q', '-c', file, '-s', vmlinux, join(import.meta.dirname, 'stacks.py')],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
  )
  expect(stacks).toContain('do_idle')
})

it('kc -d opens a debugger that knows the kernel, and says which', async () => {
  const run = startKc([...GUEST, '-e', 'echo up >&2; sleep 12; echo done'])
  await run.saw('up')
  // drgn at its prompt, without a terminal: it reads the end of its input and leaves
  const opened = await kc(['-d'])
  expect(opened.stderr).toMatch(
    /crash .* does not understand this kernel .*: opening drgn|crash is not installed: opening drgn/,
  )
  expect(opened.status).toBe(0)
  const end = await run.ended
  expect(end.result?.verdict).toBe('passed')
  expect(readdirSync(end.runDirectory ?? '').filter(name => name.startsWith('dump-'))).toEqual([])
})

it('of several guests one has to be named, and each has its own monitor', async () => {
  const runs = [1, 2].map(number =>
    startKc([...GUEST, '-m', '512M', '-e', `echo up >&2; sleep 14; echo ${number}`]),
  )
  await Promise.all(runs.map(run => run.saw('up')))
  const directory = scratch('several')
  const unnamed = await kc(['--dump-file', join(directory, 'none')])
  expect(unnamed.status).toBe(2)
  expect(unnamed.stderr).toMatch(/2 guests run, say which one is meant:\n +kc -d \S+\n +kc -d \S+/)
  for (const [index, { runDirectory }] of notes().entries()) {
    const dumped = await kc(['-d', runDirectory, '--dump-file', join(directory, String(index))])
    expect(dumped.status, dumped.stderr).toBe(0)
  }
  const ends = await Promise.all(runs.map(run => run.ended))
  expect(ends.map(end => [end.result?.verdict, end.stdout.toString()])).toEqual([
    ['passed', '1\n'],
    ['passed', '2\n'],
  ])
})

it('without a guest, or with a bad one, there is one sentence', async () => {
  const none = await kc(['-d'])
  expect([none.status, none.stderr]).toEqual([
    2,
    'kc: No guest of kc runs here: kc -d is for one that does.\n',
  ])
  const wrong = await kc(['-d', '/nowhere'])
  expect([wrong.status, wrong.stderr]).toEqual([
    2,
    expect.stringContaining('No guest runs by the name or with the run directory /nowhere'),
  ])
})

it('a guest that freezes without a word is a hang with registers and a vmcore', async () => {
  const run = startKc([...GUEST, '--idle-timeout', '4', '-e', 'echo up >&2; sleep 100'])
  await run.saw('up')
  await tell(notes()[0]?.monitor ?? '', 'stop')
  const end = await run.ended
  const directory = end.runDirectory ?? ''
  expect([end.result?.verdict, end.result?.title]).toEqual([
    'hang',
    'The guest was silent for 4 s (idle-timeout).',
  ])
  expect(end.stderr).toContain('does not answer sysrq: it gets an NMI')
  expect(readFileSync(join(directory, 'registers.txt'), 'utf8')).toMatch(
    /CPU#0[\s\S]*RIP=[\s\S]*CPU#1[\s\S]*RIP=/,
  )
  expect(existsSync(join(directory, 'vmcore'))).toBe(true)
  expect(readFileSync(join(directory, 'crash.txt'), 'utf8')).toContain('== What the CPUs ran ==')
})

it('a guest that hangs is asked by sysrq before it is ended', async () => {
  const end = await kc([...GUEST, '--run-timeout', '3', '-e', 'sleep 1000'])
  const console = readFileSync(join(end.runDirectory ?? '', 'console.log'), 'latin1')
  const asked = ['Show backtrace of all active CPUs', 'Show Blocked State', 'Show State', 'Show Memory']
  const places = asked.map(words => console.indexOf(`sysrq: ${words}`))
  expect(places.every(place => place > 0)).toBe(true)
  expect([...places].sort((a, b) => a - b)).toEqual(places)
  expect(end.result?.verdict).toBe('hang')
})

it('KUnit of a module and kselftest output are counted, and what fails is said', async () => {
  const script = `modprobe kunit-example-test
printf 'TAP version 13\\n1..3\\n# selftests: a: one\\nok 1 selftests: a: one\\n# selftests: a: two\\nnot ok 2 selftests: a: two # exit=1\\n'`
  const end = await kc([...GUEST, '-e', script])
  const { tests, verdict, reason } = end.result ?? {}
  expect(verdict).toBe('test-failed')
  expect(reason).toMatch(/^The commands succeeded, but 2 tests failed\.$/)
  expect(tests?.counts).toMatchObject({ failed: 1, missing: 1 })
  expect(tests?.counts.passed).toBeGreaterThan(3)
  expect(tests?.failures[0]).toMatchObject({ path: 'selftests: a: two', status: 'failed' })
  const directory = end.runDirectory ?? ''
  expect(readFileSync(join(directory, 'junit.xml'), 'utf8')).toMatch(
    /<testcase [^>]*name="[^"]*example_simple_test/,
  )
  expect(readFileSync(join(directory, 'summary.md'), 'utf8')).toMatch(/\| ❌ failed \| selftests: a: two/)
})
