import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { emptyCache, ROOT, scratch } from '../kc.js'

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
  /** commands that a runner would have acted on */
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

/** Commands that GitHub's runner acts on (actions/runner, ActionCommandManager); others are text. */
const REGISTERED = new Set([
  ...['set-output', 'set-env', 'add-path', 'add-mask', 'add-matcher', 'remove-matcher', 'save-state', 'echo'],
  ...['debug', 'warning', 'notice', 'error', 'group', 'endgroup', 'stop-commands', 'internal-set-repo-path'],
])

/**
 * The command in a line as GitHub's runner reads it (actions/runner, ActionCommand): `::name key=value,...::message` at
 * its start, blanks aside, or `##[name key=value;...]message` anywhere in it.
 */
export function parseCommand(line: string): WorkflowCommand | undefined {
  const start = line.trimStart()
  const current = /^::([\w-]+)(?: (.*?))?::(.*)$/.exec(start)
  const older = /##\[([\w-]+)(?: ([^\]]*))?\](.*)$/.exec(line)
  const [match, separator] = current ? [current, ','] : [older, ';']
  const [, command = '', text = '', message = ''] = match ?? []
  const properties = Object.fromEntries(
    text
      .split(separator)
      .filter(pair => pair.includes('='))
      .map(pair => [pair.slice(0, pair.indexOf('=')).trim(), pair.slice(pair.indexOf('=') + 1)]),
  )
  return match ? { command, properties, message } : undefined
}

/** What a runner acts on in a log. It takes a lone carriage return for the end of a line, too (.NET's StreamReader). */
export function parseCommands(log: string): WorkflowCommand[] {
  const found: WorkflowCommand[] = []
  let token: string | undefined
  for (const line of log.split(/\r\n|\r|\n/)) {
    const command = parseCommand(line)
    if (!command) continue
    if (token !== undefined) {
      if (command.command === token) token = undefined
    } else if (command.command === 'stop-commands') token = command.message
    else if (REGISTERED.has(command.command)) found.push(command)
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

let made = 0

/** Sets up a step of the action in dist/ with these inputs. */
export function makeStep(
  node: keyof typeof NODES,
  inputs: Record<string, string>,
  options: { env?: NodeJS.ProcessEnv; workspace?: string } = {},
): Step {
  const home = scratch(`step-${++made}`)
  const runnerTemp = join(home, '_temp')
  mkdirSync(runnerTemp)
  const files = Object.fromEntries(
    ['OUTPUT', 'STATE', 'ENV', 'PATH', 'STEP_SUMMARY'].map(name => [name, join(home, name)]),
  )
  for (const path of Object.values(files)) writeFileSync(path, '')
  const env: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    KERNELCRAFT_CACHE: emptyCache(),
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
      const read = (chunk: Buffer) => {
        log += chunk
        for (const line of chunk.toString().split('\n')) onLine?.(line, kill)
      }
      child.stdout.on('data', read)
      child.stderr.on('data', read)
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
