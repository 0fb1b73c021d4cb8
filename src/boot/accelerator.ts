import { type ArchName, isNative } from '../arch.js'
import { InfraError } from '../errors.js'
import { kvmState } from '../host/kvm.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'

export type Accel = 'kvm' | 'tcg'

/** Which accelerator a guest is started with. */
export interface AccelChoice {
  accel: Accel
  /** seconds within which the kernel has to print its banner; Infinity where that proves nothing */
  banner: number
  /** emulate the guest if the banner does not come */
  retry: boolean
}

/** A kernel that runs under KVM prints its banner within a fraction of a second. */
export const KVM_BANNER_SECONDS = 10

const UNLIMITED = Number.POSITIVE_INFINITY
const EMULATED: AccelChoice = { accel: 'tcg', banner: UNLIMITED, retry: false }

/** Throws InfraError where the request demands KVM and this machine does not have it. */
export async function chooseAccel(request: Request, log: Log): Promise<AccelChoice> {
  if (request.accel === 'kvm') return await requireKvm(request.arch)
  if (request.accel === 'tcg' || !isNative(request.arch)) return EMULATED
  const state = await kvmState()
  if (state === 'proven') return { accel: 'kvm', banner: UNLIMITED, retry: false }
  if (state === 'unproven') return { accel: 'kvm', banner: KVM_BANNER_SECONDS, retry: true }
  const reason =
    state === 'absent'
      ? '/dev/kvm cannot be opened'
      : 'KVM does not run kernels on this machine (an earlier attempt failed)'
  log.warning(`${reason}: the guest is emulated, which is many times slower.`)
  return EMULATED
}

async function requireKvm(arch: ArchName): Promise<AccelChoice> {
  if (!isNative(arch))
    throw new InfraError(
      `accel is kvm, but KVM on this machine does not run ${arch} guests: use auto or tcg.`,
    )
  const state = await kvmState()
  if (state === 'absent')
    throw new InfraError(
      'accel is kvm, but /dev/kvm cannot be opened here: load the kvm module, join the group kvm, or use --accel auto.',
    )
  return { accel: 'kvm', banner: state === 'proven' ? UNLIMITED : KVM_BANNER_SECONDS, retry: false }
}
