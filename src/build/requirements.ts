import { requireBridge } from '../host/bridge.js'
import { reapGuests } from '../host/registry.js'
import { requireTools } from '../host/tools.js'
import { findVirtme } from '../host/virtme.js'
import type { Log } from '../log.js'
import type { Request } from '../request/request.js'

/**
 * Checks that this machine has what the run needs, before work starts. Ends guests that earlier runs have left behind.
 * Throws InfraError with what is missing and how to get it.
 */
export async function checkRequirements(request: Request, log: Log): Promise<void> {
  for (const runDirectory of await reapGuests())
    log.warning(`Ended a guest that an earlier run had left behind (${runDirectory}).`)
  const compiles = (!request.skipBuild && !request.buildHost) || request.modules.length > 0
  const needs = compiles ? (['source', 'build', 'boot'] as const) : (['source', 'boot'] as const)
  await requireTools(needs, request.arch, 'This run')
  if (request.network.kind === 'bridge') requireBridge(request.network.bridge)
  await findVirtme()
}
