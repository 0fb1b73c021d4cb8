// Writes what follows from src/request/options.ts: action.yml, and the tables of README.md. With --check it only compares.
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import ts from 'typescript'

const root = dirname(import.meta.dirname)
const source = readFileSync(join(root, 'src', 'request', 'options.ts'), 'utf8')
const { outputText } = ts.transpileModule(source, {
  compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
})
const { OPTIONS, OUTPUTS, flagOf, optionsOf } = await import(
  `data:text/javascript,${encodeURIComponent(outputText)}`
)

/** As a sentence; a value at its beginning stays as it is typed. */
function sentence(text, value) {
  const [first = ''] = /^[\w-]+/.exec(text) ?? []
  const typed = first === value || /[\d_]/.test(first)
  return `${typed ? text[0] : text[0].toUpperCase()}${text.slice(1)}.`
}
const describe = option =>
  [
    sentence(option.help.replace(/; (?:repeatable|also as `-- COMMAND \.\.\.`)$/, ''), option.default),
    option.more,
  ]
    .filter(Boolean)
    .join(' ')

function actionYml() {
  const inputs = optionsOf('action').map(option =>
    [
      `  ${option.name}:`,
      `    description: ${JSON.stringify(describe(option))}`,
      `    required: ${option.name === 'run'}`,
      ...(option.default === undefined ? [] : [`    default: ${JSON.stringify(option.default)}`]),
    ].join('\n'),
  )
  const outputs = Object.entries(OUTPUTS).map(
    ([name, text]) => `  ${name}:\n    description: ${JSON.stringify(text)}`,
  )
  return `# Written by \`npm run docs\` from src/request/options.ts.
name: KernelCraft
author: The KernelCraft authors
description: Build, boot and test a kernel ref in a virtual machine over a snapshot of the runner's own root
branding:
  icon: cpu
  color: gray-dark
inputs:
${inputs.join('\n')}
outputs:
${outputs.join('\n')}
runs:
  using: node24
  main: dist/action/index.js
  post: dist/action/index.js
`
}

const cell = text => text.replaceAll('|', '\\|')

function optionTable() {
  const rows = OPTIONS.map(option => {
    const input = option.only === 'kc' ? '' : `\`${option.name}\``
    const letter = option.letter ? `\`-${option.letter}\`, ` : ''
    const flag = option.only === 'action' ? '' : `${letter}\`--${flagOf(option)}\``
    const fallback = option.default === undefined ? '' : `\`${option.default}\``
    return `| ${input} | ${flag} | ${cell(describe(option))} | ${fallback} |`
  })
  return ['| input | flag of kc | meaning | default |', '|---|---|---|---|', ...rows].join('\n')
}

function outputTable() {
  return [
    '| output | meaning |',
    '|---|---|',
    ...Object.entries(OUTPUTS).map(([name, text]) => `| \`${name}\` | ${cell(text)} |`),
  ].join('\n')
}

function between(text, name, content) {
  const [start, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`]
  const from = text.indexOf(start)
  const to = text.indexOf(end)
  if (from < 0 || to < from) throw new Error(`README.md has no place for ${name}`)
  return `${text.slice(0, from + start.length)}\n${content}\n${text.slice(to)}`
}

const readme = readFileSync(join(root, 'README.md'), 'utf8')
const wanted = {
  'action.yml': actionYml(),
  'README.md': between(between(readme, 'options', optionTable()), 'outputs', outputTable()),
}
let stale = false
for (const [name, text] of Object.entries(wanted)) {
  const path = join(root, name)
  let current = ''
  try {
    current = readFileSync(path, 'utf8')
  } catch {
    // it is about to be written
  }
  if (current === text) continue
  stale = true
  if (process.argv.includes('--check'))
    console.error(`${name} is not what src/request/options.ts says: run npm run docs`)
  else writeFileSync(path, text)
}
process.exitCode = stale && process.argv.includes('--check') ? 1 : 0
