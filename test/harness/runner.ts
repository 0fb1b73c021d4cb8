import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { CACHE, scratch } from '../kc.js'

const ROOT = resolve(import.meta.dirname, '..', '..')

/** The Node versions that run actions: `using: node20` and `node24`. */
export const NODES = {
  node20: join(ROOT, 'node_modules', 'node20', 'bin', 'node'),
  node24: join(ROOT, 'node_modules', 'node24', 'bin', 'node'),
} as const

export interface WorkflowCommand {
  command: string
  properties: Record<string, string>
  message: string
}

export interface StepEnd {
  status: number | null
  log: string
  /** commands that a runner would have acted on, stop-commands respected */
  commands: WorkflowCommand[]
  outputs: Record<string, string>
  summary: string
}

/** A step of a job: main, then post with the state that main left, as the runner calls them. */
export interface Step {
  runnerTemp: string
  main(onLine?: (line: string, kill: (signal: NodeJS.Signals) => void) => void): Promise<StepEnd>
  post(): Promise<StepEnd>
  remove(): void
}

/** What a runner reads of a log: `::command key=value::message`, unless commands are stopped. */
export function parseCommands(log: string): WorkflowCommand[] {
  const found: WorkflowCommand[] = []
  let stopped: string | undefined
  for (const line of log.split(/\r?\n/)) {
    const match = /^\s*::([\w-]+)(?: ([^:]*(?::(?!:)[^:]*)*))?::(.*)$/.exec(line)
    if (stopped !== undefined) {
      if (line.trim() === `::${stopped}::`) stopped = undefined
      continue
    }
    if (!match?.[1]) continue
    if (match[1] === 'stop-commands') {
      stopped = match[3]
      continue
    }
    const properties = Object.fromEntries(
      (match[2] ?? '')
        .split(',')
        .filter(Boolean)
        .map(pair => {
          const equals = pair.indexOf('=')
          return [pair.slice(0, equals).trim(), pair.slice(equals + 1)]
        }),
    )
    found.push({ command: match[1], properties, message: match[3] ?? '' })
  }
  return found
}

/** The entries of a file of the runner's (GITHUB_OUTPUT, GITHUB_STATE): `name<<DELIMITER`, lines, `DELIMITER`. */
function parseFile(path: string): Record<string, string> {
  const entries: Record<string, string> = {}
  const lines = readFileSync(path, 'utf8').split('\n')
  for (let index = 0; index < lines.length; index++) {
    const [, name, delimiter] = /^(.+?)<<(.+)$/.exec(lines[index] ?? '') ?? []
    if (!name || !delimiter) continue
    const value: string[] = []
    for (index++; index < lines.length && lines[index] !== delimiter; index++) value.push(lines[index] ?? '')
    entries[name] = value.join('\n')
  }
  return entries
}

/** Sets up a step of the action in dist/ with these inputs. */
export function makeStep(
  node: keyof typeof NODES,
  inputs: Record<string, string>,
  options: { env?: NodeJS.ProcessEnv; workspace?: string } = {},
): Step {
  const home = scratch(`step-${node}`)
  const runnerTemp = join(home, '_temp')
  mkdirSync(runnerTemp)
  const files = Object.fromEntries(
    ['OUTPUT', 'STATE', 'ENV', 'PATH', 'STEP_SUMMARY'].map(name => [name, join(home, name)]),
  )
  for (const path of Object.values(files)) writeFileSync(path, '')
  const env: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    KERNELCRAFT_CACHE: CACHE,
    CI: 'true',
    GITHUB_ACTIONS: 'true',
    GITHUB_SERVER_URL: 'https://github.com',
    GITHUB_REPOSITORY: 'owner/linux',
    GITHUB_RUN_ID: '42',
    GITHUB_RUN_ATTEMPT: '1',
    GITHUB_JOB: 'smoke',
    GITHUB_WORKSPACE: options.workspace ?? home,
    RUNNER_TEMP: runnerTemp,
    GITHUB_TOKEN: 'ghs_must_not_be_seen',
    ...Object.fromEntries(Object.entries(files).map(([name, path]) => [`GITHUB_${name}`, path])),
    ...Object.fromEntries(
      Object.entries(inputs).map(([name, value]) => [`INPUT_${name.toUpperCase()}`, value]),
    ),
    ...options.env,
  }
  const start = (
    more: NodeJS.ProcessEnv,
    onLine?: (line: string, kill: (signal: NodeJS.Signals) => void) => void,
  ): Promise<StepEnd> =>
    new Promise(done => {
      const child = spawn(NODES[node], [join(ROOT, 'dist', 'action', 'index.js')], {
        cwd: env.GITHUB_WORKSPACE,
        env: { ...env, ...more },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      let log = ''
      const kill = (signal: NodeJS.Signals) => child.kill(signal)
      const hear = (chunk: Buffer) => {
        log += chunk
        for (const line of chunk.toString().split('\n')) onLine?.(line, kill)
      }
      child.stdout.on('data', hear)
      child.stderr.on('data', hear)
      child.on('close', status =>
        done({
          status,
          log,
          commands: parseCommands(log),
          outputs: parseFile(files.OUTPUT ?? ''),
          summary: readFileSync(files.STEP_SUMMARY ?? '', 'utf8'),
        }),
      )
    })
  return {
    runnerTemp,
    main: onLine => start({}, onLine),
    post: () =>
      start(
        Object.fromEntries(
          Object.entries(parseFile(files.STATE ?? '')).map(([name, value]) => [`STATE_${name}`, value]),
        ),
      ),
    remove: () => rmSync(home, { recursive: true, force: true }),
  }
}
