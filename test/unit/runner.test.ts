import { describe, expect, it } from 'vitest'
import { parseCommands } from '../harness/runner.js'

const names = (log: string) => parseCommands(log).map(({ command, message }) => `${command}: ${message}`)

describe('the harness reads a log as the runner does', () => {
  it.each([
    ['::error::text', ['error: text']],
    ['  ::warning file=a,line=3::text', ['warning: text']],
    ['text ::error::text', []],
    ['a line of progress\r::error::text', ['error: text']],
    ['##[error]text', ['error: text']],
    ['text ##[warning file=a;line=3]more', ['warning: more']],
    ['::no-such-command::text', []],
    ['::stop-commands::t\n::error::a\n##[error]b\ntext\r::error::c\n::t::\n::notice::d', ['notice: d']],
    ['::stop-commands::t\n::T::\n::error::a', []],
  ])('%j', (log, commands) => expect(names(log)).toEqual(commands))

  it('with properties of both forms', () => {
    const properties = { file: 'a', line: '3' }
    for (const log of ['::error file=a,line=3::x', '##[error file=a;line=3]x'])
      expect(parseCommands(log)[0]?.properties).toEqual(properties)
  })
})
