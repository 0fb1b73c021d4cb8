import { resolve } from 'node:path'
import { run } from '../host/processes.js'
import { shellQuote } from '../host/shell-quote.js'
import { which } from '../host/tools.js'
import { findDrgn } from '../host/virtme.js'

export type DebuggerName = 'drgn' | 'crash'

export interface Debugger {
  name: DebuggerName
  path: string
  /** undefined if it did not print one */
  version?: string
}

interface DebuggerKind {
  find(): Promise<string | undefined>
  version: RegExp
  /** the arguments that open a dump at its prompt */
  open(vmcore: string, vmlinux: string): string[]
}

const KINDS: Record<DebuggerName, DebuggerKind> = {
  drgn: {
    find: findDrgn,
    version: /^drgn (\d[\w.+-]*)/m,
    open: (vmcore, vmlinux) => ['-c', vmcore, '-s', vmlinux],
  },
  crash: {
    find: () => which('crash'),
    version: /^crash (\d[\w.+-]*)/m,
    open: (vmcore, vmlinux) => [vmlinux, vmcore],
  },
}

/** How to get a debugger, for messages. */
export const HOW_TO_GET =
  '`kc doctor --install` installs drgn; crash is a package of the distribution and has to be as new as the kernel.'

/** The installed debuggers that open vmcores. */
export async function debuggers(): Promise<Debugger[]> {
  const all = await Promise.all(
    Object.entries(KINDS).map(async ([name, kind]): Promise<Debugger[]> => {
      const path = await kind.find()
      if (!path) return []
      const { stdout } = await run({ file: path, args: ['--version'], deadline: 30 })
      return [{ name: name as DebuggerName, path, version: kind.version.exec(stdout)?.[1] }]
    }),
  )
  return all.flat()
}

/** The arguments that open a dump at the prompt of a debugger. */
export function openArguments(vmcore: string, vmlinux: string, { name }: Pick<Debugger, 'name'>): string[] {
  return KINDS[name].open(resolve(vmcore), resolve(vmlinux))
}

/** The shell command that opens a dump at the prompt of a debugger. */
export function openCommand(
  vmcore: string,
  vmlinux: string,
  tool: Pick<Debugger, 'name'> & { path?: string },
): string {
  const command = [tool.path ?? tool.name, ...openArguments(vmcore, vmlinux, tool)]
  return command.map(arg => (/^[\w./+=:@%,-]+$/.test(arg) ? arg : shellQuote(arg))).join(' ')
}

/** The arguments that run a script of scripts/ in drgn, with the debug information of `vmlinux` alone. */
export function drgnArguments(
  vmcore: string,
  vmlinux: string,
  script: string,
  args: readonly string[],
): string[] {
  return ['-q', '-c', resolve(vmcore), '--no-default-symbols', '-s', resolve(vmlinux), script, ...args]
}
