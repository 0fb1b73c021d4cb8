import type { Cleanup } from '../host/cleanup.js'
import type { Log } from '../log.js'
import type { RunStage } from '../report/stages.js'
import type { Request } from '../request/request.js'
import type { Result } from '../result.js'
import type { Source } from '../source/source.js'
import type { BuildHost } from './build-host.js'
import type { Identity } from './identity.js'
import type { RemoteCaches } from './remote-caches.js'
import type { Toolchain } from './toolchain.js'

/** What getting a kernel needs to know of the run. */
export interface BuildContext {
  request: Request
  source: Source
  /** filled in as the run goes on */
  result: Result
  log: Log
  cancel?: AbortSignal
  stage: RunStage
  remote?: RemoteCaches
  /** runs when the kernel is not needed any more */
  cleanup: Cleanup
}

/** What is known of a kernel before it is configured. */
export interface KernelContext extends BuildContext {
  toolchain: Toolchain
  /** the machine that builds it, if it is not this one */
  host?: BuildHost
  identity: Identity
  /** SHA-256 of what the request passes to Kconfig, see `requestedConfigText` */
  requestedConfigHash: string
  /** see `configKeyOf`; undefined where what the request passes to Kconfig is not known beforehand */
  configKey: string | undefined
}
