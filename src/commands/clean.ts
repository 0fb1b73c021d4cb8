import { cleanBuildHost } from '../build/build-host.js'
import { removePrevious } from '../build/previous-kernel.js'
import { InfraError, InputError } from '../errors.js'
import type { Log } from '../log.js'
import type { BuildHostRequest } from '../request/request.js'
import { type Changes, type Checkout, changesOf, openCheckout } from '../source/checkout.js'
import { git, resolveCommit } from '../source/git.js'
import { removeWorkspaces } from '../source/workspace.js'
import { type CheckoutContext, logDiscarded } from './checkout.js'

/** `kc -x --build-host HOST`: removes what kc keeps on a build host. */
export async function cleanHost(host: BuildHostRequest, { log, cancel }: CheckoutContext): Promise<void> {
  const removed = await cleanBuildHost(host, cancel)
  for (const path of removed) log.info(`removed ${path} on ${host.destination}`)
  if (removed.length === 0) log.info(`nothing was kept on ${host.destination}`)
}

/**
 * `kc -x`: removes what kc keeps for a checkout. kc builds nothing in the checkout itself, which stays as it is; with
 * `force` it is reset to its commit. Throws InputError outside of a checkout, InfraError while a run uses what is kept.
 */
export async function cleanCheckout({ directory, force, log }: CheckoutContext): Promise<void> {
  const checkout = await openCheckout(directory)
  if (!checkout) throw new InputError(`${directory} is not in a git checkout: name one with --directory.`)
  const { top } = checkout
  const { gone, held } = await removeWorkspaces(checkout.gitDir)
  await removePrevious(checkout.gitDir)
  for (const path of gone) log.info(`removed ${path}`)
  if (gone.length === 0 && held.length === 0) log.info(`nothing was kept for ${top ?? directory}`)
  const changes = await changesOf(checkout, { ignored: true })
  const files = Object.values(changes).flat().length
  if (top && files > 0 && force) await discardChanges({ ...checkout, top }, changes, log)
  else if (files > 0) {
    const { changed, unmerged, untracked, ignored } = changes
    log.info(
      `${top} stays as it is, with ${changed.length + unmerged.length} uncommitted changes and ${untracked.length + ignored.length} files or directories that git does not track: --force discards them`,
    )
  }
  if (held.length > 0)
    throw new InfraError(`A run is using ${held.join(', ')}: wait until it has ended, and clean again.`)
}

async function discardChanges(
  checkout: Checkout & { top: string },
  changes: Changes,
  log: Log,
): Promise<void> {
  logDiscarded(checkout, changes, log)
  const { gitDir, top: workTree } = checkout
  const call = { gitDir, workTree, deadline: 3600 }
  if (await resolveCommit(gitDir, 'HEAD')) await git(['reset', '--quiet', '--hard', 'HEAD'], call)
  await git(['clean', '--quiet', '-d', '-x', '--force'], call)
  const left = Object.values(await changesOf(checkout, { ignored: true })).flat()
  if (left.length > 0) log.warning(`These are nested repositories, which are kept: ${left.join(', ')}`)
}
