import type { ArchName } from '../arch.js'
import { checkMachine, defaultArch, install, renderChecks } from '../host/doctor.js'
import { parseArch } from '../request/values.js'
import { EXIT_STATUS } from '../result.js'
import { print, printStatus } from './stdio.js'
import type { VerbOptions } from './verbs.js'

/** The architecture of --arch, this machine's by default. Throws InputError. */
export const archOption = ({ arch }: VerbOptions): ArchName =>
  typeof arch === 'string' ? parseArch(arch) : defaultArch()

/** `kc doctor`: checks this machine, and with --install installs what is missing first. */
export async function doctorCommand(options: VerbOptions): Promise<number> {
  const arch = archOption(options)
  if (options.install === true) await install(arch, printStatus)
  const findings = await checkMachine(arch)
  const missing = findings.filter(finding => finding.state === 'missing')
  const ready = missing.length === 0
  if (options.json === true) print(`${JSON.stringify({ ready, arch, findings })}\n`)
  else {
    print(renderChecks(findings))
    print(
      ready
        ? 'This machine is ready.\n'
        : `Missing: ${missing.map(({ name }) => name).join(', ')}. \`kc doctor --install\` installs what is available.\n`,
    )
  }
  return ready ? 0 : EXIT_STATUS['infra-error']
}
