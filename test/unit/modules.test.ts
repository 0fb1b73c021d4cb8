import { describe, expect, it } from 'vitest'
import { parseControlLine } from '../../src/boot/control-port.js'
import type { Outcome } from '../../src/boot/outcome.js'
import { parseEntry, SymbolTable } from '../../src/dump/symbols.js'
import { expand, parseDkms } from '../../src/request/dkms.js'
import { displayPath, moduleName } from '../../src/request/module-source.js'

const HEAD = 'PACKAGE_NAME="it"\nPACKAGE_VERSION=1.0\n'

describe('a dkms.conf', () => {
  it('names what is built, and how', () => {
    const text = `${HEAD}# a comment
MAKE[0]="make -C $kernel_source_dir M=$dkms_tree/it/1.0/build \\
  'WORDS=one two'"
BUILT_MODULE_NAME[1]='second'
BUILT_MODULE_LOCATION[1]="src/"
BUILT_MODULE_NAME[0]="$PACKAGE_NAME"
`
    expect(parseDkms(text, 'dkms.conf')).toEqual({
      package: 'it',
      version: '1.0',
      make: ['make', '-C', '$kernel_source_dir', 'M=$dkms_tree/it/1.0/build', 'WORDS=one two'],
      built: [
        { name: 'it', location: '' },
        { name: 'second', location: 'src/' },
      ],
    })
  })

  it('with a name alone builds one module of that name', () =>
    expect(parseDkms(HEAD, 'dkms.conf').built).toEqual([{ name: 'it', location: '' }]))

  it.each([
    ['a second command', `${HEAD}MAKE="make; curl example.org"\n`, /only one call of make/],
    ['a substitution', `${HEAD}MAKE="make V=$(id)"\n`, /only one call of make/],
    ['another program', `${HEAD}MAKE="./build.sh"\n`, /only one call of make/],
    ['a script', `${HEAD}PRE_BUILD="configure.sh"\n`, /has PRE_BUILD, which is not run here/],
    ['no name', 'PACKAGE_VERSION=1\n', /no PACKAGE_NAME or PACKAGE_VERSION/],
    ['a name that leads elsewhere', 'PACKAGE_NAME="../../x"\nPACKAGE_VERSION=1\n', /no PACKAGE_NAME/],
  ])('with %s is refused', (_what, text, sentence) =>
    expect(() => parseDkms(text, 'dkms.conf')).toThrow(sentence),
  )

  it('has variables replaced, unknown ones by nothing', () =>
    expect(expand(`$a/$\{b}/$none.`, { a: '1', b: '2' })).toBe('1/2/.'))
})

it.each([
  ['drivers/my-module.ko', 'my_module'],
  ['x.ko.xz', 'x'],
  ['a-b.o', 'a_b'],
])('the module of %s is %s', (file, name) => expect(moduleName(file)).toBe(name))

it.each([
  ['/w/mod/a.c', '/w', 'mod/a.c'],
  ['/else/a.c', '/w', '/else/a.c'],
  ['/w', '/w', '/w'],
  ['kernel/a.c', '/w', 'kernel/a.c'],
])('%s seen from %s is %s', (path, cwd, shown) => expect(displayPath(path, cwd)).toBe(shown))

it('a function is found by its address in a section, under its own name', () => {
  const table = new SymbolTable(
    [
      '0000000000000000 l     F .init.text\t0000000000000091 mine_init',
      '0000000000000000 g     F .init.text\t0000000000000091 init_module',
      '0000000000000020 l     F .text\t0000000000000042 mine',
    ].flatMap(line => parseEntry(line) ?? []),
  )
  expect([table.at('.init.text', 5n), table.at('.text', 0x30n), table.at('.text', 0x70n)]).toEqual([
    'mine_init+0x5/0x91',
    'mine+0x10/0x42',
    undefined,
  ])
})

describe('the control port', () => {
  const parsed = (...lines: string[]): Outcome => {
    const outcome: Outcome = {
      ...{ started: false, panicked: false, cancelled: false },
      ...{ exit: {}, modules: {}, leaks: [], timestamps: {} },
    }
    for (const [second, line] of lines.entries()) parseControlLine(line, outcome, second)
    return outcome
  }
  it('reports modules', () =>
    expect(
      parsed('loaded a', 'section a .text 0xffffffffa0000000', 'stuck a in use', 'refused b \x1b[31mno\x00')
        .modules,
    ).toEqual({
      a: { loaded: true, sections: { '.text': '0xffffffffa0000000' }, trouble: 'in use' },
      b: { loaded: false, sections: {}, trouble: '?[31mno?' },
    }))
  it('has one status, the first', () =>
    expect(parsed('commands', 'ended 3', 'status 0')).toMatchObject({
      status: 3,
      started: true,
      timestamps: { commands: 0, status: 2 },
    }))
  it('takes neither an invalid address nor an invalid status', () => {
    const outcome = parsed('section a .text 0x1; rm', 'status 9999')
    expect([outcome.modules, outcome.status]).toEqual([{}, undefined])
  })
})
