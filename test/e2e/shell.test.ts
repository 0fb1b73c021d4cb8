import { execFileSync } from 'node:child_process'
import { hostname } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { bootWords, KC, kc, kcWith, ROOT } from '../kc.js'
import { kernelFor } from '../kernels.js'
import { openScreen, type Screen } from '../tmux.js'

const screens: Screen[] = []
let cache = ''
beforeAll(async () => {
  cache = await kernelFor('tiny')
})
const open = (options: Parameters<typeof openScreen>[1] = {}) => {
  const screen = openScreen(ROOT, { ...options, env: { KERNELCRAFT_CACHE: cache, ...options.env } })
  screens.push(screen)
  return screen
}
afterEach(() => {
  for (const screen of screens.splice(0)) screen.close()
})
const quoted = (words: readonly string[]) => words.map(word => `'${word}'`).join(' ')
// the user's .bashrc may take its time in an emulated guest
const guestWords = (...more: string[]) =>
  quoted([process.execPath, KC, ...bootWords('tiny'), '--env', 'HOME=/', ...more])

/** Starts a command that goes on, interrupts it as soon as it runs, and waits until the shell knows. */
async function interrupt({ keys, shows }: Screen): Promise<void> {
  keys('echo begins-$((1+1)); sleep 1000', 'Enter')
  await shows('begins-2')
  keys('C-c')
  keys('echo interrupted=$?', 'Enter')
  await shows('interrupted=130')
}

/** Resizes the window, and waits until the guest's terminal has that size. */
async function resizes({ keys, shows, resize }: Screen, columns: number, rows: number): Promise<void> {
  resize(columns, rows)
  keys(
    `clear; until [ "$(stty size)" = '${rows} ${columns}' ]; do sleep 0.1; done; echo resized-$((1+1))`,
    'Enter',
  )
  await shows('resized-2')
}

it('without commands a terminal gets a shell in the guest: size, Ctrl-C, job control, exit status', async () => {
  const screen = open({ env: { COLORTERM: 'truecolor' } })
  const { keys, shows } = screen
  keys(`${guestWords()}; echo "back with $?"`, 'Enter')
  // the host's name, as the prompt shortens it
  await shows(new RegExp(`root@${hostname().split('.')[0]}:.*#`))
  keys('stty size; tty; pwd; echo $TERM $COLORTERM; echo up-$((40+2))', 'Enter')
  const first = await shows('up-42')
  expect(first).toContain('30 100')
  expect(first).toContain('/dev/hvc0')
  expect(first).toContain(ROOT)
  expect(first).toMatch(/^(?:tmux|screen)\S* truecolor$/m)
  await interrupt(screen)
  keys('set -o | grep monitor', 'Enter')
  await shows(/monitor\s+on/)
  await resizes(screen, 120, 40)
  keys('exit 3', 'Enter')
  await shows('back with 1')
  // and the terminal is sane again: what is typed is echoed
  keys('echo sane-$((20+3))', 'Enter')
  await shows('sane-23')
})

it.each([
  ['Ctrl-D', ({ keys }: Screen) => keys('C-d'), /passed: /],
  [
    'a panic of the guest',
    ({ keys }: Screen) => keys('echo c > /proc/sysrq-trigger', 'Enter'),
    /panic: kernel panic: sysrq triggered crash/,
  ],
  [
    'a SIGTERM to kc',
    ({ shellPid }: Screen) =>
      execFileSync('pkill', ['-TERM', '-P', String(shellPid()), '-f', `${KC}.*--vmcore never.*--cwd`]),
    /cancelled: /,
  ],
])('the terminal is as it was after %s', async (_what, end, verdict) => {
  const screen = open({ columns: 150, rows: 50 })
  const words = guestWords('--vmcore', 'never', '--cwd', '/usr')
  screen.keys(`before=$(stty -g); ${words}; [ "$(stty -g)" = "$before" ] && echo same-$((20+4))`, 'Enter')
  await screen.shows(/root@.*:\/usr#/)
  end(screen)
  await screen.shows(verdict)
  await screen.shows('same-24')
})

describe('kc attach', () => {
  const attach = `${quoted([process.execPath, KC, 'attach'])}; echo "left with $?"`

  it('opens further shells in a guest that runs, each with a size, a job control and an end of its own', async () => {
    const first = open()
    first.keys(`${guestWords('--cwd', '/usr', '-e', 'sleep 600')}`, 'Enter')
    const [one, two] = [open({ columns: 90, rows: 25 }), open({ columns: 70, rows: 20 })]
    // the guest is booting; who attaches waits for it
    while ((await kcWith('tiny', ['ps', '--json'])).stdout.toString().includes('[]')) await pause(200)
    for (const screen of [one, two]) screen.keys(`before=$(stty -g); ${attach}; stty -g`, 'Enter')
    for (const screen of [one, two]) await screen.shows(/root@.*:\/usr#/)
    one.keys('stty size; tty; echo $TERM; ps ax | grep -c "[s]leep 600"', 'Enter')
    const shown = await one.shows(/^1$/m)
    expect(shown).toContain('25 90')
    expect(shown).toMatch(/^\/dev\/hvc[12]$/m)
    expect(shown).toMatch(/^(?:tmux|screen)/m)
    two.keys('stty size; echo in-$((1+1))', 'Enter')
    expect(await two.shows('in-2')).toContain('20 70')
    await interrupt(one)
    await resizes(two, 100, 40)
    two.keys('exit 4', 'Enter')
    await two.shows('left with 4')
    // a console that was left is used again
    two.keys('clear', 'Enter')
    two.keys(attach, 'Enter')
    await two.shows(/root@.*:\/usr#/)
    two.keys('clear; tty; echo again-$((3+4))', 'Enter')
    expect(await two.shows('again-7')).toMatch(/^\/dev\/hvc[12]$/m)
    // the guest's shell is hung up on when kc attach gets a signal
    for (const screen of [one, two])
      execFileSync('pkill', ['-TERM', '-P', String(screen.shellPid()), '-f', `${KC} attach`])
    for (const screen of [one, two]) {
      await screen.shows(/left with 1\b/)
      screen.keys('clear; echo sane-$((20+3)); [ "$(stty -g)" = "$before" ] && echo same-$((20+4))', 'Enter')
      await screen.shows('same-24')
    }
    const third = open()
    third.keys(attach, 'Enter')
    await third.shows(/root@.*:\/usr#/)
    third.keys('ps ax | grep -c "[a]ttach.sh"; echo o > /proc/sysrq-trigger', 'Enter')
    await third.shows('left with 0')
    await first.shows('host$')
  })

  it('exits with status 2 where there is no guest, or no terminal', async () => {
    const screen = open({ columns: 120 })
    screen.keys(attach, 'Enter')
    await screen.shows('left with 2')
    expect((await kc(['attach'])).status).toBe(2)
  })
})
