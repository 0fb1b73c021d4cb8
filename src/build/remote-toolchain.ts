import { readFile } from 'node:fs/promises'
import { InfraError } from '../errors.js'
import { asset } from '../host/assets.js'
import { mustSucceed, type Ssh } from './ssh.js'
import { OTHER_TOOLS, TARGET_TOOLS, type Toolchain } from './toolchain.js'

/** The tools of a build host. */
export interface RemoteTools {
  toolchain: Toolchain
  /** ccache is installed */
  ccache: boolean
}

/**
 * Finds the tools of a build host, behind the prefix (`prefixText`). `cross` is the prefix of its compilers' names. Throws
 * InfraError if make, gcc or ld is missing.
 */
export async function findRemoteTools(
  ssh: Ssh,
  prefix: string,
  cross: string,
  cancel?: AbortSignal,
): Promise<RemoteTools> {
  const pairs = [
    ...TARGET_TOOLS.map(tool => `${tool}=${cross}${tool}`),
    ...[...OTHER_TOOLS, 'make', 'ccache'].map(tool => `${tool}=${tool}`),
  ]
  const script = await readFile(asset('build/identify.sh'), 'utf8')
  const args = [script, 'kernelcraft', ...pairs]
  const end = await ssh.run(`${prefix}sh -c "$@"`, args, { cancel, deadline: 120 })
  const tools = parseTools(mustSucceed(ssh, 'Looking for compilers', end).stdout)
  const missing = ['make', 'gcc', 'ld'].filter(tool => !tools.has(tool))
  if (missing.length > 0) {
    const names = missing.map(tool => (tool === 'make' ? tool : cross + tool)).join(', ')
    throw new InfraError(
      `${ssh.host} has no ${names}${prefix ? ' behind the prefix' : ''}: install it there.`,
    )
  }
  const ccache = tools.delete('ccache')
  // the kernel does not depend on make's version
  tools.delete('make')
  return {
    ccache,
    toolchain: {
      compiler: tools.get('gcc')?.version ?? '',
      identity: Object.fromEntries(
        [...tools].map(([tool, { version, hash }]) => [tool, `${version} [${hash}]`]),
      ),
    },
  }
}

/** Parses what identify.sh prints: tool to version and hash. */
function parseTools(text: string): Map<string, { version: string; hash: string }> {
  return new Map(
    text
      .split('\n')
      .filter(Boolean)
      .map(line => {
        const [tool = '', hash = '', version = ''] = line.split('\t')
        return [tool, { hash, version: version.trim() }]
      }),
  )
}
