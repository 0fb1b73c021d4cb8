import { constants } from 'node:fs'
import { access, mkdir, readFile, writeFile } from 'node:fs/promises'
import { sha256 } from './hash.js'
import { cachePath } from './paths.js'

/**
 * Whether KVM runs a kernel here. That /dev/kvm opens is no proof: on some hosts a machine is made and its firmware
 * runs, but a 64-bit kernel never prints a line. Only a banner proves it; what was seen holds until the next boot of the host.
 */
export type KvmState = 'absent' | 'unproven' | 'proven' | 'broken'

async function proofPath(): Promise<string> {
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown')
  return cachePath('kvm', sha256(boot).slice(0, 16))
}

export async function kvmState(): Promise<KvmState> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK)
  } catch {
    return 'absent'
  }
  const noted = await readFile(await proofPath(), 'utf8').catch(() => '')
  return noted === 'proven' || noted === 'broken' ? noted : 'unproven'
}

export async function recordKvm(state: 'proven' | 'broken'): Promise<void> {
  const path = await proofPath()
  await mkdir(cachePath('kvm'), { recursive: true })
  await writeFile(path, state)
}
