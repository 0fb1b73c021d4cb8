import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { load } from 'js-yaml'
import { marked, type Token } from 'marked'
import { describe, expect, it } from 'vitest'
import { optionsOf } from '../../src/request/options.js'
import { ROOT } from '../kc.js'

/** Directories with documents; the top one without what is below it. */
const DIRECTORIES = ['', 'docs', 'examples', '.github']

const paths = DIRECTORIES.flatMap(directory =>
  readdirSync(join(ROOT, directory), { recursive: directory !== '', encoding: 'utf8' })
    .filter(name => name.endsWith('.md'))
    .map(name => join(directory, name)),
)

/** All tokens of a document, those within others too. */
function tokensOf(path: string): Token[] {
  const tokens: Token[] = []
  marked.walkTokens(marked.lexer(readFileSync(join(ROOT, path), 'utf8')), token => {
    tokens.push(token)
  })
  return tokens
}

const documents = paths.map(path => ({ path, tokens: tokensOf(path) }))

/** The anchor that GitHub gives a heading. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')

function anchors(path: string): string[] {
  return (documents.find(document => document.path === path)?.tokens ?? []).flatMap(token =>
    token.type === 'heading' ? [anchorOf(token.text)] : [],
  )
}

/** The fault of a link of a document; undefined if its target exists, or is outside of the project. */
function wrongLink(from: string, href: string): string | undefined {
  if (/^[a-z]+:/.test(href)) return undefined
  const [path = '', anchor] = href.split('#')
  const target = path === '' ? from : relative(ROOT, join(ROOT, dirname(from), path))
  if (target.startsWith('..') || !existsSync(join(ROOT, target))) return `${href}: there is no ${target}`
  if (anchor !== undefined && !anchors(target).includes(anchor)) return `${href}: ${target} has no #${anchor}`
  return undefined
}

const links = documents.flatMap(({ path, tokens }) =>
  tokens.flatMap(token => (token.type === 'link' || token.type === 'image' ? [[path, token.href]] : [])),
) as [string, string][]

it('documents are found', () => {
  for (const name of ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', 'docs/caching.md'])
    expect(paths).toContain(name)
})

describe('links', () => {
  it('all have a target', () => {
    expect(links.length).toBeGreaterThan(40)
    expect(links.flatMap(([path, href]) => wrongLink(path, href) ?? [])).toEqual([])
  })
  it.each([
    ['docs/caching.md', 'nothing.md', 'nothing.md: there is no docs/nothing.md'],
    ['docs/caching.md', '#nothing', '#nothing: docs/caching.md has no #nothing'],
    ['docs/caching.md', '../../elsewhere', '../../elsewhere: there is no ../elsewhere'],
    ['docs/caching.md', '../README.md#quick-start', undefined],
  ])('one of %s to %s', (path, href, wrong) => expect(wrongLink(path, href)).toBe(wrong))
})

interface Used {
  uses?: unknown
  with?: Record<string, unknown>
}

/** All steps within a piece of YAML, at any depth. */
function stepsIn(value: unknown): Used[] {
  if (typeof value !== 'object' || value === null) return []
  const here = 'uses' in value ? [value as Used] : []
  return [...here, ...Object.values(value).flatMap(stepsIn)]
}

describe('examples in the documents', () => {
  const steps = documents.flatMap(({ path, tokens }) =>
    tokens
      .filter(token => token.type === 'code' && token.lang === 'yaml')
      .flatMap(token => stepsIn(load((token as { text: string }).text)).map(step => ({ path, ...step }))),
  )
  const known = optionsOf('action').map(option => option.name)

  it('name inputs that the action has', () => {
    const ours = steps.filter(({ uses }) => uses === 'kernelcraft/action@v1')
    expect(ours.length).toBeGreaterThan(4)
    for (const step of ours)
      expect(Object.keys(step.with ?? {}).filter(name => !known.includes(name))).toEqual([])
  })
  it('the quick start has ten lines', () => {
    const readme = documents.find(({ path }) => path === 'README.md')?.tokens ?? []
    const first = readme.find(token => token.type === 'code' && token.lang === 'yaml') as { text: string }
    expect(first.text.split('\n')).toHaveLength(10)
    expect(load(first.text)).toMatchObject({ jobs: { boot: { steps: [{}, {}, {}] } } })
  })
})

describe('troubleshooting', () => {
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter(name => /\.(ts|sh)$/.test(name))
    .map(name => readFileSync(join(ROOT, 'src', name), 'utf8'))
    .join('\n')
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const section = readme.slice(readme.indexOf('\n## Troubleshooting\n'), readme.indexOf('\n## Figures\n'))
  const quoted = section
    .split('\n')
    .map(line => line.split(' | ')[0] ?? '')
    .filter(cell => cell.startsWith('| `'))
    .flatMap(cell => [...cell.matchAll(/`([^`]+)`/g)].map(match => match[1] ?? ''))

  it('quotes messages of the source', () => {
    // verdicts and settings are not messages
    const sentences = quoted.filter(text => text.includes(' ') && !/^\w+: \w+$/.test(text))
    expect(sentences.length).toBeGreaterThan(20)
    expect(sentences.filter(text => !sources.includes(text) && !text.startsWith('No space left'))).toEqual([])
  })
})
