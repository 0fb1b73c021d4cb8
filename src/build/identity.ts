import { sha256 } from '../host/hash.js'

/** Raised when the layout of a kernel cache entry changes, or when make is called such that the kernel is another one. */
export const KERNEL_CACHE_FORMAT = 3

/**
 * The inputs of a kernel except the resolved configuration. Where both are equal, so are the kernels. What KernelCraft
 * itself sets for make (time stamp, user and host of the build) is the same for all: KERNEL_CACHE_FORMAT stands for it.
 */
export interface Identity {
  /** id of the source's git tree: its whole contents, patches included */
  tree: string
  /** each tool that compiles or whose version Kconfig reads, with version and hash */
  toolchain: Readonly<Record<string, string>>
  arch: string
  localversion: string
  /** false where only the image is built */
  modules: boolean
}

/** A canonical form: the order in which tools were found does not matter. */
function canonical({ tree, toolchain, arch, localversion, modules }: Identity): unknown[] {
  return [KERNEL_CACHE_FORMAT, tree, Object.entries(toolchain).sort(), arch, localversion, modules]
}

/** The key of a kernel: a hash of its inputs. `configHash` is the SHA-256 of the resolved .config. */
export function kernelKey(identity: Identity, configHash: string): string {
  return sha256(JSON.stringify([canonical(identity), configHash]))
}

/**
 * The key of a configuration: a hash of what Kconfig resolves it from, which is the tree, the tools and what the request
 * passes to it (`requestedConfigText`). By it a kernel is found without checking the source out.
 */
export function configKeyOf(identity: Identity, requestedConfig: string): string {
  return sha256(JSON.stringify([canonical(identity), requestedConfig]))
}

/** The inputs of a kernel, in the form in which two kernels are compared. */
export interface KernelInputs {
  identity: Identity
  /** first characters of the commit and its subject, to be shown */
  commit: string
  /** option to value, of the resolved configuration */
  values: ReadonlyMap<string, string>
}

const MOST_OPTIONS = 5

function optionsThatDiffer(before: ReadonlyMap<string, string>, now: ReadonlyMap<string, string>): string[] {
  const names = [...new Set([...before.keys(), ...now.keys()])]
  return names.flatMap(name => {
    const [old, fresh] = [before.get(name) ?? 'n', now.get(name) ?? 'n']
    return old === fresh ? [] : [`CONFIG_${name}: ${old} → ${fresh}`]
  })
}

/** How the inputs of two kernels differ, a phrase for each part; empty if they do not. */
export function differences(before: KernelInputs, now: KernelInputs): string[] {
  const found: string[] = []
  const compare = (part: string, old: string, fresh: string) => {
    if (old !== fresh) found.push(`${part}: ${old} → ${fresh}`)
  }
  if (before.identity.tree !== now.identity.tree) found.push(`source: ${before.commit} → ${now.commit}`)
  const options = optionsThatDiffer(before.values, now.values)
  if (options.length > 0) {
    const rest = options.length - MOST_OPTIONS
    found.push(
      `config: ${options.slice(0, MOST_OPTIONS).join(', ')}${rest > 0 ? `, and ${rest} more options` : ''}`,
    )
  }
  const tools = new Set([...Object.keys(before.identity.toolchain), ...Object.keys(now.identity.toolchain)])
  for (const tool of [...tools].sort())
    compare(tool, before.identity.toolchain[tool] ?? 'none', now.identity.toolchain[tool] ?? 'none')
  compare('architecture', before.identity.arch, now.identity.arch)
  compare(
    'LOCALVERSION',
    JSON.stringify(before.identity.localversion),
    JSON.stringify(now.identity.localversion),
  )
  if (before.identity.modules !== now.identity.modules)
    found.push(now.identity.modules ? 'modules are wanted, too' : 'only the image is wanted')
  return found
}
