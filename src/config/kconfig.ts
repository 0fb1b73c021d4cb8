import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { distance } from 'fastest-levenshtein'
import { asset } from '../host/assets.js'
import { run } from '../host/processes.js'
import { tryGit } from '../source/git.js'
import type { Source } from '../source/source.js'
import type { RequestedOption } from './fragments.js'

/** What Kconfig says of one option. */
export interface Reason {
  known: boolean
  type: string
  value: string
  prompt: boolean
  unmet: string[]
  selected: string[]
  choice: boolean
}

/** Parses what why.c prints. */
export function parseReasons(text: string): Map<string, Reason> {
  const reasons = new Map<string, Reason>()
  let current: Reason | undefined
  for (const line of text.split('\n')) {
    const space = line.indexOf(' ')
    const [word, rest] = space < 0 ? [line, ''] : [line.slice(0, space), line.slice(space + 1)]
    if (word === 'symbol') {
      const [name = '', type = '', ...value] = rest.split(' ')
      current = {
        known: type !== 'unknown',
        type,
        value: value.join(' '),
        prompt: false,
        unmet: [],
        selected: [],
        choice: false,
      }
      reasons.set(name, current)
    } else if (current) {
      if (word === 'prompt') current.prompt = rest === 'yes'
      if (word === 'unmet' && !current.unmet.includes(rest)) current.unmet.push(rest)
      if (word === 'selected') current.selected.push(rest)
      if (word === 'choice') current.choice = true
    }
  }
  return reasons
}

export interface Kbuild {
  source: string
  /** name of the build directory inside `source` */
  out: string
  makeArgs: readonly string[]
}

/**
 * Asks the kernel's own Kconfig, as it stands in the build directory, about these options. Its environment is
 * taken from make itself, through a Kconfig file that prints it. An empty map if that fails: then options
 * are named without a reason.
 */
export async function askKconfig(kbuild: Kbuild, names: readonly string[]): Promise<Map<string, Reason>> {
  const out = join(kbuild.source, kbuild.out)
  const scratch = await mkdtemp(join(tmpdir(), 'kernelcraft-why-'))
  const none = new Map<string, Reason>()
  try {
    const probe = join(scratch, 'Kconfig')
    await writeFile(
      probe,
      'printed := $(shell,env -0 >.kernelcraft-environment)\nconfig KERNELCRAFT_PROBE\n\tbool\n',
    )
    const make = await run({
      file: 'make',
      args: ['-s', '-C', kbuild.source, ...kbuild.makeArgs, `KBUILD_KCONFIG=${probe}`, 'listnewconfig'],
      deadline: 120,
    })
    if (make.status !== 0) return none
    const printed = join(out, '.kernelcraft-environment')
    const environment = Object.fromEntries(
      (await readFile(printed, 'utf8'))
        .split('\0')
        .filter(Boolean)
        .map(entry => {
          const equals = entry.indexOf('=')
          return [entry.slice(0, equals), entry.slice(equals + 1)]
        }),
    )
    await rm(printed, { force: true })
    const directory = join(out, 'scripts', 'kconfig')
    const objects = (await readdir(directory))
      .filter(name => name.endsWith('.o') && name !== 'conf.o')
      .map(name => join(directory, name))
    const program = join(scratch, 'why')
    const compile = await run({
      file: 'gcc',
      args: [
        '-I',
        join(kbuild.source, 'scripts', 'kconfig'),
        '-I',
        join(kbuild.source, 'scripts', 'include'),
        '-o',
        program,
        asset('config/why.c'),
        ...objects,
      ],
      deadline: 120,
    })
    if (compile.status !== 0) return none
    const why = await run({
      file: program,
      args: names,
      cwd: out,
      env: { ...environment, KERNELCRAFT_KCONFIG: 'Kconfig' },
      deadline: 120,
    })
    return why.status === 0 ? parseReasons(why.stdout) : none
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** Names of all options of the tree, from its Kconfig files. */
export async function allOptions(source: Source): Promise<string[]> {
  const end = await tryGit(
    [
      'grep',
      '--no-color',
      '-h',
      '-E',
      '^[[:space:]]*(menu)?config[[:space:]]+[A-Za-z0-9_]+',
      source.treeId,
      '--',
      '*Kconfig*',
    ],
    { gitDir: source.gitDir },
  )
  return [
    ...new Set(
      end.stdout
        .split('\n')
        .map(line => line.trim().split(/\s+/)[1] ?? '')
        .filter(Boolean),
    ),
  ]
}

/** The option whose name is nearest, if one is near. */
export function nearest(name: string, options: readonly string[]): string | undefined {
  let best: string | undefined
  let least = Math.max(2, Math.floor(name.length / 5)) + 1
  for (const option of options) {
    if (Math.abs(option.length - name.length) >= least) continue
    const far = distance(name, option)
    if (far < least) [best, least] = [option, far]
  }
  return best
}

/** One sentence for an option that did not survive: who asked, what became of it, and why. */
export function describeLoss(
  ask: RequestedOption,
  value: string,
  reason: Reason | undefined,
  near: string | undefined,
): string {
  const head = `CONFIG_${ask.name}=${ask.value} (${ask.origin}) became ${value}`
  if (!reason) return `${head}.`
  if (!reason.known) {
    return `CONFIG_${ask.name} (${ask.origin}): this tree has no such option${near ? `; did you mean CONFIG_${near}?` : '.'}`
  }
  if (reason.unmet.length > 0) return `${head}: it depends on ${reason.unmet.join(' and ')}.`
  if (reason.selected.length > 0)
    return `${head}: it is selected by ${reason.selected.slice(0, 3).join(' and ')}.`
  if (reason.choice) return `${head}: it is one of a choice, of which another was asked for.`
  if (!reason.prompt) return `${head}: it has no prompt, only other options can select it.`
  if (reason.type === 'bool' && ask.value === 'm') return `${head}: it is no module, only y or n.`
  return `${head}: Kconfig did not accept the value for a ${reason.type}.`
}
