// node scripts/e2e.mjs [ROOM | FILE ...]: the end-to-end tests of a room of src/, of files by name, or all of them.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

const root = dirname(import.meta.dirname)

/** The files of test/e2e/ that show what a room does. */
const ROOMS = {
  host: ['input', 'processes', 'arches'],
  request: ['input', 'options'],
  report: ['action', 'verdicts'],
  source: ['checkout', 'input'],
  config: ['input'],
  build: ['build-host', 'cache', 'modules'],
  boot: ['streams', 'options', 'isolation', 'shell', 'processes', 'bridge', 'arches'],
  dump: ['dump', 'faults', 'arches'],
  triage: ['faults', 'ktap'],
  judge: ['verdicts', 'faults'],
  commands: ['terminal', 'shell', 'checkout', 'dump'],
  github: ['action', 'services', 'cache'],
}

const wanted = process.argv.slice(2)
const files = [...new Set(wanted.flatMap(name => ROOMS[name] ?? [name]))].map(
  name => `test/e2e/${name}.test.ts`,
)
const missing = files.find(file => !existsSync(join(root, file)))
if (missing) {
  console.error(
    `There is no ${missing}. Name a room (${Object.keys(ROOMS).join(', ')}) or a file of test/e2e/.`,
  )
  process.exit(2)
}
const end = spawnSync('npx', ['vitest', 'run', '--project', 'e2e', ...files], { cwd: root, stdio: 'inherit' })
process.exit(end.status ?? 1)
