import type { KernelCacheEntry } from '../build/kernel-cache.js'
import { commitText } from '../result.js'

const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`
const minute = (date: Date) => date.toISOString().slice(0, 16).replace('T', ' ')

/** The kernel cache as `kc cache` prints it, the kernel that was used last first; empty if there is none. */
export function cacheText(entries: readonly KernelCacheEntry[]): string {
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

/** The same for programs. */
export function cacheJson(entries: readonly KernelCacheEntry[]): string {
  const list = entries.map(({ manifest: { files: _files, layout: _layout, ...rest }, bytes, used }) => ({
    ...rest,
    bytes,
    used: used.toISOString(),
  }))
  return `${JSON.stringify({ kernels: list }, null, 2)}\n`
}

export function cacheTotal(entries: readonly KernelCacheEntry[]): string {
  const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0)
  return `${entries.length} kernel${entries.length === 1 ? '' : 's'}, ${mebibytes(bytes)}`
}
