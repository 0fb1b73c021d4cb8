import stringArgv from 'string-argv'
import { InputError } from '../errors.js'
import { OptionValues } from './option-values.js'
import type { OptionName, RawOptions } from './options.js'
import type { BuildHostRequest } from './request.js'
import { parseDestination } from './values.js'

/** Options that mean nothing without a build host. */
const DEPENDENT: readonly OptionName[] = ['build-host-exec-prefix', 'build-host-key']

/** The build host, if one is named. Throws InputError for an invalid one, and for its options without it. */
export function parseBuildHost(raw: RawOptions): BuildHostRequest | undefined {
  const options = new OptionValues(raw)
  const host = options.given('build-host')
  if (host === undefined) {
    const without = DEPENDENT.find(name => options.given(name) !== undefined)
    if (without) throw new InputError(`${without} was given without build-host.`, without)
    return undefined
  }
  const key = options.given('build-host-key')
  return {
    destination: parseDestination(host),
    prefix: options.optional('build-host-exec-prefix', text => stringArgv(text)) ?? [],
    vmlinux: options.boolean('build-host-vmlinux'),
    knownHosts: options.list('build-host-known-hosts'),
    ...(key === undefined ? {} : { key }),
  }
}
