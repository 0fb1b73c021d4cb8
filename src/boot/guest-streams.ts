import { writeFileSync } from 'node:fs'
import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Cleanup } from '../host/cleanup.js'
import { parseControlLine } from './control-port.js'
import type { Outcome } from './outcome.js'
import type { SupervisorOptions } from './supervisor-options.js'
import { type Tail, tailFile } from './tail.js'
import { guestFiles } from './virtme-command.js'

/** bytes of the console, the last ones, in which the kernel's banner is searched for */
const BANNER_WINDOW = 65536

/** Empties the files that QEMU appends to: an earlier attempt to boot may have filled them. */
export function truncateStreams(runDirectory: string): void {
  const files = guestFiles(runDirectory)
  for (const path of [files.console, files.stdout, files.stderr, files.control, files.virtme])
    writeFileSync(path, '')
}

/** What the guest writes: its console, its control port, and the output of the commands. Times are of `seconds`. */
export class GuestStreams {
  /** when anything was last written */
  lastOutput = 0
  /** when the console last printed something */
  lastConsoleOutput = 0
  /** when the kernel reported its first bug */
  reportedAt: number | undefined
  /** when the commands had ended, with their streams still open */
  drainSince: number | undefined

  private readonly tails: Tail[] = []
  private readonly console: Tail
  private readonly stdout: Tail
  private readonly stderr: Tail
  private controlRest = ''
  private consoleHead = ''
  /** lines of console.times: the time, and the size of the console log at that time */
  private readonly consoleTimes: string[] = []

  constructor(
    private readonly runDirectory: string,
    private readonly outcome: Outcome,
    private readonly options: Pick<SupervisorOptions, 'log' | 'onConsole' | 'onStdout'>,
    private readonly seconds: () => number,
    cleanup: Cleanup,
  ) {
    const files = guestFiles(runDirectory)
    const { log } = options
    const follow = (path: string, onData: (chunk: Buffer) => void) => {
      const tail = tailFile(path, chunk => {
        this.lastOutput = seconds()
        onData(chunk)
      })
      cleanup.defer(tail.close)
      this.tails.push(tail)
      return tail
    }
    follow(files.control, chunk => this.onControl(chunk))
    this.console = follow(files.console, chunk => this.onConsole(chunk))
    this.stdout = follow(files.stdout, chunk => {
      log.guest('stdout', chunk)
      options.onStdout(chunk)
    })
    this.stderr = follow(files.stderr, chunk => log.guest('stderr', chunk))
  }

  /** bytes that the console has printed */
  get consoleSize(): number {
    return this.console.size
  }

  /** bytes of console, stdout and stderr */
  get totalSize(): number {
    return this.console.size + this.stdout.size + this.stderr.size
  }

  /** Reads what has been written since the last call; true if there was anything. */
  poll(): boolean {
    let any = false
    for (const tail of this.tails) {
      const before = tail.size
      if (tail.poll()) any = true
      if (tail === this.console && tail.size > before)
        this.consoleTimes.push(`${this.seconds().toFixed(3)}\t${tail.size}\n`)
    }
    return any
  }

  /** Writes console.times; see `consoleTimes`. */
  async writeConsoleTimes(): Promise<void> {
    await appendFile(join(this.runDirectory, 'console.times'), this.consoleTimes.join(''))
  }

  private onControl(chunk: Buffer): void {
    const lines = (this.controlRest + chunk.toString('utf8')).split('\n')
    this.controlRest = lines.pop() ?? ''
    for (const line of lines)
      if (parseControlLine(line, this.outcome, this.seconds())) this.drainSince ??= this.seconds()
  }

  private onConsole(chunk: Buffer): void {
    this.lastConsoleOutput = this.seconds()
    const { timestamps } = this.outcome
    if (timestamps.banner === undefined) {
      this.consoleHead = (this.consoleHead + chunk.toString('latin1')).slice(-BANNER_WINDOW)
      if (this.consoleHead.includes('Linux version')) timestamps.banner = this.seconds()
    }
    this.options.log.guest('console', chunk)
    if (this.options.onConsole(chunk)) this.reportedAt ??= this.seconds()
  }
}
