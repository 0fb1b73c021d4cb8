import { mkdir, open, readFile, stat, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { cachePath } from '../host/paths.js'
import { describeEnd, run } from '../host/processes.js'
import { which } from '../host/tools.js'
import { readHeader } from './kdump.js'

export type CrashProbe =
  | {
      works: true
      /** its output, for crash.txt */
      text: string
    }
  | {
      works: false
      /** one sentence */
      reason: string
      /** its output, if it has a stack nevertheless */
      partial?: string
    }

const COMMANDS = 'sys\nbt\nbt -a\nps\nq\n'
/** it takes five seconds, or does not end because it does not understand the kernel's tables */
const DEADLINE_SECONDS = 20

/** Signs that crash is older than the kernel, or does not support an option that the kernel was built with. */
const FAILURES: readonly [RegExp, (match: RegExpExecArray) => string][] = [
  [/segmentation violation in gdb/, () => 'it crashes on its debug information'],
  [/invalid structure member offset: (\S+)/, match => `it does not know its structures (${match[1]})`],
  [/invalid structure size: (\S+)/, match => `it does not know its structures (${match[1]})`],
  [/cannot resolve:? "?(\w+)/, match => `it does not find ${match[1]}`],
  [/not found in PID hash/, () => 'it does not find all tasks'],
  [/invalid size request|read of stack at \S+ failed/, () => 'it does not find the stacks'],
]

const STACK = /^ *#0 \[[0-9a-f]+\] \S+ at /m

/**
 * Whether crash understands a dump of this kernel. It has to be as new as the kernel; where it is older it continues and
 * prints incomplete data, so its output is checked. Throws only if it is cancelled.
 */
export async function probeCrash(
  vmcore: string,
  vmlinux: string,
  options: { deadline?: number; cancel?: AbortSignal } = {},
): Promise<CrashProbe> {
  const crash = await which('crash')
  if (!crash) return { works: false, reason: 'crash is not installed on this machine.' }
  const record = await recordPath(crash, vmcore)
  const recorded = record && (await readFile(record, 'utf8').catch(() => undefined))
  if (recorded) return { works: false, reason: recorded }
  const probe = await runCrash(crash, vmcore, vmlinux, options)
  if (record && !probe.works && !probe.partial) {
    await mkdir(cachePath('crash'), { recursive: true })
    await writeFile(record, probe.reason)
  }
  return probe
}

/**
 * The file that records that this crash does not understand kernels of this series, so that it is run once and not after
 * each run of KernelCraft. Another version at the same path has another record. Undefined if the series is unknown.
 */
async function recordPath(crash: string, vmcore: string): Promise<string | undefined> {
  try {
    const { mtimeMs, size } = await stat(crash)
    const series = /^\d+\.\d+/.exec((await releaseOf(vmcore)) ?? '')?.[0]
    return series && cachePath('crash', `${series}-${Math.floor(mtimeMs)}-${size}`)
  } catch {
    return undefined
  }
}

/** `uname -r` of a dump's kernel. Throws if the file is not a dump. */
async function releaseOf(vmcore: string): Promise<string | undefined> {
  const file = await open(vmcore)
  try {
    return (await readHeader(file)).vmcoreinfo.get('OSRELEASE')
  } finally {
    await file.close()
  }
}

async function runCrash(
  crash: string,
  vmcore: string,
  vmlinux: string,
  options: { deadline?: number; cancel?: AbortSignal },
): Promise<CrashProbe> {
  const end = await run({
    file: crash,
    args: ['-s', '--no_scroll', '--no_crashrc', resolve(vmlinux), resolve(vmcore)],
    env: { TERM: 'dumb' },
    input: COMMANDS,
    deadline: options.deadline ?? DEADLINE_SECONDS,
    cancel: options.cancel,
  })
  if (end.status !== 0)
    return { works: false, reason: `crash cannot read this kernel's dump: ${describeEnd('it', end)}.` }
  return judgeCrash(end.stdout, end.stderr)
}

/** Whether the output of COMMANDS shows that crash understands the kernel. */
export function judgeCrash(stdout: string, stderr: string): CrashProbe {
  const output = `${stdout}\n${stderr}`
  for (const [pattern, describe] of FAILURES) {
    const match = pattern.exec(output)
    const partial = STACK.test(stdout) ? { partial: printable(stdout) } : {}
    if (match)
      return {
        works: false,
        reason: `crash does not understand this kernel: ${describe(match)}.`,
        ...partial,
      }
  }
  if (!STACK.test(stdout))
    return { works: false, reason: 'crash does not understand this kernel: it shows no stack.' }
  const tasks = stdout.match(/^>? +\d+ +\d+ +\d+ +[0-9a-f]{8,16} +[A-Z]{2} /gm) ?? []
  if (tasks.length < 2)
    return { works: false, reason: 'crash does not understand this kernel: it shows no tasks.' }
  return { works: true, text: printable(stdout) }
}

/** Names come from the guest: control characters could act on a terminal. */
function printable(text: string): string {
  return text.replace(/[^\n\t\x20-\x7e]/g, '?')
}
