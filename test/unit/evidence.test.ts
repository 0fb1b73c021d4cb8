import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { guestOutputParser } from '../../src/judge/guest-output.js'

const FIXTURES = join(import.meta.dirname, '..', 'fixtures')

describe('the guest output parser', () => {
  const kunit = readFileSync(join(FIXTURES, 'ktap', 'kunit.txt'))
  const splat = readFileSync(join(FIXTURES, 'console', 'warning-in-lkdtm-warning.txt'))
  const parse = (console: Buffer, stdout: Buffer, size: number) => {
    const parser = guestOutputParser([])
    for (let at = 0; at < console.length; at += size) parser.console(console.subarray(at, at + size))
    for (let at = 0; at < stdout.length; at += size) parser.stdout(stdout.subarray(at, at + size))
    return parser.end()
  }
  it.each([1, 7, 100, 1 << 20])('finds the same in chunks of %i bytes', size => {
    const whole = parse(Buffer.concat([splat, kunit]), kunit, 1 << 22)
    const output = parse(Buffer.concat([splat, kunit]), kunit, size)
    expect(output).toEqual(whole)
    expect(output.findings.map(({ title }) => title)).toEqual(['WARNING in lkdtm_WARNING'])
    const once = parse(Buffer.alloc(0), kunit, 1 << 22).tests?.counts.total ?? 0
    expect(once).toBeGreaterThan(0)
    expect(output.tests?.counts.total).toBe(2 * once)
  })
  it('notices a report when it begins', () => {
    const parser = guestOutputParser([])
    expect(parser.console(Buffer.from('[    1.000000] all is well\n'))).toBe(false)
    expect(parser.console(splat)).toBe(true)
    expect(parser.console(Buffer.from('[    9.000000] all is well again\n'))).toBe(false)
  })
  it('an empty plan is not a test', () => {
    expect(parse(Buffer.from('KTAP version 1\n1..0\n'), Buffer.alloc(0), 100).tests).toBeUndefined()
  })
})
