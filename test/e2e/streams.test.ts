import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { guest } from '../kc.js'

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

it.each([0, 7, 128, 255])('the exit status %d arrives as it is', async status => {
  const end = await guest(['-e', `exit ${status}`])
  expect(end.result?.exitCode).toBe(status)
  expect(end.result?.verdict).toBe(status === 0 ? 'passed' : 'test-failed')
  expect(end.status).toBe(status === 0 ? 0 : 1)
})

it('a script of 100 kB is run to its end', async () => {
  const filler = Array.from(
    { length: 2800 },
    (_, index) => `: filler line ${index} ${'x'.repeat(20)}\n`,
  ).join('')
  const script = `${filler}echo "the end is here: $0"\n`
  expect(script.length).toBeGreaterThan(100_000)
  const end = await guest(['-e', script])
  expect(end.stdout.toString()).toBe('the end is here: /run/kernelcraft/script\n')
  expect(end.status).toBe(0)
})

it('a script keeps its quotes, its backslashes, and bytes that are no text', async () => {
  const end = await guest(['-e', `printf '%s\\n' 'a"b' "c'd" '$HOME \\ \`x\`' 'ü€😀'\n# ${'\x01\x7f'}`])
  expect(end.stdout.toString()).toBe('a"b\nc\'d\n$HOME \\ `x`\nü€😀\n')
})

it('arguments after -- reach the program one by one', async () => {
  const end = await guest(['--', 'printf', '<%s>', 'a b', '', "it's", '*'])
  expect(end.stdout.toString()).toBe("<a b><><it's><*>")
})

it('a #! line chooses the interpreter', async () => {
  const end = await guest(['-e', '#!/usr/bin/perl\nprint "perl $]\\n" if $] > 5;'])
  expect(end.stdout.toString()).toMatch(/^perl 5/)
})

it('50 MB on each stream at once come out byte for byte', async () => {
  // every byte value, and the two streams differ
  const alphabet = Buffer.from(Array.from({ length: 256 }, (_, value) => value))
  const repeat = (50 * 2 ** 20) / 256
  const end = await guest([
    '--',
    'perl',
    '-e',
    `my $a = pack("C*", 0..255); my $b = reverse $a;
     if (fork) { print STDOUT $a x 256 for 1..${repeat / 256}; wait } else { print STDERR $b x 256 for 1..${repeat / 256} }`,
  ])
  expect(end.status).toBe(0)
  const directory = end.runDirectory ?? ''
  const expectedOut = Buffer.concat(Array.from({ length: repeat }, () => alphabet))
  const expectedErr = Buffer.concat(Array.from({ length: repeat }, () => Buffer.from(alphabet).reverse()))
  expect(sha256(readFileSync(join(directory, 'stdout.log')))).toBe(sha256(expectedOut))
  expect(sha256(readFileSync(join(directory, 'stderr.log')))).toBe(sha256(expectedErr))
  // and kc itself passed all of it on
  expect(sha256(end.stdout)).toBe(sha256(expectedOut))
})

it('what is left running does not hold the guest up, and /dev/stdout can be opened again', async () => {
  const end = await guest([
    '-e',
    'echo one > /dev/stdout; echo two > /dev/stderr; sleep 1000 & setsid sleep 1000 & echo three',
  ])
  expect(end.stdout.toString()).toBe('one\nthree\n')
  expect(readFileSync(join(end.runDirectory ?? '', 'stderr.log'), 'utf8')).toBe('two\n')
  expect(end.status).toBe(0)
})

it('console.log is complete, from the banner to the power-off', async () => {
  const end = await guest(['-e', 'for i in $(seq 2000); do echo "line $i of the test" > /dev/kmsg; done'])
  const text = readFileSync(join(end.runDirectory ?? '', 'console.log'), 'utf8')
  expect(text).toContain('Linux version 6.12')
  for (const number of [1, 1000, 2000]) expect(text).toContain(`line ${number} of the test`)
  expect(text).toContain('reboot: Power down')
})

it('the step environment stays outside, named variables come in', async () => {
  const end = await guest(['--env', 'GIVEN', '--env', "WORD=it's", '-e', 'env'], {
    env: { GIVEN: 'from the host', GITHUB_TOKEN: 'ghs_secret', INPUT_TOKEN: 'secret' },
  })
  const text = end.stdout.toString()
  expect(text).toContain('GIVEN=from the host\n')
  expect(text).toContain("WORD=it's\n")
  expect(text).not.toMatch(/secret|KC_|KERNELCRAFT_RUN/)
})
