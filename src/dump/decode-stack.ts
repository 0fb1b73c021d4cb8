import { readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { run } from '../host/processes.js'
import { type TreeRoot, treeRelative, treeRoot } from './paths.js'
import { parseEntry, type SymbolEntry, SymbolTable } from './symbols.js'

/** A code address as the kernel prints it: `symbol+0xoffset/0xsize [module]`. */
export interface CodeAddress {
  symbol: string
  offset?: number
  size?: number
  module?: string
  /** the address of the instruction itself; else a return address, which is after its call */
  exact: boolean
}

/** A source location. */
export interface Location {
  function: string
  /** relative to the source tree */
  file: string
  line: number
  /** the function was inlined into the next location's */
  inlined: boolean
}

/** The object files of a kernel. */
export interface KernelObjects {
  /** architecture of the kernel; x86_64 if absent */
  arch?: string
  vmlinux: string
  /** directory with lib/modules/RELEASE, below which the .ko files are */
  modules?: string
}

const DEADLINE_SECONDS = 120

/**
 * The source locations of code addresses, from debug information: an array as long as `addresses`, each element the
 * innermost inlined function first, and empty where nothing is known. Never throws for files without debug information,
 * only if it is cancelled.
 */
export async function decodeFrames(
  objects: KernelObjects,
  addresses: readonly CodeAddress[],
  options: { deadline?: number; cancel?: AbortSignal } = {},
): Promise<Location[][]> {
  const deadline = performance.now() + (options.deadline ?? DEADLINE_SECONDS) * 1000
  const tools = new Binutils(deadline, options.cancel)
  const decoded: Location[][] = addresses.map(() => [])
  const indexed = addresses.flatMap((address, index): IndexedAddress[] =>
    address.offset === undefined ? [] : [{ ...address, index }],
  )
  if (indexed.length === 0) return decoded
  const { root, found } = await decodeKernel(tools, objects, indexed)
  found.push(...(await decodeModules(tools, objects, indexed)))
  for (const { index, locations } of found)
    decoded[index] = locations.map(location => ({ ...location, file: treeRelative(location.file, root) }))
  return decoded
}

/** A code address with its index in the result. */
type IndexedAddress = CodeAddress & { index: number }

interface Decoded {
  index: number
  locations: Location[]
}

/** Decodes the addresses in vmlinux. `root` is what comes before names of the tree in the debug information. */
async function decodeKernel(
  tools: Binutils,
  objects: KernelObjects,
  addresses: readonly IndexedAddress[],
): Promise<{ root: TreeRoot; found: Decoded[] }> {
  const table = await tools.symbols(objects.vmlinux)
  const anchor = table.find('start_kernel', 0)
  const queries = addresses
    .filter(({ module }) => module === undefined)
    .flatMap(address => locate(table, address, objects))
  const all = [...(anchor ? [anchor] : []), ...queries]
  const lines = await tools.lines(
    objects.vmlinux,
    all.map(({ address }) => address),
  )
  const root = treeRoot((anchor && lines.shift()?.at(-1)?.file) ?? '')
  return { root, found: queries.map(({ index }, at) => ({ index, locations: lines[at] ?? [] })) }
}

async function decodeModules(
  tools: Binutils,
  objects: KernelObjects,
  addresses: readonly IndexedAddress[],
): Promise<Decoded[]> {
  if (objects.modules === undefined) return []
  const files = await moduleFiles(objects.modules)
  const found: Decoded[] = []
  for (const [module, members] of groupBy(addresses, ({ module }) => module ?? '')) {
    const file = files.get(moduleName(module))
    if (!file) continue
    const table = await tools.symbols(file)
    const queries = members.flatMap(address => locate(table, address, objects))
    // each section of a module begins at 0
    for (const [section, inside] of groupBy(queries, query => query.section)) {
      const lines = await tools.lines(
        file,
        inside.map(({ address }) => address),
        section,
      )
      for (const [at, { index }] of inside.entries()) found.push({ index, locations: lines[at] ?? [] })
    }
  }
  return found
}

/** The functions of an object file, including relocatable ones (.ko). */
export async function symbolsOf(file: string, cancel?: AbortSignal): Promise<SymbolTable> {
  return await new Binutils(performance.now() + DEADLINE_SECONDS * 1000, cancel).symbols(file)
}

/** The address to look up: of the call, since what follows it may be of another line or function. */
function locate(
  table: SymbolTable,
  { symbol, offset = 0, size, exact, index }: IndexedAddress,
  { arch = 'x86_64' }: KernelObjects,
): { index: number; address: bigint; section: string }[] {
  const found = table.find(symbol, offset, size)
  if (!found) return []
  // x86 prints return addresses with the name of the calling function (%pB), others with the name of the function at
  // the address: after a call that never returns that is the next function
  const isEntry = offset === 0 && arch === 'x86_64'
  const back = exact || isEntry ? 0n : 1n
  return [{ index, address: found.address - back, section: found.section }]
}

/** The programs of binutils that read object files, under one deadline. */
class Binutils {
  constructor(
    /** in milliseconds of performance.now() */
    private readonly deadline: number,
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

  /** The source locations of addresses, in their order. */
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
    const deadline = (this.deadline - performance.now()) / 1000
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
 * Parses the output of `addr2line -f -i -a`: an address, then pairs of a function and its location, the innermost inlined
 * one first. Unknown ones (`??`, line 0) are left out.
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

/** A module's name as the kernel prints it, which does not distinguish `-` and `_`. */
const moduleName = (name: string) => name.replaceAll('-', '_')

/** The .ko files below a directory, by module name. */
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
