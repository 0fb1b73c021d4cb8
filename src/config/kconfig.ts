import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { distance } from 'fastest-levenshtein'
import { asset } from '../host/assets.js'
import { run } from '../host/processes.js'
import { tryGit } from '../source/git.js'
import type { Source } from '../source/source.js'
import type { RequestedOption } from './fragments.js'

/** What Kconfig knows of one option; see why.c. */
export interface Reason {
  /** the tree has such an option */
  known: boolean
  type: string
  value: string
  /** it can be set by the user */
  prompt: boolean
  /** dependencies that are not met, with values */
  unmet: string[]
  /** what selects it */
  selected: string[]
  /** it belongs to a choice */
  choice: boolean
}

/** Parses what why.c prints. */
export function parseReasons(text: string): Map<string, Reason> {
  const reasons = new Map<string, Reason>()
  let current: Reason | undefined
  for (const line of text.split('\n')) {
    const space = line.indexOf(' ')
    const [keyword, rest] = space < 0 ? [line, ''] : [line.slice(0, space), line.slice(space + 1)]
    if (keyword === 'symbol') {
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
      if (keyword === 'prompt') current.prompt = rest === 'yes'
      if (keyword === 'unmet' && !current.unmet.includes(rest)) current.unmet.push(rest)
      if (keyword === 'selected') current.selected.push(rest)
      if (keyword === 'choice') current.choice = true
    }
  }
  return reasons
}

/** A source, its build directory, and make's arguments for both. */
export interface Kbuild {
  source: string
  /** name of the build directory inside `source` */
  out: string
  makeArgs: readonly string[]
}

/**
 * Explains options by the kernel's own Kconfig, as it is in the build directory. An empty map if that fails: then options
 * are reported without a reason.
 */
export async function explainOptions(
  kbuild: Kbuild,
  names: readonly string[],
): Promise<ReadonlyMap<string, Reason>> {
  const scratch = await mkdtemp(join(tmpdir(), 'kernelcraft-why-'))
  try {
    const environment = await kconfigEnvironment(kbuild, scratch)
    const program = environment && (await compileWhy(kbuild, scratch))
    if (!program) return new Map()
    const why = await run({
      file: program,
      args: names,
      cwd: join(kbuild.source, kbuild.out),
      env: { ...environment, KERNELCRAFT_KCONFIG: 'Kconfig' },
      deadline: 120,
    })
    return why.status === 0 ? parseReasons(why.stdout) : new Map()
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** The environment that make sets for Kconfig, printed by a Kconfig file; undefined if that fails. */
async function kconfigEnvironment(
  { source, out, makeArgs }: Kbuild,
  scratch: string,
): Promise<Record<string, string> | undefined> {
  const file = '.kernelcraft-environment'
  const probe = join(scratch, 'Kconfig')
  await writeFile(probe, `printed := $(shell,env -0 >${file})\nconfig KERNELCRAFT_PROBE\n\tbool\n`)
  const make = await run({
    file: 'make',
    args: ['-s', '-C', source, ...makeArgs, `KBUILD_KCONFIG=${probe}`, 'listnewconfig'],
    deadline: 120,
  })
  if (make.status !== 0) return undefined
  const printed = join(source, out, file)
  const entries = (await readFile(printed, 'utf8')).split('\0').filter(Boolean)
  await rm(printed, { force: true })
  return Object.fromEntries(
    entries.map(entry => {
      const equals = entry.indexOf('=')
      return [entry.slice(0, equals), entry.slice(equals + 1)]
    }),
  )
}

/** Links why.c against the objects of the build directory's Kconfig; undefined if that fails. */
async function compileWhy({ source, out }: Kbuild, scratch: string): Promise<string | undefined> {
  const directory = join(source, out, 'scripts', 'kconfig')
  const objects = (await readdir(directory))
    .filter(name => name.endsWith('.o') && name !== 'conf.o')
    .map(name => join(directory, name))
  const program = join(scratch, 'why')
  const includes = ['kconfig', 'include'].flatMap(name => ['-I', join(source, 'scripts', name)])
  const compile = await run({
    file: 'gcc',
    args: [...includes, '-o', program, asset('config/why.c'), ...objects],
    deadline: 120,
  })
  return compile.status === 0 ? program : undefined
}

/** Names of all options of the tree, from its Kconfig files. */
export async function allOptions({ treeId, gitDir }: Source): Promise<string[]> {
  const pattern = '^[[:space:]]*(menu)?config[[:space:]]+[A-Za-z0-9_]+'
  const end = await tryGit(['grep', '--no-color', '-h', '-E', pattern, treeId, '--', '*Kconfig*'], { gitDir })
  const names = end.stdout.split('\n').map(line => line.trim().split(/\s+/)[1] ?? '')
  return [...new Set(names.filter(Boolean))]
}

/** The option whose name is most similar, undefined if none is similar. */
export function nearest(name: string, options: readonly string[]): string | undefined {
  let best: string | undefined
  let least = Math.max(2, Math.floor(name.length / 5)) + 1
  for (const option of options) {
    // the distance is at least the difference of the lengths
    if (Math.abs(option.length - name.length) >= least) continue
    const edits = distance(name, option)
    if (edits < least) [best, least] = [option, edits]
  }
  return best
}

/** One sentence about an option that did not survive: who requested it, its value, and the reason. */
export function describeLoss(
  option: RequestedOption,
  value: string,
  reason: Reason | undefined,
  similar: string | undefined,
): string {
  const { name, origin } = option
  const head = `CONFIG_${name}=${option.value} (${origin}) became ${value}`
  if (!reason) return `${head}.`
  if (!reason.known) {
    const hint = similar ? `; did you mean CONFIG_${similar}?` : '.'
    return `CONFIG_${name} (${origin}): this tree has no such option${hint}`
  }
  if (reason.unmet.length > 0) return `${head}: it depends on ${reason.unmet.join(' and ')}.`
  if (reason.selected.length > 0)
    return `${head}: it is selected by ${reason.selected.slice(0, 3).join(' and ')}.`
  if (reason.choice) return `${head}: it belongs to a choice, of which another option was requested.`
  if (!reason.prompt) return `${head}: it has no prompt, only other options can select it.`
  if (reason.type === 'bool' && option.value === 'm')
    return `${head}: it cannot be a module, it is either y or n.`
  return `${head}: Kconfig did not accept the value for a ${reason.type}.`
}
