import { existsSync, readFileSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { InfraError } from '../errors.js'
import { asset } from './assets.js'
import { cachePath } from './paths.js'
import { describeEnd, lastLines, run } from './processes.js'
import { which } from './tools.js'

/** The oldest virtme-ng with the options that KernelCraft uses. */
export const OLDEST = [1, 42] as const

/** The oldest Python that this virtme-ng runs on. */
export const OLDEST_PYTHON = [3, 10] as const

export interface Virtme {
  /** path of virtme-run */
  path: string
  version: string
}

function atLeast(version: string, oldest: readonly number[]): boolean {
  const parts = version.split(/[.+-]/).map(Number)
  for (const [index, wanted] of oldest.entries()) {
    const part = parts[index] ?? 0
    if (part !== wanted) return part > wanted
  }
  return true
}

/** virtme-run itself has no --version; vng beside it has. */
async function versionOf(path: string): Promise<string | undefined> {
  const end = await run({ file: join(dirname(path), 'vng'), args: ['--version'], deadline: 60 })
  return /(\d+\.\d[\w.+-]*)/.exec(end.stdout)?.[1]
}

/** Version in KernelCraft's virtual environment, from its pins: `vng --version` would take half a second at every start. */
function ownVersion(): string | undefined {
  if (!existsSync(ownVirtme()) || !environmentIsCurrent()) return undefined
  return /^virtme-ng==(\S+)/m.exec(readFileSync(asset('host/requirements.txt'), 'utf8'))?.[1]
}

const ownVirtme = () => cachePath('venv', 'bin', 'virtme-run')

/**
 * Finds virtme-run: the pinned one in KernelCraft's virtual environment, else one on PATH that is new enough.
 * Throws InfraError with how to install it.
 */
export async function findVirtme(): Promise<Virtme> {
  const own = ownVersion()
  if (own) return { path: ownVirtme(), version: own }
  const onPath = await which('virtme-run')
  const version = onPath && (await versionOf(onPath))
  if (onPath && version && atLeast(version, OLDEST)) return { path: onPath, version }
  const old = version ? ` (${onPath} is ${version}, too old)` : ''
  throw new InfraError(
    `virtme-run of virtme-ng ${OLDEST.join('.')} or newer is missing${old}: run \`kc doctor --install\`.`,
  )
}

/** Path of drgn, which reads vmcores: the pinned one in KernelCraft's virtual environment, else the one on PATH. */
export async function findDrgn(): Promise<string | undefined> {
  const own = cachePath('venv', 'bin', 'drgn')
  return existsSync(own) ? own : await which('drgn')
}

/** Path of a Python that virtme-ng runs on. Throws InfraError with the version that was found. */
export async function findPython(candidates?: readonly (string | undefined)[]): Promise<string> {
  // the distribution's own first: one of a version manager may be removed while the environment needs it
  candidates ??= ['/usr/bin/python3', await which('python3')]
  let found = 'none'
  for (const path of candidates) {
    if (!path || !existsSync(path)) continue
    const end = await run({
      file: path,
      args: ['-c', 'import sys; print("%d.%d" % sys.version_info[:2])'],
      deadline: 60,
    })
    const version = end.stdout.trim()
    if (end.status === 0 && atLeast(version, OLDEST_PYTHON)) return path
    if (version) found = version
  }
  throw new InfraError(
    `virtme-ng needs Python ${OLDEST_PYTHON.join('.')} or newer, and this machine has ${found}: install python3.`,
  )
}

/** Installs the pinned virtme-ng and drgn, with verified hashes, into KernelCraft's virtual environment. */
export async function installVirtme(onLine: (line: string) => void): Promise<Virtme> {
  const venv = cachePath('venv')
  const requirements = asset('host/requirements.txt')
  const python = await findPython()
  await rm(venv, { recursive: true, force: true })
  await mkdir(dirname(venv), { recursive: true })
  const pip = ['-m', 'pip', 'install', '--require-hashes', '--only-binary', ':all:', '--no-input']
  const steps = [
    { file: python, args: ['-m', 'venv', venv], hint: 'install python3-venv' },
    {
      file: join(venv, 'bin', 'python'),
      args: [...pip, '-r', requirements],
      hint: 'is the Python package index reachable?',
    },
  ]
  for (const step of steps) {
    const end = await run({ ...step, environment: 'network', deadline: 900, onLine })
    if (end.status === 0) continue
    await rm(venv, { recursive: true, force: true })
    throw new InfraError(
      `virtme-ng could not be installed: ${describeEnd(step.file, end)} (${step.hint}).`,
      lastLines(end.stdout + end.stderr, 5),
    )
  }
  await writeFile(join(venv, 'kernelcraft-requirements'), readFileSync(requirements))
  return { path: ownVirtme(), version: ownVersion() ?? 'unknown' }
}

/** False if the virtual environment was created from other pins than those of this version. */
function environmentIsCurrent(): boolean {
  try {
    const installed = readFileSync(cachePath('venv', 'kernelcraft-requirements'))
    return installed.equals(readFileSync(asset('host/requirements.txt')))
  } catch {
    return false
  }
}
