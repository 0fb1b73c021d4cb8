/** Console lines between which reports are expected: a report that begins there is marked, not left out. */
export interface IgnoreWindow {
  index: number
  /** a part of the line that opens the window */
  begin: string
  /** a part of the line that closes it */
  end: string
}

/** Which ignore windows are open at a line of the console, and which reports began in them. */
export class WindowTracker {
  private readonly open = new Set<number>()
  /** for each open window: the lists that get its index when it closes */
  private readonly marked = new Map<number, number[][]>()

  constructor(private readonly windows: readonly IgnoreWindow[]) {}

  /** Opens or closes the windows that begin or end with this line. */
  line(text: string): void {
    for (const { index, begin, end } of this.windows) {
      if (this.open.has(index) && text.includes(end)) {
        for (const list of this.marked.get(index) ?? []) list.push(index)
        this.open.delete(index)
        this.marked.delete(index)
      } else if (!this.open.has(index) && text.includes(begin)) {
        this.open.add(index)
        this.marked.set(index, [])
      }
    }
  }

  /** Adds the index of each window that is open now to `list`, once that window closes. */
  mark(list: number[]): void {
    for (const index of this.open) this.marked.get(index)?.push(list)
  }

  openIndexes(): number[] {
    return [...this.open]
  }
}
