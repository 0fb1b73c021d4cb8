import { availableParallelism, userInfo } from 'node:os'
import { resolve } from 'node:path'
import stringArgv from 'string-argv'
import { type ArchName, isNative } from '../arch.js'
import { InputError, messageOf } from '../errors.js'
import { parseBuildHost } from './build-host.js'
import { parseFailOn } from './finding-rules.js'
import { parseModuleSource } from './module-source.js'
import { OptionValues } from './option-values.js'
import type { RawOptions } from './options.js'
import {
  existingPath,
  parseConfigBase,
  parseDisk,
  parseFragment,
  parseIgnoreFile,
  parseRoot,
  parseRunDirectory,
  parseShare,
  parseUser,
} from './path-values.js'
import { type Project, readProject, withDefaults } from './project-file.js'
import type { GuestCommand, Network, Request, RequestContext } from './request.js'
import { knownTrees, type Trees, urlFault } from './trees.js'
import {
  invalid,
  ownArch,
  parseArch,
  parseCcacheSize,
  parseCount,
  parseDuration,
  parseLocalversion,
  parseMaxSize,
  parseMemory,
  parseNetwork,
  parseNuma,
  parseRef,
  parseRemote,
  quote,
} from './values.js'

/**
 * A request from the options of a run and the defaults of the checkout's project file: typed, checked and made absolute.
 * Throws InputError with one sentence about the first option that is invalid.
 */
export function parseRequest(raw: RawOptions, context: RequestContext): Request {
  const path = existingPath('path', new OptionValues(raw).value('path'), context.cwd, 'directory')
  const project = readProject(path)
  if (!project) return parseOptions(raw, path, {}, context)
  try {
    return parseOptions(withDefaults(raw, project.defaults), path, project.trees, context)
  } catch (error) {
    throw locateInProject(error, raw, project)
  }
}

/** The tree and ref of `kc -i`, mainline if no tree is named, with the trees that `directory` knows. Throws InputError. */
export function parseTree(
  { release = 'mainline', ref }: RawOptions,
  directory: string,
): { release: string; trees: Trees; ref?: string } {
  const tree = parseRelease(String(release), process.cwd())
  const trees = knownTrees(tree, readProject(directory)?.trees, true)
  return { release: tree, trees, ...(typeof ref === 'string' ? { ref: parseRef(ref) } : {}) }
}

/** The error, with its line in the project file if the option's value comes from there alone. */
function locateInProject(error: unknown, raw: RawOptions, { file, lines }: Project): unknown {
  const option = error instanceof InputError ? error.option : undefined
  const line = option !== undefined && raw[option] === undefined ? lines[option] : undefined
  return line === undefined ? error : new InputError(`${file}:${line}: ${messageOf(error)}`, option)
}

function parseOptions(raw: RawOptions, path: string, projectTrees: Trees, context: RequestContext): Request {
  const options = new OptionValues(raw)
  const machine = parseMachine(options, context.cwd)
  return {
    ...machine,
    ...parseBuild(options, context.cwd),
    buildHost: parseBuildHost(raw),
    ...parseCommands(options, machine.root, context),
    ...parseGuest(options, context),
    ...parseSource(options, projectTrees, context),
    path,
    ...parseConfigOptions(options, context.cwd),
    ...parseReport(options, context.cwd),
  }
}

/** The architecture, and a root that can run on it. */
function parseMachine(options: OptionValues, cwd: string): { arch: ArchName; root: string } {
  const root = parseRoot(options.value('root'), cwd)
  const arch = options.optional('arch', parseArch) ?? ownArch()
  if (!isNative(arch) && root === '/')
    throw new InputError(
      `arch is ${arch}, and this machine's own root cannot run there: name a root of that architecture with root; \`kc root create --arch ${arch} DIR\` makes one.`,
      'arch',
    )
  return { arch, root }
}

function parseBuild(options: OptionValues, cwd: string) {
  const skipModules = options.boolean('skip-modules')
  const modules = options.list('modules').map(directory => parseModuleSource(directory, cwd))
  if (skipModules && modules.length > 0)
    throw new InputError(
      'modules and skip-modules were both given: modules are built against what the latter leaves out.',
      'modules',
    )
  return {
    ccache: options.boolean('ccache'),
    ccacheMaxSize: parseCcacheSize(options.value('ccache-max-size')),
    ccacheRemote: options.optional('ccache-remote', parseRemote),
    kernelCache: options.boolean('kernel-cache'),
    kernelCacheMaxBytes: parseMaxSize('kernel-cache-max-size', options.value('kernel-cache-max-size')),
    skipBuild: options.boolean('skip-build'),
    skipModules,
    modules,
  }
}

function parseCommands(options: OptionValues, root: string, context: RequestContext) {
  const command = parseCommand(options.text('run'), context)
  // a shell is the user's own, if the root has a user of that name; commands are root's
  const defaultUser = command.kind === 'shell' && root === '/' ? userInfo().username : 'root'
  const duration = (name: 'boot-timeout' | 'run-timeout' | 'idle-timeout') =>
    parseDuration(name, options.value(name))
  return {
    command,
    env: parseEnv(options.list('env'), context.env),
    cwd: options.optional('cwd', text => resolve(context.cwd, text)),
    user: parseUser(options.given('user') ?? defaultUser, root),
    deadlines: {
      boot: duration('boot-timeout'),
      run: duration('run-timeout'),
      idle: duration('idle-timeout'),
    },
  }
}

function parseCommand(script: string | undefined, { argv = [], terminal }: RequestContext): GuestCommand {
  if (script !== undefined && argv.length > 0)
    throw new InputError('The commands were given twice: use either --exec or `-- COMMAND`.', 'run')
  if (argv.length > 0) return { kind: 'argv', argv }
  if (script?.trim()) return { kind: 'script', text: script }
  if (script === undefined && terminal) return { kind: 'shell' }
  throw new InputError(
    'run is empty: name the commands that the guest is to run, for example `run: uname -r`.',
    'run',
  )
}

/** Variables by name, from `NAME=value`, or from `NAME` alone with the value that it has in `env`. */
function parseEnv(lines: readonly string[], env: NodeJS.ProcessEnv): Record<string, string> {
  return Object.fromEntries(
    lines.map(line => {
      const [, name, assigned] = /^([A-Za-z_]\w*)(?:=([\s\S]*))?$/.exec(line) ?? []
      if (!name) throw new InputError(`env: ${quote(line)} is neither NAME nor NAME=value.`, 'env')
      const value = assigned ?? env[name]
      if (value === undefined)
        throw new InputError(`env: ${name} is not set here; write ${name}=value.`, 'env')
      return [name, value]
    }),
  )
}

function parseGuest(options: OptionValues, context: RequestContext) {
  return {
    accel: options.choice('accel'),
    cpus: options.optional('cpus', text => parseCount('cpus', text, 255)) ?? availableParallelism(),
    memoryMiB: parseMemory('memory', options.value('memory')),
    numa: options.list('numa').map(parseNuma),
    ...networkAndOpts(
      parseNetwork(options.value('network')),
      options.optional('opts', text => stringArgv(text)) ?? [],
    ),
    qemuOpts: options.optional('qemu-opts', text => stringArgv(text)) ?? [],
    disks: options.list('disk').map(disk => parseDisk(disk, context.cwd)),
    append: options
      .list('append')
      .flatMap(line => line.trim().split(/\s+/))
      .filter(Boolean),
    shares: (['rwdir', 'rodir'] as const).flatMap(name =>
      options.list(name).map(text => parseShare(name, text, context)),
    ),
  }
}

/**
 * Takes virtme-run's own `--net` out of its options, unless `network` was set: then the network is checked, and the guest
 * configured for it.
 */
function networkAndOpts(network: Network, opts: readonly string[]): Pick<Request, 'network' | 'opts'> {
  const joined = opts.findIndex(arg => arg.startsWith('--net='))
  const at = joined < 0 ? opts.indexOf('--net') : joined
  const named = joined < 0 ? opts[at + 1] : opts[at]?.slice('--net='.length)
  if (at < 0 || named === undefined || network.kind !== 'none') return { network, opts: [...opts] }
  const length = joined < 0 ? 2 : 1
  return { network: parseNetwork(named), opts: opts.filter((_, index) => index < at || index >= at + length) }
}

function parseSource(options: OptionValues, projectTrees: Trees, { cwd, local = false }: RequestContext) {
  const release = options.optional('release', text => parseRelease(text, cwd))
  return {
    release,
    trees: knownTrees(release, projectTrees, local),
    local,
    force: options.boolean('force'),
    ref: options.optional('ref', parseRef),
  }
}

/** The name of a tree, or a URL; a path becomes absolute. */
function parseRelease(value: string, cwd: string): string {
  const fault = urlFault(value)
  if (fault) throw invalid('release', value, fault)
  return /^\.{0,2}\//.test(value) ? resolve(cwd, value) : value
}

function parseConfigOptions(options: OptionValues, cwd: string) {
  return {
    configBase: parseConfigBase(options.value('config-base'), cwd),
    fragments: options.list('config').map(fragment => parseFragment(fragment, cwd)),
    configItems: options.list('config-items'),
    debugInfo: options.choice('debug-info'),
    // set and empty means no suffix at all
    localversion: parseLocalversion(options.text('localversion') ?? options.value('localversion')),
  }
}

function parseReport(options: OptionValues, cwd: string) {
  const failOn = options.list('fail-on')
  return {
    failOn: parseFailOn(failOn.length > 0 ? failOn : ['all']),
    ignore: options.optional('ignore', text => parseIgnoreFile(text, cwd)) ?? [],
    vmcore: options.choice('vmcore'),
    vmcoreMaxBytes: parseMaxSize('vmcore-max-size', options.value('vmcore-max-size')),
    runDirectory: options.optional('run-directory', text => parseRunDirectory(text, cwd)),
  }
}
