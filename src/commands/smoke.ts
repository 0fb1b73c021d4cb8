import { defaultArch, install } from '../host/doctor.js'
import { runCommand } from './run.js'
import { printStatus } from './stdio.js'

/** `kc smoke`: installs what this machine lacks, then builds and boots the distribution's own kernel. */
export async function smokeCommand(): Promise<number> {
  printStatus('==> Set this machine up')
  await install(defaultArch(), line => printStatus(`    ${line}`))
  return await runCommand({ release: 'distro', run: 'uname -r' })
}
