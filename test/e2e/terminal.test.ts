import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SHELLS, VERBS } from '../../src/commands/verbs.js'
import { optionsOf } from '../../src/request/options.js'
import { KC, kc, kcWith, startGuest } from '../kc.js'
import { kernelFor } from '../kernels.js'

/** the cache directory that a completion finds guests in */
let cache = ''
const here = mkdtempSync(join(tmpdir(), 'kernelcraft-terminal-'))
const file = (shell: string) => join(here, `kc.${shell}`)
beforeAll(async () => {
  writeFileSync(join(here, 'kc'), `#!/bin/sh\nexec '${process.execPath}' '${KC}' "$@"\n`, { mode: 0o755 })
  for (const shell of SHELLS) writeFileSync(file(shell), (await kc(['completion', shell])).stdout)
})
afterAll(() => rmSync(here, { recursive: true, force: true }))

const run = (program: string, ...args: string[]) =>
  execFileSync(program, args, {
    ...{ encoding: 'utf8', cwd: here, timeout: 60_000 },
    // the completion asks kc for what changes
    env: { ...process.env, PATH: `${here}:${process.env.PATH}`, KERNELCRAFT_CACHE: cache },
  })

/** What each shell makes of `kc WORDS`: the words that it offers, or in zsh's case the line that it completes. */
const offers = {
  bash: (words: readonly string[]) =>
    run('bash', join(import.meta.dirname, 'complete.bash'), file('bash'), ...words).split('\n'),
  fish: (words: readonly string[]) =>
    run(
      'fish',
      '--no-config',
      '-c',
      `source $argv[1]; complete -C "kc $argv[2]"`,
      file('fish'),
      words.join(' '),
    )
      .split('\n')
      .map(line => line.split('\t')[0] ?? ''),
  zsh: (words: readonly string[]) => [
    stripVTControlCharacters(
      run('zsh', '-f', join(import.meta.dirname, 'complete.zsh'), file('zsh'), words.join(' ')),
    ),
  ],
}

describe.each(SHELLS)('completion for %s', shell => {
  it.each([
    ['a flag', ['--acc'], '--accel'],
    ['a flag with another name than its input', ['--configi'], '--configitem'],
    ['a value', ['--accel', 'kv'], 'kvm'],
    ['a verb', ['doc'], 'doctor'],
    ['the second word of a verb', ['cache', 'pr'], 'prune'],
    ["a verb's flag", ['triage', '--js'], '--json'],
    ["a verb's word", ['completion', 'fi'], 'fish'],
  ])('knows %s', (_what, words, expected) => {
    const found = offers[shell](words)
    if (shell === 'zsh')
      expect(found[0]?.replace(/[^\x20-\x7e]/g, '').replace(/ +/g, ' ')).toContain(
        `kc ${[...words.slice(0, -1), expected].join(' ')}`,
      )
    else expect(found).toContain(expected)
  })
})

it('each shell knows the names of guests that run', async () => {
  cache = await kernelFor('tiny')
  const guest = await startGuest(['-e', 'echo up >&2; sleep 600'])
  await guest.saw('up\n')
  const { guests } = JSON.parse((await kcWith('tiny', ['ps', '--json'])).stdout.toString()) as {
    guests: { name: string; pid: number }[]
  }
  const { name } = guests.find(({ pid }) => pid === guest.pid) ?? { name: 'none' }
  expect(offers.bash(['attach', ''])).toContain(name)
  expect(offers.fish(['attach', ''])).toContain(name)
  expect(offers.zsh(['attach', name.slice(0, -1)]).join('')).toContain(name)
  process.kill(guest.pid, 'SIGTERM')
  await guest.ended
})

it('bash offers nothing behind --, where the words are for the guest', () =>
  expect(offers.bash(['--', '--acc']).join('')).toBe(''))

describe('the manual page', () => {
  it('is sound, and has every flag and verb', async () => {
    const page = (await kc(['man'])).stdout.toString()
    const path = join(here, 'kc.1')
    writeFileSync(path, page)
    expect(run('mandoc', '-T', 'lint', '-W', 'error', path)).toBe('')
    const text = run('mandoc', '-T', 'html', path).replace(/<[^>]*>/g, '')
    for (const option of optionsOf('kc')) expect(text).toContain(`--${option.flag ?? option.name}`)
    for (const { words } of VERBS) expect(text).toContain(`kc ${words.join(' ')}`)
    expect(text).toMatch(/EXIT\s+STATUS[\s\S]*\b130\b/)
  })
})

describe('what kc prints for programs', () => {
  it.each([
    ['doctor', ['doctor', '--json'], 'findings'],
    ['cache', ['cache', '--json'], 'kernels'],
    ['cache prune', ['cache', 'prune', '--max-size', '1000G', '--json'], 'kernels'],
  ])('%s is one JSON object', async (_what, words, key) => {
    const end = await kc(words)
    expect(Object.keys(JSON.parse(end.stdout.toString()) as object)).toContain(key)
  })

  it('has no colour in a pipe', async () => {
    const end = await kc(['-r', 'no-such-tree', '-e', 'true'], { env: { TERM: 'xterm-256color' } })
    expect(end.stderr).not.toContain('\x1b[')
  })

  it('ends quietly when its output is not read', () => {
    const piped = 'set -o pipefail; "$0" "$1" --help | head -n 1'
    expect(run('bash', '-c', piped, process.execPath, KC)).toMatch(/^kc: /)
  })
})
