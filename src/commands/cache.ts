import { type KernelCacheEntry, listKernels, pruneKernels } from '../build/kernel-cache.js'
import { cachePath } from '../host/paths.js'
import { parseMaxSize } from '../request/values.js'
import { commitText } from '../result.js'
import { print, printStatus } from './stdio.js'
import type { VerbOptions } from './verbs.js'

/** `kc cache`: the kernels in the cache. */
export async function cacheCommand({ json }: VerbOptions): Promise<number> {
  const entries = await listKernels()
  print(json === true ? cacheJson(entries) : cacheText(entries))
  printStatus(`${cacheTotal(entries)} in ${cachePath('kernels')}`)
  return 0
}

/** `kc cache prune`: removes the least recently used kernels beyond --max-size, without it all that no run uses. */
export async function cachePruneCommand({ maxSize, json }: VerbOptions): Promise<number> {
  const removed = await pruneKernels(typeof maxSize === 'string' ? parseMaxSize('max-size', maxSize) : 0)
  print(json === true ? cacheJson(removed) : cacheText(removed))
  printStatus(`removed ${cacheTotal(removed)}; left ${cacheTotal(await listKernels())}`)
  return 0
}

const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`
const minute = (date: Date) => date.toISOString().slice(0, 16).replace('T', ' ')

/** A table of kernels in the given order, one a line; empty if there are none. */
function cacheText(entries: readonly KernelCacheEntry[]): string {
  const rows = entries.map(({ manifest: { key, kernel, commit }, bytes, used }) => [
    key.slice(0, 12),
    kernel.release,
    kernel.arch,
    mebibytes(bytes),
    minute(used),
    `${commitText(commit)} ${commit.subject}`.slice(0, 72),
  ])
  const widths = [0, 1, 2, 3].map(column => Math.max(...rows.map(row => row[column]?.length ?? 0)))
  const line = (row: readonly string[]) =>
    row.map((cell, column) =>
      column === 3 ? cell.padStart(widths[3] ?? 0) : cell.padEnd(widths[column] ?? 0),
    )
  return rows.map(row => `${line(row).join('  ').trimEnd()}\n`).join('')
}

/** The kernels as one JSON object, `{kernels: [...]}`. */
function cacheJson(entries: readonly KernelCacheEntry[]): string {
  const list = entries.map(({ manifest: { files: _files, layout: _layout, ...rest }, bytes, used }) => ({
    ...rest,
    bytes,
    used: used.toISOString(),
  }))
  return `${JSON.stringify({ kernels: list }, null, 2)}\n`
}

/** Number and total size, such as `2 kernels, 120 MiB`. */
function cacheTotal(entries: readonly KernelCacheEntry[]): string {
  const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0)
  return `${entries.length} kernel${entries.length === 1 ? '' : 's'}, ${mebibytes(bytes)}`
}
