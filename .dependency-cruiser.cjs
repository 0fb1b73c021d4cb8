// Which file of src/ may import which. `npm run check` runs it.
const { existsSync } = require('node:fs')
const { join } = require('node:path')

/** Folders and files of src/, from the bottom to the top. A layer imports only from itself and from layers below it. */
const LAYERS = [
  ['triage'],
  ['arch.ts', 'errors.ts', 'log.ts', 'result.ts', 'run-directory.ts'],
  ['host'],
  ['request'],
  ['report'],
  ['source'],
  ['config'],
  ['build'],
  ['boot'],
  ['dump'],
  ['judge'],
  ['pipeline.ts'],
  ['commands', 'github'],
  ['action.ts', 'cli.ts'],
]

/** Files of each folder that may be imported from outside of it, sorted. All other files are private to their folder. */
const PUBLIC = {
  boot: ['attach.ts', 'boot.ts', 'monitor.ts', 'outcome.ts', 'qmp.ts', 'supervise.ts', 'terminal.ts'],
  build: [
    'build-host.ts',
    'build-kernel.ts',
    'external-modules.ts',
    'get-kernel.ts',
    'kernel-cache.ts',
    'previous-kernel.ts',
    'remote-builder.ts',
    'remote-caches.ts',
    'requirements.ts',
  ],
  commands: ['program.ts'],
  config: ['configure.ts', 'fragments.ts', 'kconfig.ts'],
  dump: [
    'collector.ts',
    'decode-stack.ts',
    'keep-vmcore.ts',
    'kmemleak.ts',
    'running-guest.ts',
    'take-dump.ts',
  ],
  github: ['main.ts'],
  host: [
    'assets.ts',
    'bridge.ts',
    'choose-guest.ts',
    'cleanup.ts',
    'doctor.ts',
    'environment.ts',
    'files.ts',
    'hash.ts',
    'json-file.ts',
    'kvm.ts',
    'lock.ts',
    'new-run-directory.ts',
    'paths.ts',
    'proc.ts',
    'processes.ts',
    'registry.ts',
    'root-create.ts',
    'shell-quote.ts',
    'signals.ts',
    'tools.ts',
    'virtme.ts',
  ],
  judge: ['analysis.ts', 'guest-output.ts', 'judge-guest.ts', 'observe-guest.ts'],
  report: [
    'findings.ts',
    'junit.ts',
    'repeat-command.ts',
    'run-record.ts',
    'stages.ts',
    'summary.ts',
    'terminal.ts',
    'tests.ts',
  ],
  request: [
    'build-host.ts',
    'bundled-fragments.ts',
    'dkms.ts',
    'module-source.ts',
    'options.ts',
    'parse.ts',
    'request.ts',
    'trees.ts',
    'values.ts',
  ],
  source: ['checkout.ts', 'git.ts', 'locate.ts', 'remote.ts', 'source.ts', 'workspace.ts'],
  triage: [
    'finding.ts',
    'ignore-windows.ts',
    'ktap.ts',
    'oom-kills.ts',
    'rules.ts',
    'skip-list.ts',
    'stack.ts',
    'tests.ts',
    'triage.ts',
  ],
}

const members = LAYERS.flat()
const isFolder = name => !name.endsWith('.ts')
const folders = members.filter(isFolder)
const escape = text => text.replaceAll('.', '\\.')

/** Regular expression for the path of a folder's files, or of one file. */
const pathOf = name => (isFolder(name) ? `^src/${name}/` : `^src/${escape(name)}$`)
const publicPaths = folder => PUBLIC[folder].map(file => `${pathOf(folder)}${escape(file)}$`)

for (const folder of folders) {
  const missing = PUBLIC[folder].filter(file => !existsSync(join(__dirname, 'src', folder, file)))
  if (missing.length > 0) throw new Error(`PUBLIC of ${folder} names files that do not exist: ${missing}`)
}

const error = (name, comment, from, to) => ({ name, comment, severity: 'error', from, to })

/** For each folder or file: nothing of a higher layer, and no other folder of the same layer. */
const downward = LAYERS.flatMap((layer, index) =>
  layer.map(member => {
    const siblings = isFolder(member) ? layer.filter(other => other !== member && isFolder(other)) : []
    const forbidden = [...siblings, ...LAYERS.slice(index + 1).flat()]
    return error(
      `downward-from-${member}`,
      `${member} imports only what is below it in LAYERS.`,
      { path: pathOf(member) },
      { path: forbidden.map(pathOf) },
    )
  }),
).filter(rule => rule.to.path.length > 0)

/** For each folder: the others import its public files only. */
const privateFiles = folders.map(folder =>
  error(
    `private-in-${folder}`,
    `Import a file of ${folder} that PUBLIC names.`,
    { path: '^src/', pathNot: pathOf(folder) },
    { path: pathOf(folder), pathNot: publicPaths(folder) },
  ),
)

/** For each folder: a file that nothing outside of it imports is not public. */
const unusedPublic = folders.map(folder => ({
  name: `unused-public-in-${folder}`,
  comment: `Nothing outside of ${folder} imports this file: remove it from PUBLIC.`,
  severity: 'error',
  module: { path: publicPaths(folder), numberOfDependentsLessThan: 1 },
  from: { path: '^src/', pathNot: pathOf(folder) },
}))

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    error('no-circular-files', 'Move what both files need into a third.', {}, { circular: true }),
    {
      ...error(
        'no-circular-folders',
        'Move what both folders need into one below them.',
        { path: '^src/.' },
        { circular: true, viaOnly: { path: '^src/.' } },
      ),
      scope: 'folder',
    },
    error(
      'known-layer',
      'Add the file or its folder to LAYERS.',
      {},
      {
        path: '^src/',
        pathNot: members.map(pathOf),
      },
    ),
    ...downward,
    ...privateFiles,
    ...unusedPublic,
    error(
      'triage-is-pure',
      'src/triage is functions of text: no package, and only modules of Node that do no I/O.',
      { path: pathOf('triage') },
      { pathNot: [pathOf('triage'), '^(node:)?(crypto|util)$'] },
    ),
    error(
      'github-only-for-the-action',
      'Only src/github and the entry of the action know GitHub.',
      { path: '^src/', pathNot: [pathOf('github'), pathOf('action.ts')] },
      { path: [pathOf('github'), 'node_modules/@actions/'] },
    ),
    error('resolvable', 'The file or package does not exist.', {}, { couldNotResolve: true }),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    // imports of types count, too
    tsPreCompilationDeps: true,
  },
}
