import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { guestOutputParser } from '../../src/judge/guest-output.js'

const FIXTURES = join(import.meta.dirname, '..', 'fixtures')

describe('an ear', () => {
  const kunit = readFileSync(join(FIXTURES, 'ktap', 'kunit.txt'))
  const splat = readFileSync(join(FIXTURES, 'console', 'warning-in-lkdtm-warning.txt'))
  const hear = (console: Buffer, stdout: Buffer, piece: number) => {
    const ear = guestOutputParser([])
    for (let at = 0; at < console.length; at += piece) ear.console(console.subarray(at, at + piece))
    for (let at = 0; at < stdout.length; at += piece) ear.stdout(stdout.subarray(at, at + piece))
    return ear.end()
  }
  it.each([1, 7, 100, 1 << 20])('hears the same in pieces of %i bytes', piece => {
    const whole = hear(Buffer.concat([splat, kunit]), kunit, 1 << 22)
    const heard = hear(Buffer.concat([splat, kunit]), kunit, piece)
    expect(heard).toEqual(whole)
    expect(heard.findings.map(({ title }) => title)).toEqual(['WARNING in lkdtm_WARNING'])
    const once = hear(Buffer.alloc(0), kunit, 1 << 22).tests?.counts.total ?? 0
    expect(once).toBeGreaterThan(0)
    expect(heard.tests?.counts.total).toBe(2 * once)
  })
  it('hears a report when it begins', () => {
    const ear = guestOutputParser([])
    expect(ear.console(Buffer.from('[    1.000000] all is well\n'))).toBe(false)
    expect(ear.console(splat)).toBe(true)
    expect(ear.console(Buffer.from('[    9.000000] all is well again\n'))).toBe(false)
  })
  it('an empty plan is no test', () => {
    expect(hear(Buffer.from('KTAP version 1\n1..0\n'), Buffer.alloc(0), 100).tests).toBeUndefined()
  })
})
