import type { Log } from '../log.js'
import type { RunStage } from '../report/stages.js'
import type { Request } from '../request/request.js'
import type { Result } from '../result.js'
import type { Source } from '../source/source.js'
import type { Identity } from './identity.js'
import type { RemoteCaches } from './remote-caches.js'
import type { Toolchain } from './toolchain.js'

export interface BuildContext {
  request: Request
  source: Source
  /** gets what is learned on the way */
  result: Result
  log: Log
  cancel?: AbortSignal
  stage: RunStage
  remote?: RemoteCaches
}

/** What is known of a kernel before it is made. */
export interface KernelContext extends BuildContext {
  toolchain: Toolchain
  identity: Identity
  /** hash of what is asked of Kconfig */
  asked: string
  configKey: string | undefined
}
