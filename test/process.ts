import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Result } from '../src/result.js'
import { KC, ROOT } from './cache.js'

export interface Ended {
  status: number | null
  signal: NodeJS.Signals | null
  stdout: Buffer
  stderr: string
  /** undefined where no run took place */
  result?: Result
  runDirectory?: string
}

export interface Started {
  pid: number
  ended: Promise<Ended>
  /** resolves when the text has appeared on stderr */
  saw(text: string): Promise<void>
  /** resolves with the run directory when it has been printed */
  runDirectory(): Promise<string>
}

export interface ProcessOptions {
  env?: NodeJS.ProcessEnv
  cwd?: string
}

const RESULTS = /^\s*results: (.*)$/m

/** Starts the kc of dist/. */
export function spawnKc(args: readonly string[], { env, cwd = ROOT }: ProcessOptions): Started {
  const child = spawn(process.execPath, [KC, ...args], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const stdout: Buffer[] = []
  let stderr = ''
  const waiting: (() => void)[] = []
  child.stdout.on('data', chunk => stdout.push(chunk))
  child.stderr.on('data', chunk => {
    stderr += chunk
    for (const look of waiting) look()
  })
  const ended = new Promise<Ended>(done => {
    child.on('close', (status, signal) => {
      const runDirectory = RESULTS.exec(stderr)?.[1]
      let result: Result | undefined
      try {
        result = JSON.parse(readFileSync(join(runDirectory ?? '', 'result.json'), 'utf8'))
      } catch {
        // killed before it could write one
      }
      done({ status, signal, stdout: Buffer.concat(stdout), stderr, result, runDirectory })
    })
  })
  const until = <T>(find: () => T | undefined, what: string) =>
    new Promise<T>((done, reject) => {
      const look = () => {
        const found = find()
        if (found !== undefined) done(found)
      }
      waiting.push(look)
      look()
      ended.then(end => reject(new Error(`kc ended without ${what}: ${end.stderr}`)))
    })
  return {
    pid: child.pid ?? 0,
    ended,
    saw: async text => {
      await until(() => (stderr.includes(text) ? true : undefined), JSON.stringify(text))
    },
    runDirectory: () => until(() => /^\s*results: (.*)\n/m.exec(stderr)?.[1], 'a run directory'),
  }
}

export const runKc = (args: readonly string[], options: ProcessOptions): Promise<Ended> =>
  spawnKc(args, options).ended
