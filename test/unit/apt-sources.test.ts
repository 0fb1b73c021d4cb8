import { describe, expect, it } from 'vitest'
import {
  type AptSource,
  type Distribution,
  parseDeb822Sources,
  parseOneLineSources,
  sourceLines,
} from '../../src/host/apt-sources.js'

const debian: Distribution = {
  id: 'debian',
  suite: 'bookworm',
  architecture: 'amd64',
  suites: ['bookworm', 'trixie', 'sid'],
}
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'

const ONE_LINE = `# deb http://old.example.org/debian bookworm main
deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb http://mirror.example.org/debian bookworm main non-free # a comment
deb-src http://mirror.example.org/debian bookworm main
deb http://mirror.example.org/debian/ bookworm-updates main
\tdeb [ arch=amd64,arm64 signed-by="${KEYRING}" ] http://security.example.org/debian-security bookworm-security main
deb [signed-by=/etc/apt/keyrings/other.gpg] https://other.example.org/apt bookworm main
deb http://flat.example.org/ ./
`

const DEB822 = `Types: deb deb-src
# where it was: http://old.example.org/debian
URIs: http://mirror.example.org/debian
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By: ${KEYRING}

Types: deb
URIs: http://security.example.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: ${KEYRING}


Enabled: no
Types: deb
URIs: http://disabled.example.org/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example.org/debian
Suites: bookworm
Components: main

types: deb
uris: https://other.example.org/apt
suites: bookworm
components: main
architectures: arm64 riscv64
signed-by:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEYCQjIxYJKwYBBAHaRw8BAQdA
 -----END PGP PUBLIC KEY BLOCK-----
`

describe("apt's sources", () => {
  it('in the one-line style', () => {
    const sources = parseOneLineSources(ONE_LINE)
    expect(sources.map(({ uris }) => uris[0])).toEqual([
      'cdrom:[Debian',
      'http://mirror.example.org/debian',
      'http://mirror.example.org/debian/',
      'http://security.example.org/debian-security',
      'https://other.example.org/apt',
      'http://flat.example.org/',
    ])
    expect(sources[1]).toEqual({
      uris: ['http://mirror.example.org/debian'],
      suites: ['bookworm'],
      components: ['main', 'non-free'],
    })
    expect(sources[3]).toMatchObject({ architectures: ['amd64', 'arm64'], signedBy: KEYRING })
  })

  it('in the deb822 style', () => {
    const sources = parseDeb822Sources(DEB822)
    expect(sources).toHaveLength(3)
    expect(sources[0]).toEqual({
      uris: ['http://mirror.example.org/debian'],
      suites: ['bookworm', 'bookworm-updates'],
      components: ['main', 'contrib'],
      signedBy: KEYRING,
    })
    expect(sources[2]?.architectures).toEqual(['arm64', 'riscv64'])
    expect(sources[2]?.signedBy).toMatch(/^-----BEGIN PGP/)
  })

  it.each(['', '\n\n', 'deb', 'deb [', 'Types: deb', 'Types', ': deb\n :'])('%j has none', text => {
    expect(parseOneLineSources(text)).toEqual([])
    expect(parseDeb822Sources(text).flatMap(({ uris }) => uris)).toEqual([])
  })
})

describe('the archive of a root', () => {
  const signed = `deb [signed-by=${KEYRING}]`
  it.each([
    [
      'one-line',
      parseOneLineSources(ONE_LINE),
      [
        'deb http://mirror.example.org/debian bookworm main',
        'deb http://mirror.example.org/debian/ bookworm-updates main',
        `${signed} http://security.example.org/debian-security bookworm-security main`,
      ],
    ],
    [
      'deb822',
      parseDeb822Sources(DEB822),
      [
        `${signed} http://mirror.example.org/debian bookworm main`,
        `${signed} http://mirror.example.org/debian bookworm-updates main`,
        `${signed} http://security.example.org/debian-security bookworm-security main`,
      ],
    ],
  ])('is that of the machine, with its updates: %s', (_style, sources, lines) => {
    expect(sourceLines(sources, debian, 'bookworm', 'arm64')).toEqual(lines)
  })

  it('has other suites of the same distribution', () => {
    const sources = parseDeb822Sources(DEB822)
    expect(sourceLines(sources, debian, 'trixie', 'riscv64')).toEqual([
      `${signed} http://mirror.example.org/debian trixie main`,
    ])
    expect(sourceLines(sources, debian, 'noble', 'amd64')).toEqual([])
  })

  it('is the one that has updates', () => {
    const source = (uri: string, ...suites: string[]): AptSource => ({
      uris: [uri],
      suites,
      components: ['main'],
    })
    const sources = [
      source('http://other.example.org', 'bookworm'),
      source('http://mirror.example.org', 'bookworm', 'bookworm-updates'),
    ]
    expect(sourceLines(sources, debian, 'bookworm', 'amd64')[0]).toBe(
      'deb http://mirror.example.org bookworm main',
    )
  })

  it.each([
    ['amd64', 'amd64', 1],
    ['amd64', 'arm64', 0],
    ['arm64', 'riscv64', 1],
    ['arm64', 'amd64', 0],
  ])("Ubuntu's of %s has %s: %i", (own, wanted, count) => {
    const sources = parseOneLineSources('deb http://mirror.example.org/ubuntu noble main universe')
    const ubuntu: Distribution = { id: 'ubuntu', suite: 'noble', architecture: own, suites: ['noble'] }
    expect(sourceLines(sources, ubuntu, 'noble', wanted)).toHaveLength(count)
  })

  it.each([
    'mirror+file:/etc/apt/apt-mirrors.txt',
    'file:/srv/debian',
    'http://user:password@mirror.example.org/debian',
  ])('is none at %s', uri => {
    expect(sourceLines(parseOneLineSources(`deb ${uri} bookworm main`), debian, 'bookworm', 'amd64')).toEqual(
      [],
    )
  })
})
