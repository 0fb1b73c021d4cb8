import { mkdir, open, readFile, stat, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { cachePath } from '../host/paths.js'
import { describeEnd, run } from '../host/processes.js'
import { which } from '../host/tools.js'
import { readHead } from './kdump.js'

export type CrashProbe =
  | {
      works: true
      /** what it says of the dump, for crash.txt */
      text: string
    }
  | {
      works: false
      /** one sentence */
      reason: string
      /** what it says all the same, if that has a stack in it */
      partial?: string
    }

const COMMANDS = 'sys\nbt\nbt -a\nps\nq\n'
/** it answers in five seconds, or loses itself in tables that it does not understand */
const DEADLINE_SECONDS = 20

/** Where there is one of these, crash is older than the kernel, or does not know a thing that it was built with. */
const MISUNDERSTANDINGS: readonly [RegExp, (match: RegExpExecArray) => string][] = [
  [/segmentation violation in gdb/, () => 'it breaks on its debug information'],
  [/invalid structure member offset: (\S+)/, match => `it does not know its structures (${match[1]})`],
  [/invalid structure size: (\S+)/, match => `it does not know its structures (${match[1]})`],
  [/cannot resolve:? "?(\w+)/, match => `it does not find ${match[1]}`],
  [/not found in PID hash/, () => 'it does not find all tasks'],
  [/invalid size request|read of stack at \S+ failed/, () => 'it does not find the stacks'],
]

const STACK = /^ *#0 \[[0-9a-f]+\] \S+ at /m

/**
 * Whether crash understands a dump of this kernel. It has to be as new as the kernel, and goes on with a part of the
 * truth where it is not: so what it says is judged. Throws only if it is cancelled.
 */
export async function probeCrash(
  vmcore: string,
  vmlinux: string,
  options: { deadline?: number; cancel?: AbortSignal } = {},
): Promise<CrashProbe> {
  const crash = await which('crash')
  if (!crash) return { works: false, reason: 'There is no crash on this machine.' }
  const note = await noteOf(crash, vmcore)
  const before = note && (await readFile(note, 'utf8').catch(() => undefined))
  if (before) return { works: false, reason: before }
  const probe = await ask(crash, vmcore, vmlinux, options)
  if (note && !probe.works && !probe.partial) {
    await mkdir(cachePath('crash'), { recursive: true })
    await writeFile(note, probe.reason)
  }
  return probe
}

/**
 * Where it is noted that this crash knows nothing of kernels of this series, so that it is asked once and not after each
 * run. Another program at the same path is asked anew.
 */
async function noteOf(crash: string, vmcore: string): Promise<string | undefined> {
  try {
    const { mtimeMs, size } = await stat(crash)
    const file = await open(vmcore)
    const release = await readHead(file).then(
      head => head.vmcoreinfo.get('OSRELEASE'),
      () => undefined,
    )
    await file.close()
    const series = /^\d+\.\d+/.exec(release ?? '')?.[0]
    return series && cachePath('crash', `${series}-${Math.floor(mtimeMs)}-${size}`)
  } catch {
    return undefined
  }
}

async function ask(
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

/** What the output of the commands above shows. */
export function judgeCrash(stdout: string, stderr: string): CrashProbe {
  const all = `${stdout}\n${stderr}`
  for (const [pattern, describe] of MISUNDERSTANDINGS) {
    const match = pattern.exec(all)
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

/** Names come from the guest: none of them moves a terminal's cursor. */
function printable(text: string): string {
  return text.replace(/[^\n\t\x20-\x7e]/g, '?')
}
