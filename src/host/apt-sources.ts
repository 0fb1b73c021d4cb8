import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** An entry of apt's sources for binary packages, see sources.list(5). */
export interface AptSource {
  uris: readonly string[]
  suites: readonly string[]
  components: readonly string[]
  /** Debian's names; undefined for all that apt is configured for */
  architectures?: readonly string[]
  /** path of a keyring, fingerprints, or a key itself */
  signedBy?: string
}

/** Parses the one-line style: `deb [ option=value ... ] uri suite component ...`. */
export function parseOneLineSources(text: string): AptSource[] {
  return text.split('\n').flatMap(line => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s*)?([^\s#][^#]*)/.exec(line)
    const [uri, suite, ...components] = split(match?.[2])
    if (!uri || !suite) return []
    const options = new Map(
      split(match?.[1]).map(option => {
        const [name = '', value = ''] = option.split('=', 2)
        return [name, value.replaceAll('"', '')]
      }),
    )
    const [architectures, signedBy] = [options.get('arch'), options.get('signed-by')]
    return {
      ...{ uris: [uri], suites: [suite], components },
      ...(architectures ? { architectures: architectures.split(',') } : {}),
      ...(signedBy ? { signedBy } : {}),
    }
  })
}

/** Parses the deb822 style: stanzas of fields, whose values may go on in lines that begin with a blank. */
export function parseDeb822Sources(text: string): AptSource[] {
  const lines = text.split('\n').filter(line => !line.startsWith('#'))
  return lines
    .join('\n')
    .split(/\n\s*\n/)
    .flatMap(stanza => {
      const fields = new Map(
        stanza
          .replace(/\n[ \t]+/g, ' ')
          .split('\n')
          .map(line => {
            const [, name = '', value = ''] = /^([^:\s]+):(.*)$/.exec(line) ?? []
            return [name.toLowerCase(), value.trim()]
          }),
      )
      const list = (name: string) => split(fields.get(name))
      if (!list('types').includes('deb') || DISABLED.test(fields.get('enabled') ?? '')) return []
      const [architectures, signedBy] = [list('architectures'), fields.get('signed-by')]
      return {
        ...{ uris: list('uris'), suites: list('suites'), components: list('components') },
        ...(architectures.length > 0 ? { architectures } : {}),
        ...(signedBy ? { signedBy } : {}),
      }
    })
}

const DISABLED = /^(?:no|false|without|off|disable|0)$/i
const split = (text = '') => text.split(/\s+/).filter(Boolean)

/** The entries of this machine, in apt's order. Files that cannot be read have none. */
export async function readAptSources(directory = '/etc/apt'): Promise<AptSource[]> {
  const text = async (...path: string[]) => await readFile(join(directory, ...path), 'utf8').catch(() => '')
  const sources = parseOneLineSources(await text('sources.list'))
  const names = await readdir(join(directory, 'sources.list.d')).catch(() => [])
  for (const name of names.sort()) {
    if (name.endsWith('.list')) sources.push(...parseOneLineSources(await text('sources.list.d', name)))
    if (name.endsWith('.sources')) sources.push(...parseDeb822Sources(await text('sources.list.d', name)))
  }
  return sources
}

/** The distribution of this machine. */
export interface Distribution {
  /** ID of os-release(5) */
  id: 'debian' | 'ubuntu'
  /** its own suite (VERSION_CODENAME), such as trixie */
  suite: string
  /** Debian's name of its architecture */
  architecture: string
  /** names of all its suites, as far as known */
  suites: readonly string[]
}

/** Suites with later versions of a released suite's packages. */
const POCKETS = ['', '-updates', '-security']

/**
 * Entries in the one-line style for a root of this suite and architecture, by the entries of this machine: for a suite
 * that they have, with its updates; for another suite of the same distribution, from the archive of the machine's own
 * suite and without updates, which not every suite has. Empty where the machine has no archive for it.
 */
export function sourceLines(
  sources: readonly AptSource[],
  distribution: Distribution,
  suite: string,
  architecture: string,
): string[] {
  const archives = sources.filter(source => isArchive(source, distribution, architecture))
  const entries = (name: string, as = name) =>
    archives.flatMap(({ uris, suites, signedBy }) =>
      uris
        .filter(uri => suites.includes(name) && WEB.test(uri))
        .map(uri => ({ uri, line: `deb ${signedBy ? `[signed-by=${signedBy}] ` : ''}${uri} ${as} main` })),
    )
  const first = (name: string, as?: string) => {
    const found = entries(name, as)
    // other publishers' archives have the suite's name too, but no updates of it
    const updates = entries(`${name}-updates`).map(({ uri }) => uri)
    const { line } = found.find(({ uri }) => updates.includes(uri)) ?? found[0] ?? {}
    return line === undefined ? [] : [line]
  }
  if (entries(suite).length > 0) return POCKETS.flatMap(pocket => first(suite + pocket))
  return distribution.suites.includes(suite) ? first(distribution.suite, suite) : []
}

/** What mmdebstrap takes: not cdrom:, file: or mirror+file:, and no password, which would be on a command line. */
const WEB = /^https?:\/\/[^\s@]+$/

/** True for an entry of the distribution's own packages (main) of this architecture. */
function isArchive(
  { components, architectures, signedBy }: AptSource,
  { id, architecture: own }: Distribution,
  architecture: string,
): boolean {
  // the distribution's packages (debian-archive-keyring, ubuntu-keyring) have its keys under these names
  const keyring = new RegExp(`^/[\\w./-]+/${id}-archive-keyring\\.(?:gpg|pgp|asc)$`)
  if (!components.includes('main') || (signedBy !== undefined && !keyring.test(signedBy))) return false
  if (architectures !== undefined) return architectures.includes(architecture)
  // Ubuntu has two archives: one for PCs, one (ports) for all other architectures
  return id === 'debian' || (architecture === 'amd64') === (own === 'amd64')
}

/**
 * The distribution of this machine by os-release(5) and distro-info-data; undefined for others than Debian and Ubuntu,
 * also for their derivatives, whose archives differ.
 */
export async function readDistribution(architecture: string): Promise<Distribution | undefined> {
  const text = await readFile('/etc/os-release', 'utf8').catch(() => '')
  const [, id] = /^ID="?(debian|ubuntu)"?$/m.exec(text) ?? []
  const [, suite] = /^VERSION_CODENAME="?([\w-]+)"?$/m.exec(text) ?? []
  if ((id !== 'debian' && id !== 'ubuntu') || !suite) return undefined
  const table = await readFile(`/usr/share/distro-info/${id}.csv`, 'utf8').catch(() => '')
  // version,codename,series,...
  const series = table.split('\n').map(line => line.split(',')[2] ?? '')
  return { id, suite, architecture, suites: [...series, ...(id === 'debian' ? DEBIAN_ALIASES : [])] }
}

/** Names of Debian's suites that do not change with a release. */
const DEBIAN_ALIASES = ['oldstable', 'stable', 'testing', 'unstable', 'sid']
