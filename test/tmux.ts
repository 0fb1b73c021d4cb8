import { execFileSync } from 'node:child_process'
import { setTimeout as pause } from 'node:timers/promises'

/** A terminal with a shell of the host in it, which a test types at and looks at. */
export interface Screen {
  /** keys as tmux names them (`C-c`, `Enter`), or text */
  keys(...keys: string[]): void
  /** what the window shows now */
  text(): string
  /** waits until the window shows it */
  shows(text: string | RegExp, seconds?: number): Promise<string>
  resize(columns: number, rows: number): void
  /** of the host's shell in the window */
  shellPid(): number
  close(): void
}

let opened = 0

/** Each has a tmux server of its own: one that is about to end takes no new session. */
export function openScreen(
  cwd: string,
  {
    columns = 100,
    rows = 30,
    env = {},
  }: { columns?: number; rows?: number; env?: Record<string, string> } = {},
): Screen {
  const name = `kernelcraft-${process.pid}-${++opened}`
  const tmux = (...words: string[]) =>
    execFileSync('tmux', ['-L', name, '-f', '/dev/null', ...words], { encoding: 'utf8' })
  const size = ['-x', String(columns), '-y', String(rows)]
  const variables = Object.entries({ PS1: 'host$ ', ...env }).map(([key, value]) => `${key}=${value}`)
  tmux('new-session', '-d', '-s', name, ...size, '-c', cwd, 'env', ...variables, 'bash', '--norc')
  const text = () => tmux('capture-pane', '-p', '-t', name)
  return {
    text,
    keys: (...keys) => void tmux('send-keys', '-t', name, ...keys),
    async shows(wanted, seconds = 60) {
      const end = Date.now() + seconds * 1000
      for (;;) {
        const now = text()
        if (typeof wanted === 'string' ? now.includes(wanted) : wanted.test(now)) return now
        if (Date.now() > end) throw new Error(`the screen never showed ${wanted}:\n${now}`)
        await pause(100)
      }
    },
    shellPid: () => Number(tmux('display-message', '-p', '-t', name, '#{pane_pid}').trim()),
    resize: (x, y) => void tmux('resize-window', '-t', name, '-x', String(x), '-y', String(y)),
    close() {
      try {
        tmux('kill-server')
      } catch {
        // it ended with its shell
      }
    },
  }
}
