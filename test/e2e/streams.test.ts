import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { guest } from '../kc.js'

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

it('quotes, bytes, reopened streams, the environment, the console and what is left running', async () => {
  const script = `printf '%s\\n' 'a"b' "c'd" '$HOME \\ \`x\`' 'ü€😀'
# ${'\x01\x7f'}
echo one > /dev/stdout; echo two > /dev/stderr
for i in $(seq 2000); do echo "line $i of the test" > /dev/kmsg; done
env
sleep 1000 & setsid sleep 1000 &
echo last; exit 7`
  const end = await guest(['--env', 'GIVEN', '--env', "WORD=it's", '-e', script], {
    env: { GIVEN: 'from the host', GITHUB_TOKEN: 'ghs_secret', INPUT_TOKEN: 'secret' },
  })
  expect([end.status, end.result?.verdict, end.result?.exitCode], end.stderr).toEqual([1, 'test-failed', 7])
  const text = end.stdout.toString()
  expect(text).toMatch(/^a"b\nc'd\n\$HOME \\ `x`\nü€😀\none\n[\s\S]*\nlast\n$/)
  const directory = end.runDirectory ?? ''
  expect(readFileSync(join(directory, 'stderr.log'), 'utf8')).toBe('two\n')
  // the step's environment stays outside, named variables come in
  expect(text).toContain('GIVEN=from the host\n')
  expect(text).toContain("WORD=it's\n")
  expect(text).not.toMatch(/secret|KC_|KERNELCRAFT_RUN/)
  // from the banner to the power-off
  const console = readFileSync(join(directory, 'console.log'), 'utf8')
  expect(console).toContain('Linux version 6.12')
  for (const number of [1, 1000, 2000]) expect(console).toContain(`line ${number} of the test`)
  expect(console).toContain('reboot: Power down')
})

it('a script of 100 kB is run to its end, and the exit status 255 is not a lost one', async () => {
  const filler = Array.from(
    { length: 2800 },
    (_, index) => `: filler line ${index} ${'x'.repeat(20)}\n`,
  ).join('')
  const script = `${filler}echo "the end is here: $0"\nexit 255\n`
  expect(script.length).toBeGreaterThan(100_000)
  const end = await guest(['-e', script])
  expect(end.stdout.toString()).toBe('the end is here: /run/kernelcraft/script\n')
  expect([end.status, end.result?.verdict, end.result?.exitCode]).toEqual([1, 'test-failed', 255])
})

it('arguments after -- reach the program one by one', async () => {
  const end = await guest(['--', 'printf', '<%s>', 'a b', '', "it's", '*'])
  expect([end.status, end.stdout.toString()]).toEqual([0, "<a b><><it's><*>"])
})

it('a #! line chooses the interpreter; 50 MB on each stream at once come out byte for byte; status 128', async () => {
  // every byte value, and the two streams differ
  const alphabet = Buffer.from(Array.from({ length: 256 }, (_, value) => value))
  const repeat = (50 * 2 ** 20) / 256
  const end = await guest([
    '-e',
    `#!/usr/bin/perl
     my $a = pack("C*", 0..255); my $b = reverse $a;
     if (fork) { print STDOUT $a x 256 for 1..${repeat / 256}; wait } else { print STDERR $b x 256 for 1..${repeat / 256} }
     exit 128;`,
  ])
  expect(end.result?.exitCode).toBe(128)
  const directory = end.runDirectory ?? ''
  const expectedOut = Buffer.concat(Array.from({ length: repeat }, () => alphabet))
  const expectedErr = Buffer.concat(Array.from({ length: repeat }, () => Buffer.from(alphabet).reverse()))
  expect(sha256(readFileSync(join(directory, 'stdout.log')))).toBe(sha256(expectedOut))
  expect(sha256(readFileSync(join(directory, 'stderr.log')))).toBe(sha256(expectedErr))
  // and kc itself passed all of it on
  expect(sha256(end.stdout)).toBe(sha256(expectedOut))
})
