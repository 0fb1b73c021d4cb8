import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { DRGN, guest, kc, kcWith, scratch, startGuest } from '../kc.js'
import { kernelFor } from '../kernels.js'

/** Records of the guests that run in this file's cache directory. */
async function running(): Promise<{ runDirectory: string; monitor: string }[]> {
  const directory = join(await kernelFor('minimal'), 'running')
  return readdirSync(directory).map(name => JSON.parse(readFileSync(join(directory, name), 'utf8')))
}

/** Sends QEMU a command over the monitor that is free for other processes. */
function execute(monitor: string, command: string): Promise<void> {
  return new Promise((done, reject) => {
    const socket = createConnection(monitor)
    socket.on('error', reject)
    socket.on('data', text => {
      if (String(text).includes('"QMP"')) socket.write('{"execute":"qmp_capabilities"}\n')
      else if (String(text).includes('"id": "sent"')) {
        socket.destroy()
        done()
      } else if (String(text).includes('"return"')) socket.write(`{"execute":"${command}","id":"sent"}\n`)
    })
  })
}

const stacksOf = (vmcore: string, vmlinux: string) =>
  execFileSync(DRGN, ['-q', '-c', vmcore, '-s', vmlinux, join(import.meta.dirname, 'stacks.py')], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })

/** A guest that ends its commands when it is told to. */
async function waiting(name: string) {
  const shared = scratch(`until-${name}`)
  const script = `echo up >&2; until [ -e '${shared}/go' ]; do sleep 0.2; done; echo ${name}`
  const started = await startGuest(['-m', '512M', '--rwdir', shared, '-e', script], { kernel: 'minimal' })
  await started.saw('up\n')
  return { ...started, release: () => writeFileSync(join(shared, 'go'), '') }
}

describe('guests that run', () => {
  it('are dumped by their names into files that drgn opens, or into a debugger, and finish their commands', async () => {
    const guests = await Promise.all([waiting('one'), waiting('two')])
    const directory = scratch('dumps')
    const dump = async (...words: string[]) => await kcWith('minimal', words)
    const unnamed = await dump('--dump-file', join(directory, 'none'))
    expect([unnamed.status, unnamed.stderr.match(/kc -d \S+/g)?.length], unnamed.stderr).toEqual([2, 2])
    const file = join(directory, 'a vmcore')
    for (const [index, { runDirectory }] of guests.entries()) {
      const name = index === 0 ? file : join(directory, 'other')
      const dumped = await dump('-d', await runDirectory(), '--dump-file', name)
      expect([dumped.status, dumped.stderr], dumped.stderr).toEqual([0, expect.stringContaining('vmlinux: ')])
      const vmlinux = /vmlinux: (.*)\)/.exec(dumped.stderr)?.[1] ?? ''
      expect(stacksOf(name, vmlinux)).toContain('do_idle')
    }
    // a second dump to the same file would lose the first
    const [first] = guests
    expect((await dump('-d', (await first?.runDirectory()) ?? '', '--dump-file', file)).status).toBe(2)
    // a debugger at its prompt, without a terminal: it reads the end of its input and exits
    const opened = await dump('-d', (await first?.runDirectory()) ?? '')
    expect([opened.status, opened.stderr], opened.stderr).toEqual([
      0,
      expect.stringMatching(
        /does not understand this kernel.*opening drgn|crash is not installed.*opening drgn/,
      ),
    ])
    for (const { release } of guests) release()
    const ends = await Promise.all(guests.map(({ ended }) => ended))
    expect(ends.map(end => [end.result?.verdict, end.stdout.toString()])).toEqual([
      ['passed', 'one\n'],
      ['passed', 'two\n'],
    ])
    for (const end of ends)
      expect(readdirSync(end.runDirectory ?? '').filter(name => name.startsWith('dump-'))).toEqual([])
  })

  it('are listed by kc ps, with what kc -d takes as their names', async () => {
    const one = await waiting('listed')
    const ps = async (...words: string[]) => (await kcWith('minimal', ['ps', ...words])).stdout.toString()
    const { guests } = JSON.parse(await ps('--json')) as {
      guests: { name: string; pid: number; command: string; release: string }[]
    }
    expect(guests).toEqual([
      expect.objectContaining({ pid: one.pid, command: expect.stringMatching(/^echo up/) }),
    ])
    const [{ name = '', release = '' } = {}] = guests
    expect(release).toMatch(/^6\.12\.\d+-rc$/)
    expect(await ps()).toMatch(new RegExp(`^${name} +${one.pid} `, 'm'))
    const dumped = await kcWith('minimal', ['-d', name, '--dump-file', join(scratch('by-name'), 'vmcore')])
    expect(dumped.status, dumped.stderr).toBe(0)
    process.kill(one.pid, 'SIGTERM')
    await one.ended
    expect(await ps('--json')).not.toContain(name)
  })

  it.each([[['-d']], [['-d', '/nowhere']]])('%j without one exits with status 2', async words =>
    expect((await kc(words)).status).toBe(2),
  )
})

it('a guest that freezes without a word is a hang with registers and a vmcore', async () => {
  const run = await startGuest(['--idle-timeout', '4', '--cpus', '2', '-e', 'echo up >&2; sleep 100'], {
    kernel: 'minimal',
  })
  await run.saw('up\n')
  const [{ monitor = '' } = {}] = await running()
  await execute(monitor, 'stop')
  const end = await run.ended
  const directory = end.runDirectory ?? ''
  expect([end.result?.verdict, end.result?.title], end.stderr).toEqual([
    'hang',
    expect.stringContaining('(idle-timeout)'),
  ])
  expect(end.stderr).toContain('NMI')
  expect(readFileSync(join(directory, 'registers.txt'), 'utf8')).toMatch(
    /CPU#0[\s\S]*RIP=[\s\S]*CPU#1[\s\S]*RIP=/,
  )
  expect(existsSync(join(directory, 'vmcore'))).toBe(true)
  expect(readFileSync(join(directory, 'crash.txt'), 'utf8')).toContain('== What the CPUs ran ==')
})

it('a guest that hangs gets sysrq keys before it is ended', async () => {
  const end = await guest(['--vmcore', 'never', '--run-timeout', '3', '-e', 'sleep 1000'])
  const console = readFileSync(join(end.runDirectory ?? '', 'console.log'), 'latin1')
  const keys = ['Show backtrace of all active CPUs', 'Show Blocked State', 'Show State', 'Show Memory']
  const offsets = keys.map(key => console.indexOf(`sysrq: ${key}`))
  expect(offsets.every(offset => offset > 0)).toBe(true)
  expect([...offsets].sort((a, b) => a - b)).toEqual(offsets)
  expect(end.result?.verdict).toBe('hang')
})

it('KUnit of a module and kselftest output are counted, and what fails is reported', async () => {
  const script = `modprobe kunit-example-test
printf 'TAP version 13\\n1..3\\n# selftests: a: one\\nok 1 selftests: a: one\\n# selftests: a: two\\nnot ok 2 selftests: a: two # exit=1\\n'`
  const end = await guest(['-e', script])
  const { tests, verdict, reason } = end.result ?? {}
  expect(verdict, end.stderr).toBe('test-failed')
  expect(reason).toContain('2 tests failed')
  expect(tests?.counts).toMatchObject({ failed: 1, missing: 1 })
  expect(tests?.counts.passed).toBeGreaterThan(3)
  expect(tests?.failures[0]).toMatchObject({ path: 'selftests: a: two', status: 'failed' })
  const directory = end.runDirectory ?? ''
  expect(readFileSync(join(directory, 'junit.xml'), 'utf8')).toMatch(
    /<testcase [^>]*name="[^"]*example_simple_test/,
  )
  expect(readFileSync(join(directory, 'summary.md'), 'utf8')).toMatch(/\| ❌ failed \| selftests: a: two/)
})
