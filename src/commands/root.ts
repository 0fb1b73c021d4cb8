import { createRoot } from '../host/root-create.js'
import { cancelOn } from '../host/signals.js'
import { archOption } from './doctor.js'
import { print, printStatus } from './stdio.js'
import type { VerbOptions } from './verbs.js'

/** `kc root create DIR`: a root file system of Debian or Ubuntu. Prints its directory. */
export async function rootCreateCommand(options: VerbOptions, directory: string): Promise<number> {
  const { suite, mirror, include } = options
  const arch = archOption(options)
  const requested = {
    arch,
    directory,
    ...(typeof suite === 'string' && suite !== '' ? { suite } : {}),
    ...(typeof mirror === 'string' && mirror !== '' ? { mirror } : {}),
    include: String(include ?? '')
      .split(/[\s,]+/)
      .filter(Boolean),
  }
  const created = await createRoot(
    requested,
    line => printStatus(`    ${line}`),
    cancelOn('SIGINT', 'SIGTERM', 'SIGHUP'),
  )
  if (!created.configured)
    printStatus(
      `This machine cannot run ${arch} programs: packages were unpacked, but their scripts did not run.`,
    )
  print(`${created.directory}\n`)
  return 0
}
