import { sha256 } from '../host/hash.js'

/** Changes when an entry of the kernel cache, or how we call make, means another kernel for the same inputs. */
export const KERNEL_CACHE_FORMAT = 2

/**
 * Everything that a kernel follows from, the resolved configuration aside. Where two are equal, so are the kernels.
 * What we set ourselves for make (time stamp, user and host of the build) is the same for all: it is part of LAYOUT.
 */
export interface Identity {
  /** id of the source's git tree: its whole contents, patches included */
  tree: string
  /** each tool that compiles or that Kconfig asks, with version and hash */
  toolchain: Readonly<Record<string, string>>
  arch: string
  localversion: string
  /** false where only the image was asked for */
  modules: boolean
}

/** A canonical text: the order in which a toolchain was found out does not matter. */
function canonical({ tree, toolchain, arch, localversion, modules }: Identity): unknown[] {
  return [KERNEL_CACHE_FORMAT, tree, Object.entries(toolchain).sort(), arch, localversion, modules]
}

/** The key of a kernel: a hash of all that it was made from. `configHash` is the SHA-256 of the resolved .config. */
export function kernelKey(identity: Identity, configHash: string): string {
  return sha256(JSON.stringify([canonical(identity), configHash]))
}

/**
 * The key of a question to Kconfig: what was asked of which tree with which tools. Kconfig's answer follows from it, so
 * that a kernel can be found without the source being checked out.
 */
export function configKeyOf(identity: Identity, asked: string): string {
  return sha256(JSON.stringify([canonical(identity), asked]))
}

/** A kernel that was made, as far as another one is compared to it. */
export interface KernelInputs {
  identity: Identity
  /** first characters of the commit and its subject, for people */
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

/** What makes a kernel another one than that, a phrase for each part; empty if nothing does. */
export function differences(before: KernelInputs, now: KernelInputs): string[] {
  const found: string[] = []
  const say = (part: string, old: string, fresh: string) => {
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
    say(tool, before.identity.toolchain[tool] ?? 'none', now.identity.toolchain[tool] ?? 'none')
  say('architecture', before.identity.arch, now.identity.arch)
  say('LOCALVERSION', JSON.stringify(before.identity.localversion), JSON.stringify(now.identity.localversion))
  if (before.identity.modules !== now.identity.modules)
    found.push(now.identity.modules ? 'modules are wanted, too' : 'only the image is wanted')
  return found
}
