// Builds dist/: two bundles and the files that are no TypeScript, the same bytes on every machine.
import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const root = dirname(import.meta.dirname)
const dist = join(root, 'dist')
const ASSETS = /\.(config|sh|c|txt|py)$/
const ENTRIES = { action: 'src/action.ts', kc: 'src/cli.ts' }

rmSync(dist, { recursive: true, force: true })
for (const [name, entry] of Object.entries(ENTRIES)) {
  execFileSync(
    'npx',
    [
      'ncc',
      'build',
      entry,
      '--out',
      join(dist, name),
      '--license',
      'licenses.txt',
      '--minify',
      '--no-cache',
      '--quiet',
    ],
    {
      cwd: root,
      stdio: 'inherit',
    },
  )
}
const kc = join(dist, 'kc', 'index.js')
const text = readFileSync(kc, 'utf8')
if (!text.startsWith('#!')) writeFileSync(kc, `#!/usr/bin/env node\n${text}`)
chmodSync(kc, 0o755)

for (const entry of readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || !ASSETS.test(entry.name)) continue
  const from = join(entry.parentPath, entry.name)
  const to = join(dist, 'assets', from.slice(join(root, 'src').length))
  mkdirSync(dirname(to), { recursive: true })
  cpSync(from, to)
}
