import { readdirSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { guest, KERNEL, kc, startKc } from '../kc.js'

const START = [...KERNEL, '-s', '--accel', 'tcg', '-e', 'echo running >&2; while :; do sleep 1; done']

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

function runDirectoryOf(stderr: string): string {
  return /results: (.*)/.exec(stderr)?.[1] ?? ''
}

async function startAndWait() {
  const started = startKc(START)
  let directory = ''
  await started.saw('results: ')
  await started.saw('running')
  for (const pid of [started.pid]) {
    // QEMU and virtme-run are children of kc's: the run directory is in their environment
    const children = readdirSync('/proc').filter(name => /^\d+$/.test(name))
    for (const child of children) {
      try {
        const found = /KERNELCRAFT_RUN=([^\0]*)/.exec(readFileSync(`/proc/${child}/environ`, 'latin1'))?.[1]
        if (found && Number(child) !== pid) directory = found
      } catch {
        // gone, or not ours
      }
    }
  }
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
    expect(runDirectoryOf(end.stderr)).toBe(directory)
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

it('a SIGTERM during a build ends make and the compilers', async () => {
  const started = startKc([
    '-r',
    'distro',
    '-c',
    '6.12',
    '--configitem',
    'CONFIG_LOCALVERSION="-unique"',
    '--configitem',
    `CONFIG_DEFAULT_HOSTNAME="${process.pid}"`,
    '--ccache',
    'false',
    '-e',
    'true',
  ])
  await started.saw('==> Build')
  await new Promise(resolve => setTimeout(resolve, 4000))
  process.kill(started.pid, 'SIGTERM')
  const end = await started.ended
  expect(end.result?.verdict).toBe('cancelled')
  const compilers = readdirSync('/proc').filter(name => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/cmdline`, 'latin1').includes('.out-x86_64')
    } catch {
      return false
    }
  })
  expect(compilers).toEqual([])
  // the next run mends what was left half done
  const next = await kc([...KERNEL, '--accel', 'tcg', '-e', 'uname -r'])
  expect(next.stdout.toString()).toMatch(/^6\.12\.\d+-rc\n$/)
})
