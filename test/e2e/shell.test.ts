import { execFileSync } from 'node:child_process'
import { hostname } from 'node:os'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { KC, KERNEL, ROOT } from '../kc.js'

const SESSION = `kernelcraft-${process.pid}`
const tmux = (...args: string[]) => execFileSync('tmux', ['-L', SESSION, ...args], { encoding: 'utf8' })
const screen = () => tmux('capture-pane', '-p', '-t', SESSION)

async function shows(text: string | RegExp, seconds = 60): Promise<string> {
  const end = Date.now() + seconds * 1000
  for (;;) {
    const now = screen()
    if (typeof text === 'string' ? now.includes(text) : text.test(now)) return now
    if (Date.now() > end) throw new Error(`the screen never showed ${text}:\n${now}`)
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}

beforeAll(() => {
  try {
    execFileSync('tmux', ['-V'])
  } catch {
    execFileSync('apt-get', ['install', '-y', '--no-install-recommends', 'tmux'])
  }
})
afterAll(() => {
  try {
    tmux('kill-server')
  } catch {
    // it ended by itself
  }
})

it('without commands a terminal gets a shell in the guest: size, Ctrl-C, job control, exit status', async () => {
  const words = [process.execPath, KC, ...KERNEL, '-s', '--accel', 'tcg'].map(word => `'${word}'`).join(' ')
  tmux(
    'new-session',
    '-d',
    '-s',
    SESSION,
    '-x',
    '100',
    '-y',
    '30',
    '-c',
    ROOT,
    'env PS1="host$ " COLORTERM=truecolor bash --norc',
  )
  tmux('send-keys', '-t', SESSION, `${words}; echo "back with $?"`, 'Enter')
  // the host's name, as the prompt shortens it
  await shows(new RegExp(`root@${hostname().split('.')[0]}:.*#`))
  tmux('send-keys', '-t', SESSION, 'stty size; tty; pwd; echo $TERM $COLORTERM; echo up-$((40+2))', 'Enter')
  const first = await shows('up-42')
  expect(first).toContain('30 100')
  expect(first).toContain('/dev/hvc0')
  expect(first).toContain(ROOT)
  expect(first).toMatch(/^(?:tmux|screen)\S* truecolor$/m)
  tmux('send-keys', '-t', SESSION, 'sleep 1000', 'Enter')
  await new Promise(resolve => setTimeout(resolve, 1500))
  tmux('send-keys', '-t', SESSION, 'C-c')
  tmux('send-keys', '-t', SESSION, 'echo interrupted=$?; set -o | grep monitor', 'Enter')
  expect(await shows(/monitor\s+on/)).toContain('interrupted=130')
  tmux('resize-window', '-t', SESSION, '-x', '120', '-y', '40')
  await new Promise(resolve => setTimeout(resolve, 1500))
  tmux('send-keys', '-t', SESSION, 'clear; stty size', 'Enter')
  await shows('40 120')
  tmux('send-keys', '-t', SESSION, 'exit 3', 'Enter')
  await shows('back with 1')
  // and the terminal is sane again: what is typed is echoed
  tmux('send-keys', '-t', SESSION, 'echo sane-$((20+3))', 'Enter')
  await shows('sane-23')
})

it.each([
  ['Ctrl-D', async () => tmux('send-keys', '-t', SESSION, 'C-d'), /passed: /],
  [
    'a panic of the guest',
    async () => tmux('send-keys', '-t', SESSION, 'echo c > /proc/sysrq-trigger', 'Enter'),
    /panic: kernel panic: sysrq triggered crash/,
  ],
  [
    'a SIGTERM to kc',
    async () => execFileSync('pkill', ['-TERM', '-f', `${KC}.*--vmcore never.*--cwd`]),
    /cancelled: /,
  ],
])('the terminal is as it was after %s', async (_what, end, verdict) => {
  const kcWords = [
    process.execPath,
    KC,
    ...KERNEL,
    '-s',
    '--accel',
    'tcg',
    '--vmcore',
    'never',
    '--cwd',
    '/usr',
  ]
  const words = kcWords.map(word => `'${word}'`).join(' ')
  tmux('kill-server')
  tmux(
    'new-session',
    '-d',
    '-s',
    SESSION,
    '-x',
    '150',
    '-y',
    '50',
    '-c',
    ROOT,
    'env PS1="host$ " bash --norc',
  )
  const type = `before=$(stty -g); ${words}; [ "$(stty -g)" = "$before" ] && echo same-$((20+4))`
  tmux('send-keys', '-t', SESSION, type, 'Enter')
  await shows(/root@.*:\/usr#/)
  await end()
  await shows(verdict)
  await shows('same-24')
})
