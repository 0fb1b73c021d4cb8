import { constants } from 'node:fs'
import { access, mkdir, readFile, writeFile } from 'node:fs/promises'
import { sha256 } from './hash.js'
import { cachePath } from './paths.js'

/**
 * Whether KVM runs a kernel on this machine. That /dev/kvm opens does not prove it: on some hosts a virtual machine is
 * created and its firmware runs, but a 64-bit kernel never prints a line. Only the kernel's banner proves it; the state is
 * recorded until the next boot of the host.
 */
export type KvmState = 'absent' | 'unproven' | 'proven' | 'broken'

async function statePath(): Promise<string> {
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown')
  return cachePath('kvm', sha256(boot).slice(0, 16))
}

export async function kvmState(): Promise<KvmState> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK)
  } catch {
    return 'absent'
  }
  const recorded = await readFile(await statePath(), 'utf8').catch(() => '')
  return recorded === 'proven' || recorded === 'broken' ? recorded : 'unproven'
}

export async function recordKvm(state: 'proven' | 'broken'): Promise<void> {
  const path = await statePath()
  await mkdir(cachePath('kvm'), { recursive: true })
  await writeFile(path, state)
}
