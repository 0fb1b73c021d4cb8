import { execFileSync } from 'node:child_process'
import { hostname } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { KC, KERNEL, kc, ROOT } from '../kc.js'
import { openScreen, type Screen } from '../tmux.js'

const screens: Screen[] = []
const open = (...more: Parameters<typeof openScreen> extends [string, ...infer Rest] ? Rest : never) => {
  const screen = openScreen(ROOT, ...more)
  screens.push(screen)
  return screen
}
afterEach(() => {
  for (const screen of screens.splice(0)) screen.close()
})
const quoted = (words: readonly string[]) => words.map(word => `'${word}'`).join(' ')
// a person's .bashrc may take its time in an emulated guest
const guestWords = (...more: string[]) =>
  quoted([process.execPath, KC, ...KERNEL, '-s', '--accel', 'tcg', '--env', 'HOME=/', ...more])

it('without commands a terminal gets a shell in the guest: size, Ctrl-C, job control, exit status', async () => {
  const { keys, shows, resize } = open({ env: { COLORTERM: 'truecolor' } })
  keys(`${guestWords()}; echo "back with $?"`, 'Enter')
  // the host's name, as the prompt shortens it
  await shows(new RegExp(`root@${hostname().split('.')[0]}:.*#`))
  keys('stty size; tty; pwd; echo $TERM $COLORTERM; echo up-$((40+2))', 'Enter')
  const first = await shows('up-42')
  expect(first).toContain('30 100')
  expect(first).toContain('/dev/hvc0')
  expect(first).toContain(ROOT)
  expect(first).toMatch(/^(?:tmux|screen)\S* truecolor$/m)
  keys('sleep 1000', 'Enter')
  await pause(1500)
  keys('C-c')
  keys('echo interrupted=$?; set -o | grep monitor', 'Enter')
  expect(await shows(/monitor\s+on/)).toContain('interrupted=130')
  resize(120, 40)
  await pause(1500)
  keys('clear; stty size', 'Enter')
  await shows('40 120')
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
    () => execFileSync('pkill', ['-TERM', '-f', `${KC}.*--vmcore never.*--cwd`]),
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
    // the guest is on its way; whoever joins waits for it
    while ((await kc(['ps'])).stdout.toString().startsWith('No guest')) await pause(200)
    for (const screen of [one, two]) screen.keys(`before=$(stty -g); ${attach}; stty -g`, 'Enter')
    for (const screen of [one, two]) await screen.shows(/root@.*:\/usr#/)
    one.keys('stty size; tty; echo $TERM; ps ax | grep -c "[s]leep 600"', 'Enter')
    const shown = await one.shows(/^1$/m)
    expect(shown).toContain('25 90')
    expect(shown).toMatch(/^\/dev\/hvc[12]$/m)
    expect(shown).toMatch(/^(?:tmux|screen)/m)
    two.keys('stty size; echo in-$((1+1))', 'Enter')
    expect(await two.shows('in-2')).toContain('20 70')
    one.keys('sleep 1000', 'Enter')
    await pause(1500)
    one.keys('C-c')
    one.keys('echo interrupted=$?', 'Enter')
    await one.shows('interrupted=130')
    two.resize(100, 40)
    await pause(1500)
    two.keys('clear; stty size', 'Enter')
    await two.shows('40 100')
    two.keys('exit 4', 'Enter')
    const left = await two.shows('left with 4')
    expect(left).toContain('The shell has ended; the guest runs on.')
    // a console that was left is used again
    two.keys('clear', 'Enter')
    two.keys(attach, 'Enter')
    await two.shows(/root@.*:\/usr#/)
    two.keys('clear; tty; echo again-$((3+4))', 'Enter')
    expect(await two.shows('again-7')).toMatch(/^\/dev\/hvc[12]$/m)
    // whoever sits there is hung up on when kc attach hears a signal
    execFileSync('pkill', ['-TERM', '-f', `${KC} attach`])
    for (const screen of [one, two]) {
      await screen.shows(/left with 1\b/)
      screen.keys('clear; echo sane-$((20+3)); [ "$(stty -g)" = "$before" ] && echo same-$((20+4))', 'Enter')
      await screen.shows('same-24')
    }
    const third = open()
    third.keys(attach, 'Enter')
    await third.shows(/root@.*:\/usr#/)
    third.keys('ps ax | grep -c "[a]ttach.sh"; echo o > /proc/sysrq-trigger', 'Enter')
    await third.shows('The guest has ended.')
    await third.shows('left with 0')
    await first.shows('host$')
  })

  it('says why there is no shell', async () => {
    const screen = open({ columns: 120 })
    screen.keys(attach, 'Enter')
    await screen.shows('kc: No guest of kc runs here: kc attach is for one that does.')
    await screen.shows('left with 2')
    const end = await kc(['attach'])
    expect([end.status, end.stderr]).toEqual([2, 'kc: attach opens a shell: it needs a terminal.\n'])
  })
})
