/** A function of an object file, as `objdump -t` lists it. */
export interface SymbolEntry {
  address: bigint
  section: string
  /** bytes; 0 for a label */
  size: bigint
  name: string
}

// binutils prints: address, a space, seven flag characters, a space, section, a tab, size, an optional visibility, name.
// Other bits of st_other come before the name too, as a number: on ppc64 the offset of a function's local entry point.
const ENTRY = /^([0-9a-f]+) .{7} (\S+)\t([0-9a-f]+) +(?:\.\w+ |0x[0-9a-f]+ )*(\S+)$/

/** Parses a line of `objdump -t`; undefined unless it is a symbol of a code section. */
export function parseEntry(line: string): SymbolEntry | undefined {
  const [, address, section, size, name] = ENTRY.exec(line) ?? []
  if (!address || !section || !size || !name || !/text/.test(section)) return undefined
  // clang's link-time optimisation gives local functions a suffix that the kernel leaves out when it prints them
  return {
    address: BigInt(`0x${address}`),
    section,
    size: BigInt(`0x${size}`),
    name: name.replace(/\.llvm\.\d+$/, ''),
  }
}

/** The functions of one object file. */
export class SymbolTable {
  private readonly byName = new Map<string, SymbolEntry[]>()
  private readonly starts = new Map<string, bigint[]>()

  constructor(entries: readonly SymbolEntry[]) {
    for (const entry of entries) {
      const same = this.byName.get(entry.name)
      if (same) same.push(entry)
      else this.byName.set(entry.name, [entry])
      const starts = this.starts.get(entry.section)
      if (starts) starts.push(entry.address)
      else this.starts.set(entry.section, [entry.address])
    }
    for (const starts of this.starts.values()) starts.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  }

  /**
   * The address of `name+offset`. Of several functions of one name it is the one whose size is closest to `size`, which
   * the kernel counts up to the next symbol. Undefined for an unknown name, or an offset outside of the function.
   */
  find(name: string, offset: number, size?: number): { address: bigint; section: string } | undefined {
    let best: SymbolEntry | undefined
    let bestDistance = Number.POSITIVE_INFINITY
    for (const entry of this.byName.get(name) ?? []) {
      const length = this.distanceToNext(entry)
      if (offset > length) continue
      const distance = size === undefined ? 0 : Math.abs(length - size)
      if (distance < bestDistance) {
        bestDistance = distance
        best = entry
      }
    }
    return best && { address: best.address + BigInt(offset), section: best.section }
  }

  /** The function at an offset of a section, in the form `symbol+0xoffset/0xsize` of the kernel. */
  at(section: string, offset: bigint): string | undefined {
    const found = [...this.byName.values()]
      .flat()
      .filter(
        ({ section: of, address, size }) => of === section && address <= offset && offset < address + size,
      )
    // init_module and cleanup_module are aliases of a module's own init and exit functions
    const entry = found.find(({ name }) => name !== 'init_module' && name !== 'cleanup_module') ?? found[0]
    return entry && `${entry.name}+0x${(offset - entry.address).toString(16)}/0x${entry.size.toString(16)}`
  }

  /** Bytes from the start of a function to the next one; unlimited for the last one. */
  private distanceToNext(entry: SymbolEntry): number {
    const starts = this.starts.get(entry.section) ?? []
    let low = 0
    let high = starts.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((starts[middle] ?? 0n) <= entry.address) low = middle + 1
      else high = middle
    }
    const next = starts[low]
    return next === undefined ? Number.MAX_SAFE_INTEGER : Number(next - entry.address)
  }
}
