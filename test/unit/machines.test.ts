import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ARCH_NAMES, archOf, findArch } from '../../src/arch.js'
import { MOST_SHELLS, requestLine } from '../../src/boot/guest-requests.js'
import { allows, macOf } from '../../src/host/bridge.js'
import { chooseGuest } from '../../src/host/choose-guest.js'
import type { RunningGuest } from '../../src/host/registry.js'
import { isBundled } from '../../src/request/bundled-fragments.js'
import { OPTIONS } from '../../src/request/options.js'
import { parseNetwork } from '../../src/request/values.js'
import { ROOT } from '../kc.js'

describe('architectures', () => {
  it('are those that the option names', () => {
    const option = OPTIONS.find(({ name }) => name === 'arch')
    expect(option?.choices).toEqual(ARCH_NAMES)
  })

  it.each(ARCH_NAMES)('%s has a fragment, a name that uname prints, and room for its consoles', name => {
    expect(isBundled(name)).toBe(true)
    const arch = archOf(name)
    expect(findArch(arch.machine)).toBe(name)
    expect(findArch(arch.debian)).toBe(name)
    // HVC_ALLOC_TTY_ADAPTERS
    expect(arch.firstTerminal + MOST_SHELLS).toBeLessThan(8)
  })

  it.each(ARCH_NAMES.filter(name => archOf(name).panic === 'platform'))(
    '%s asks for no device that its machine lacks',
    name => {
      const path = join(ROOT, 'src', 'config', 'fragments', `${name}.config`)
      expect(existsSync(path)).toBe(true)
      expect(readFileSync(path, 'utf8')).toContain('# CONFIG_PVPANIC is not set')
    },
  )
})

describe("what the guest's init is asked", () => {
  it('is one line, whatever the terminal calls itself', () => {
    const shell = { word: 'attach', number: 2, rows: 25, columns: 80 } as const
    expect(requestLine({ ...shell, type: 'tmux-256color', colours: 'truecolor' })).toBe(
      'attach 2 25 80 tmux-256color truecolor\n',
    )
    expect(requestLine({ ...shell, type: 'x"; reboot #\nattach 1' })).toBe('attach 2 25 80 xrebootattach1\n')
    expect(requestLine({ ...shell, type: '"' })).toBe('attach 2 25 80 dumb\n')
    expect(requestLine({ ...shell, type: 'x'.repeat(9000) }).length).toBeLessThanOrEqual(512)
    expect(requestLine({ word: 'size', number: 0, rows: 1, columns: 2 })).toBe('size 0 1 2\n')
    expect(requestLine({ word: 'leave', number: 3 })).toBe('leave 3\n')
  })
})

describe('which guest is meant', () => {
  const guest = (name: string) => ({ runDirectory: `/runs/2026-11-25-101010-${name}` }) as RunningGuest
  const [a, b] = [guest('aaaaaa'), guest('bbbbbb')]
  it('the only one, or by name or directory', () => {
    expect(chooseGuest([a], undefined, 'kc attach')).toBe(a)
    expect(chooseGuest([a, b], 'bbbbbb', 'kc attach')).toBe(b)
    expect(chooseGuest([a, b], a.runDirectory, 'kc attach')).toBe(a)
  })
  it.each([
    [[], undefined, 'No guest of kc runs here: kc attach is for one that does.'],
    [[], 'x', 'No guest runs by the name or with the run directory x.'],
    [[a], 'x', 'No guest runs by the name or with the run directory x; these do:\n    kc attach aaaaaa'],
    [[a, b], undefined, '2 guests run, say which one is meant:\n    kc attach aaaaaa\n    kc attach bbbbbb'],
  ])('otherwise the choices are named', (guests, wanted, sentence) => {
    expect(() => chooseGuest(guests, wanted, 'kc attach')).toThrow(sentence)
  })
})

describe('bridges', () => {
  it.each([
    ['none', { kind: 'none' }],
    ['user', { kind: 'user' }],
    ['loop', { kind: 'loop' }],
    ['bridge', { kind: 'bridge', bridge: 'virbr0' }],
    ['bridge=br-lan.1', { kind: 'bridge', bridge: 'br-lan.1' }],
  ])('%s is %j', (text, network) => expect(parseNetwork(text)).toEqual(network))

  it.each(['user=br0', 'bridge=', 'tap'])('%s is none', text => expect(() => parseNetwork(text)).toThrow())

  // the rules of QEMU's helper: somebody allows, and nobody denies
  it.each([
    ['', false],
    ['allow br0\n', true],
    ['  allow\tbr0  \n', true],
    ['# allow br0\n', false],
    ['allow all\ndeny br0\n', false],
    ['deny all\nallow br0\n', false],
    ['allow br1\n', false],
    ['include more\n', true],
    ['include again\n', false],
  ])('%j: %s', (text, expected) => {
    const files: Record<string, string> = { more: 'allow br0\n', again: 'include again\n' }
    expect(allows(text, 'br0', path => files[path] ?? '')).toBe(expected)
  })

  it('guests have addresses of their own, which nobody was given by a maker', () => {
    const [one, two] = [macOf('/runs/a'), macOf('/runs/b')]
    expect(one).toMatch(/^52:54:00(:[0-9a-f]{2}){3}$/)
    expect(one).not.toBe(two)
  })
})
