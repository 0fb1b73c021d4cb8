import { readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { run } from '../host/processes.js'
import { treeRelative, treeRoot } from './paths.js'
import { parseEntry, type SymbolEntry, SymbolTable } from './symbols.js'

/** A place in code as the kernel prints it: `symbol+0xoffset/0xsize [module]`. */
export interface CodeAddress {
  symbol: string
  offset?: number
  size?: number
  module?: string
  /** the instruction itself; else a return address, whose call lies before it */
  exact: boolean
}

/** A place in the source. */
export interface Location {
  function: string
  /** relative to the source tree */
  file: string
  line: number
  /** the function has become a part of the next location's */
  inlined: boolean
}

/** Where a module's .ko file is sought: a directory with lib/modules/RELEASE, and all below it. */
export interface Objects {
  /** of the kernel; x86_64 if absent */
  arch?: string
  vmlinux: string
  modules?: string
}

const DEADLINE_SECONDS = 120

/**
 * The places in the source for places in code, from debug information: an array as long as `places`, each element the
 * innermost inlined function first, and empty where nothing is known. Never throws for files that tell nothing; only
 * cancellation throws.
 */
export async function decodeFrames(
  objects: Objects,
  places: readonly CodeAddress[],
  options: { deadline?: number; cancel?: AbortSignal } = {},
): Promise<Location[][]> {
  const deadline = performance.now() + (options.deadline ?? DEADLINE_SECONDS) * 1000
  const tools = new Tools(deadline, options.cancel)
  const decoded: Location[][] = places.map(() => [])
  const wanted = places.flatMap((place, index) => (place.offset === undefined ? [] : [{ place, index }]))
  if (wanted.length === 0) return decoded

  const kernel = await tools.symbols(objects.vmlinux)
  const landmark = kernel.find('start_kernel', 0)
  const ofKernel = wanted.filter(({ place }) => place.module === undefined)
  const queries = [
    ...(landmark ? [{ ...landmark, index: -1 }] : []),
    ...ofKernel.flatMap(({ place, index }) => locate(kernel, place, index, objects)),
  ]
  const found = await tools.lines(
    objects.vmlinux,
    queries.map(query => query.address),
  )
  const root = treeRoot((landmark && found[0]?.at(-1)?.file) ?? '')
  const keep = (locations: Location[], index: number) => {
    decoded[index] = locations.map(location => ({ ...location, file: treeRelative(location.file, root) }))
  }
  for (const [at, query] of queries.entries()) if (query.index >= 0) keep(found[at] ?? [], query.index)

  const files = objects.modules === undefined ? new Map<string, string>() : await moduleFiles(objects.modules)
  for (const [module, members] of groupBy(wanted, ({ place }) => place.module ?? '')) {
    const file = files.get(moduleName(module))
    if (!file) continue
    const table = await tools.symbols(file)
    const located = members.flatMap(({ place, index }) => locate(table, place, index, objects))
    // each section of a module begins at 0
    for (const [section, inside] of groupBy(located, query => query.section)) {
      const lines = await tools.lines(
        file,
        inside.map(query => query.address),
        section,
      )
      for (const [at, query] of inside.entries()) keep(lines[at] ?? [], query.index)
    }
  }
  return decoded
}

/** The functions of an object file, relocatable ones (.ko) included. */
export async function symbolsOf(file: string, cancel?: AbortSignal): Promise<SymbolTable> {
  return await new Tools(performance.now() + DEADLINE_SECONDS * 1000, cancel).symbols(file)
}

/** The address to ask for: of the call, not of what comes after it, which may be of another line or function. */
function locate(table: SymbolTable, place: CodeAddress, index: number, { arch = 'x86_64' }: Objects) {
  const found = table.find(place.symbol, place.offset ?? 0, place.size)
  if (!found) return []
  // x86 prints return addresses with the name of the function that they come from (%pB), others with what lies there:
  // behind a call that never returns that is the next function
  const entered = place.offset === 0 && arch === 'x86_64'
  const back = place.exact || entered ? 0n : 1n
  return [{ index, address: found.address - back, section: found.section }]
}

/** The two programs of binutils that read object files, under one deadline. */
class Tools {
  constructor(
    /** on performance.now()'s clock */
    private readonly end: number,
    private readonly cancel?: AbortSignal,
  ) {}

  async symbols(file: string): Promise<SymbolTable> {
    const entries: SymbolEntry[] = []
    await this.run('objdump', ['-t', resolve(file)], undefined, line => {
      const entry = parseEntry(line)
      if (entry) entries.push(entry)
    })
    return new SymbolTable(entries)
  }

  /** What stands at these addresses, in their order. */
  async lines(file: string, addresses: readonly bigint[], section?: string): Promise<Location[][]> {
    if (addresses.length === 0) return []
    const lines: string[] = []
    const inside = section === undefined ? [] : ['-j', section]
    const input = addresses.map(address => `0x${address.toString(16)}\n`).join('')
    await this.run('addr2line', ['-e', resolve(file), '-f', '-i', '-a', ...inside], input, line =>
      lines.push(line),
    )
    return parseAddr2line(lines)
  }

  private async run(file: string, args: string[], input: string | undefined, onLine: (line: string) => void) {
    const deadline = (this.end - performance.now()) / 1000
    if (deadline <= 0) return
    await run({
      file,
      args,
      env: { LC_ALL: 'C' },
      deadline,
      cancel: this.cancel,
      input,
      onLine: (line, stream) => stream === 'stdout' && onLine(line),
    })
  }
}

/**
 * The output of `addr2line -f -i -a`: an address, then pairs of a function and its place, the innermost inlined one
 * first. Unknown ones (`??`, line 0) are left out.
 */
export function parseAddr2line(lines: readonly string[]): Location[][] {
  const blocks: string[][] = []
  for (const line of lines) {
    if (/^0x[0-9a-f]+$/.test(line)) blocks.push([])
    else blocks.at(-1)?.push(line)
  }
  return blocks.map(block => {
    const locations: Location[] = []
    for (let at = 0; at + 1 < block.length; at += 2) {
      const [, file, line] = /^(.+):(\d+)(?: \(discriminator \d+\))?$/.exec(block[at + 1] ?? '') ?? []
      if (!file || file === '??' || !Number(line)) continue
      locations.push({ function: block[at] ?? '', file, line: Number(line), inlined: at + 2 < block.length })
    }
    return locations
  })
}

/** A module's name as the kernel prints it: `-` and `_` are the same to it. */
const moduleName = (name: string) => name.replaceAll('-', '_')

/** The .ko files below a directory by the names of their modules. */
export async function moduleFiles(directory: string): Promise<Map<string, string>> {
  const files = new Map<string, string>()
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])
  for (const entry of entries) {
    if (entry.isFile() && entry.name.endsWith('.ko'))
      files.set(moduleName(entry.name.slice(0, -3)), join(entry.parentPath, entry.name))
  }
  return files
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const group = groups.get(key(item))
    if (group) group.push(item)
    else groups.set(key(item), [item])
  }
  return groups
}
