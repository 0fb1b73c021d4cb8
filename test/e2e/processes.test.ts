import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { type Ended, emptyCache, guest, kc, startGuest, startKc } from '../kc.js'
import { kernelWords } from '../kernels.js'

/** PIDs of all processes of the run, by the variable that each of them carries. */
function processesOf(runDirectory: string): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number)
    .filter(pid => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`KERNELCRAFT_RUN=${runDirectory}`)
      } catch {
        return false
      }
    })
}

async function gone(runDirectory: string, seconds: number): Promise<number[]> {
  const end = Date.now() + seconds * 1000
  let left = processesOf(runDirectory)
  while (left.length > 0 && Date.now() < end) {
    await new Promise(resolve => setTimeout(resolve, 50))
    left = processesOf(runDirectory)
  }
  return left
}

async function startAndWait() {
  const started = await startGuest(['-e', 'echo running >&2; while :; do sleep 1; done'])
  await started.saw('running\n')
  const directory = await started.runDirectory()
  expect(processesOf(directory).length).toBeGreaterThanOrEqual(2)
  return { ...started, directory }
}

it.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)(
  '%s ends the guest, and the result says so',
  async signal => {
    const { pid, ended, directory } = await startAndWait()
    process.kill(pid, signal)
    const end = await ended
    expect(end.status).toBe(130)
    expect(end.result?.verdict).toBe('cancelled')
    expect(processesOf(directory)).toEqual([])
  },
)

it('two guests run the same kernel at the same time', async () => {
  const { pid, ended } = await startAndWait()
  const other = await guest(['-e', 'uname -r'])
  expect(other.result?.verdict).toBe('passed')
  process.kill(pid, 'SIGTERM')
  expect((await ended).result?.verdict).toBe('cancelled')
})

it('SIGKILL of kc leaves no QEMU', async () => {
  const { pid, ended, directory } = await startAndWait()
  process.kill(pid, 'SIGKILL')
  expect((await ended).signal).toBe('SIGKILL')
  expect(await gone(directory, 10)).toEqual([])
})

it('a guest whose guard was killed too is ended at the next start', async () => {
  const { pid, ended, directory } = await startAndWait()
  for (const name of readdirSync('/proc').filter(entry => /^\d+$/.test(entry))) {
    try {
      if (readFileSync(`/proc/${name}/cmdline`, 'latin1').includes('kernelcraft-guard'))
        process.kill(Number(name), 'SIGKILL')
    } catch {
      // gone
    }
  }
  process.kill(pid, 'SIGKILL')
  await ended
  expect(processesOf(directory).length).toBeGreaterThanOrEqual(2)
  const next = await guest(['-e', 'true'])
  expect(next.stderr).toContain('left behind')
  expect(next.result?.verdict).toBe('passed')
  expect(processesOf(directory)).toEqual([])
})

it('a SIGTERM during a build ends make and the compilers, and the next run completes what was left half done', async () => {
  const words = [...kernelWords('tiny'), '--kernel-cache', 'false', '--localversion', `-${process.pid}`]
  const started = startKc([...words, '--ccache', 'false', '-e', 'true'])
  // the first objects are there
  const log = join(await started.runDirectory(), 'build.log')
  while (!existsSync(log) || !/^ {2}CC +\S/m.test(readFileSync(log, 'utf8'))) await pause(100)
  process.kill(started.pid, 'SIGTERM')
  const end: Ended = await started.ended
  expect(end.result?.verdict).toBe('cancelled')
  // the workspace lies in this file's own cache directory
  const workspace = emptyCache()
  const compilers = readdirSync('/proc').filter(name => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/cmdline`, 'latin1').includes(workspace)
    } catch {
      return false
    }
  })
  expect(compilers).toEqual([])
  const next = await kc([...words, '--accel', 'tcg', '-e', 'uname -r'])
  expect(next.stdout.toString(), next.stderr).toBe(
    `6.12.${/6\.12\.(\d+)/.exec(next.stdout.toString())?.[1]}-${process.pid}\n`,
  )
})
