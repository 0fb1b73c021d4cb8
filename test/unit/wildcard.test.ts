import { expect, it } from 'vitest'
import { matchesWildcard } from '../../src/triage/wildcard.js'

it.each([
  ['', '', true],
  ['a', 'a', true],
  ['a', 'ab', false],
  ['*', '', true],
  ['*', 'anything', true],
  ['KASAN-*', 'KASAN-USE-AFTER-FREE', true],
  ['KASAN-*', 'a KASAN-USE-AFTER-FREE', false],
  ['*-FREE', 'KASAN-USE-AFTER-FREE', true],
  ['WARNING in *', 'WARNING in ', true],
  ['*in*in*', 'in', false],
  ['*in*in*', 'inin', true],
  ['a*a', 'a', false],
  ['a*a', 'aa', true],
  ['a*bc*c', 'abcbc', true],
  ['a*bc*bc', 'abc', false],
  ['a.b', 'axb', false],
])('%j and %j: %s', (pattern, text, fits) => expect(matchesWildcard(pattern, text)).toBe(fits))

it('agrees with a regular expression on random texts', () => {
  let seed = 1
  const random = (below: number) => {
    seed = (seed * 48271) % 2147483647
    return seed % below
  }
  const word = (letters: string, most: number) =>
    Array.from({ length: random(most) }, () => letters[random(letters.length)]).join('')
  for (let round = 0; round < 5000; round++) {
    const [pattern, text] = [word('ab*', 7), word('ab', 9)]
    const expected = new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(text)
    expect([pattern, text, matchesWildcard(pattern, text)]).toEqual([pattern, text, expected])
  }
})

it('is done with a hostile title at once', () => {
  const pattern = `${'*a'.repeat(50)}*b`
  expect(matchesWildcard(pattern, 'a'.repeat(100_000))).toBe(false)
})
