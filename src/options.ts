/**
 * The one table of what can be asked for: the action's inputs and kc's flags have the same names.
 * action.yml, the tables of README.md, `kc --help` and the parser all follow from it; tests hold them equal.
 */
export interface Option {
  /** the action's input and, with two dashes, kc's flag */
  name: string
  /** kc's flag where it is called otherwise, and its letter */
  flag?: string
  letter?: string
  /** `value`: one; `list`: a flag that may be repeated, or lines of an input; `switch`: true or false */
  kind: 'value' | 'list' | 'switch'
  /** placeholder of the value in --help */
  value?: string
  /** as a person would type it */
  default?: string
  /** words that it takes, where it takes no others */
  choices?: readonly string[]
  /** one line for --help */
  help: string
  /** what action.yml and the README say beyond it */
  more?: string
  /** where it is an option; both by default */
  only?: 'action' | 'kc'
  /** a checkout's .kernelcraft.json may have a default of it: see project.ts for which can */
  project?: true
  group: 'source' | 'config' | 'build' | 'guest' | 'run' | 'report'
}

export const OPTIONS: readonly Option[] = [
  {
    name: 'release',
    letter: 'r',
    kind: 'value',
    value: 'TREE',
    group: 'source',
    help: 'tree by name (mainline, next, stable, distro, ...) or URL',
    more: 'Default: the checkout at `path`. `distro` is the kernel source package of the running distribution; an Ubuntu series and what `~/.kernelcraft.conf` and `.kernelcraft.json` name are trees too.',
  },
  {
    name: 'ref',
    flag: 'commit',
    letter: 'c',
    kind: 'value',
    value: 'REF',
    group: 'source',
    help: 'tag, branch, SHA, HEAD~2, refs/... (default: HEAD)',
    more: 'Default: the branch of the tree, or HEAD of the checkout with its uncommitted changes. What the checkout does not have is fetched from its `origin`.',
  },
  {
    name: 'path',
    flag: 'directory',
    letter: 'C',
    kind: 'value',
    value: 'DIR',
    default: '.',
    group: 'source',
    help: 'kernel checkout (default: here)',
    more: 'Relative to the workspace. It is only read: the work happens in a work tree of our own.',
  },
  {
    name: 'force',
    kind: 'switch',
    default: 'false',
    only: 'kc',
    group: 'source',
    help: 'leave uncommitted changes out; with -i and -x, drop them',
    more: 'What is dropped is named first.',
  },
  {
    name: 'run',
    flag: 'exec',
    letter: 'e',
    kind: 'value',
    value: 'SCRIPT',
    group: 'run',
    help: 'commands for the guest; also as `-- COMMAND ...`',
    more: 'A script of any length, run by `bash -e` (or what its `#!` line names) as root in the guest.',
  },
  {
    name: 'env',
    kind: 'list',
    value: 'NAME[=V]',
    group: 'run',
    help: 'variable for the commands; repeatable',
    more: 'One a line. `NAME` alone takes its value from the step. Nothing else of the environment reaches the guest.',
  },
  {
    name: 'arch',
    kind: 'value',
    value: 'ARCH',
    group: 'config',
    choices: ['x86_64', 'arm64'],
    help: "architecture: x86_64, arm64 (default: this machine's)",
    more: "Another one than the machine's is cross-compiled, emulated, and needs a `root` of its own.",
  },
  {
    name: 'config-base',
    kind: 'value',
    value: 'BASE',
    default: 'minimal',
    project: true,
    group: 'config',
    help: 'minimal, virtme, defconfig, current, or a file',
    more: '`minimal` is ours: the least that boots here and runs a modern userspace. `virtme` is `virtme-configkernel`, `current` the .config of the checkout.',
  },
  {
    name: 'config',
    letter: 'f',
    kind: 'list',
    value: 'FILE',
    project: true,
    group: 'config',
    help: 'config fragment, the last one wins; repeatable',
    more: 'One a line; a file, or the name of one of ours: `test` (LKDTM, KUnit), `kasan`, `lockdep`, `ubsan`, `kvm-host`, `disk` (ext4), `network` (bridge, tun).',
  },
  {
    name: 'config-items',
    flag: 'configitem',
    kind: 'list',
    value: 'CONFIG_X=y',
    project: true,
    group: 'config',
    help: 'single option; repeatable',
    more: 'One a line, after all fragments. An option that does not survive Kconfig fails the run with the reason.',
  },
  {
    name: 'debug-info',
    kind: 'value',
    value: 'KIND',
    default: 'full',
    project: true,
    group: 'config',
    choices: ['full', 'none'],
    help: 'full or none',
    more: '`full` is DWARF 5, which crash, drgn and addr2line read.',
  },
  {
    name: 'localversion',
    kind: 'value',
    value: 'SUFFIX',
    default: '-rc',
    project: true,
    group: 'build',
    help: 'suffix of `uname -r`',
  },
  {
    name: 'ccache',
    kind: 'value',
    value: 'BOOL',
    default: 'true',
    group: 'build',
    choices: ['true', 'false'],
    help: 'compile through ccache where it is installed',
  },
  {
    name: 'ccache-max-size',
    kind: 'value',
    value: 'SIZE',
    default: '2G',
    group: 'build',
    help: 'limit of the ccache directory',
  },
  {
    name: 'ccache-remote',
    kind: 'value',
    value: 'URL',
    group: 'build',
    help: 'remote storage of ccache (http://, redis://)',
    more: 'For many machines. The build sees the URL, so a password in it is only as secret as the code that is built.',
  },
  {
    name: 'kernel-cache',
    kind: 'value',
    value: 'BOOL',
    default: 'true',
    group: 'build',
    choices: ['true', 'false'],
    help: 'boot a kernel that was made before without building it',
    more: 'A kernel is known by all that it follows from: source, resolved configuration, tools, suffix. `false` builds.',
  },
  {
    name: 'kernel-cache-max-size',
    kind: 'value',
    value: 'SIZE',
    default: '4G',
    group: 'build',
    help: "limit of this machine's kernel cache",
    more: 'What was not used for longest goes first.',
  },
  {
    name: 'build-host',
    kind: 'value',
    value: 'USER@HOST',
    group: 'build',
    help: 'build on that machine, over ssh, in its ~/.kernelcraft',
    more: 'The commit is pushed there, built with its cores, compilers and ccache, and only what the test needs is fetched. Also `ssh://user@host:port`.',
  },
  {
    name: 'build-host-exec-prefix',
    kind: 'value',
    value: 'WORDS',
    group: 'build',
    help: 'what goes before the commands there: schroot -c sid --',
    more: "Quoted as in a shell; `$NAME` is that machine's variable, as in `PATH=/opt/gcc/bin:$PATH`.",
  },
  {
    name: 'build-host-vmlinux',
    kind: 'switch',
    default: 'false',
    group: 'build',
    help: 'fetch vmlinux always, not only when it is needed',
  },
  {
    name: 'build-host-key',
    kind: 'value',
    only: 'action',
    group: 'build',
    help: 'private key for it, from a secret',
    more: 'Kept in the memory of an ssh-agent that ends with the job, and in no file.',
  },
  {
    name: 'build-host-known-hosts',
    kind: 'list',
    value: 'LINE',
    group: 'build',
    help: "its host key, as in known_hosts (default: the user's file)",
    more: 'Lines of known_hosts(5), as `ssh-keyscan` prints them.',
  },
  {
    name: 'skip-build',
    letter: 's',
    kind: 'switch',
    default: 'false',
    group: 'build',
    help: 'test the kernel that was built last for this source',
  },
  {
    name: 'skip-modules',
    letter: 'S',
    kind: 'switch',
    default: 'false',
    project: true,
    group: 'build',
    help: 'build the image only',
  },
  {
    name: 'modules',
    letter: 'M',
    kind: 'list',
    value: 'DIR',
    group: 'build',
    help: 'external module to build against the kernel and load; repeatable',
    more: 'One directory a line: plain Kbuild, or with a dkms.conf. They are loaded before the commands in this order and removed after them; later ones may use symbols of earlier ones.',
  },
  {
    name: 'cpus',
    kind: 'value',
    value: 'N',
    project: true,
    group: 'guest',
    help: 'CPUs of the guest (default: all)',
    more: 'Default: as many as the host has.',
  },
  {
    name: 'memory',
    letter: 'm',
    kind: 'value',
    value: 'SIZE',
    default: '1G',
    project: true,
    group: 'guest',
    help: 'memory of the guest',
    more: '`512M`, `2G`; a number alone is MiB.',
  },
  {
    name: 'network',
    letter: 'n',
    kind: 'value',
    value: 'KIND',
    default: 'none',
    group: 'guest',
    help: 'none, user, bridge[=BR], loop',
  },
  {
    name: 'disk',
    letter: 'D',
    kind: 'list',
    value: 'FILE',
    group: 'guest',
    help: 'disk image, writable, as virtio-blk; repeatable',
    more: 'One a line. The guest writes to the image itself.',
  },
  {
    name: 'append',
    letter: 'a',
    kind: 'list',
    value: 'ARG',
    project: true,
    group: 'guest',
    help: 'kernel argument; repeatable',
    more: 'One or several a line.',
  },
  {
    name: 'opts',
    letter: 'o',
    kind: 'value',
    value: 'OPTS',
    group: 'guest',
    help: 'further options for virtme-run, quoted as in a shell',
  },
  {
    name: 'root',
    kind: 'value',
    value: 'DIR',
    default: '/',
    group: 'guest',
    help: 'root file system of the guest',
    more: 'The guest sees a copy-on-write snapshot: nothing it writes reaches the directory.',
  },
  {
    name: 'accel',
    kind: 'value',
    value: 'KIND',
    default: 'auto',
    group: 'guest',
    choices: ['auto', 'kvm', 'tcg'],
    help: 'auto, kvm, tcg',
    more: '`auto` is KVM once it has proved itself on this machine, else emulation with a warning.',
  },
  {
    name: 'boot-timeout',
    kind: 'value',
    value: 'TIME',
    default: '2m',
    project: true,
    group: 'run',
    help: 'until the commands start (90, 90s, 5m, 1h, off)',
  },
  {
    name: 'run-timeout',
    kind: 'value',
    value: 'TIME',
    default: '30m',
    project: true,
    group: 'run',
    help: 'until they have ended; no limit for a shell',
  },
  {
    name: 'idle-timeout',
    kind: 'value',
    value: 'TIME',
    default: 'off',
    project: true,
    group: 'run',
    help: 'longest silence of commands and console',
  },
  {
    name: 'fail-on',
    kind: 'list',
    value: 'WHAT',
    group: 'report',
    help: 'findings that fail a run: all, none, a type; repeatable',
    more: 'One or several a line: `all` (default), `none`, types as `KASAN-*`, `title:PATTERN`, `fingerprint:HEX`. A dead or stuck kernel always fails.',
  },
  {
    name: 'ignore',
    kind: 'value',
    value: 'FILE',
    group: 'report',
    help: 'YAML file of known findings, each with an end date',
    more: 'A list of rules with `type`, `title`, `fingerprint` or `between`, and `reason` and `expires`.',
  },
  {
    name: 'vmcore',
    kind: 'value',
    value: 'WHEN',
    default: 'on-failure',
    group: 'report',
    choices: ['on-failure', 'always', 'never'],
    help: 'on-failure (panic, hang), always (splat too), never',
    more: "The guest's memory, kdump-compressed, beside its vmlinux. `always` takes it at the first report of a kernel that lives on, too.",
  },
  {
    name: 'vmcore-max-size',
    kind: 'value',
    value: 'SIZE',
    default: '2G',
    group: 'report',
    help: 'largest vmcore to keep',
  },
  {
    name: 'run-directory',
    kind: 'value',
    value: 'DIR',
    group: 'report',
    help: 'where results go (default: a new one in the cache)',
    more: 'Default: a new directory, printed at the start and in the output `run-directory`. It must be empty or new.',
  },
  {
    name: 'artifact-name',
    kind: 'value',
    only: 'action',
    group: 'report',
    default: 'kernelcraft',
    help: 'name of the artifact with console log and result',
    more: 'Job, matrix index and attempt are appended to keep it unique.',
  },
  {
    name: 'retention-days',
    kind: 'value',
    only: 'action',
    group: 'report',
    help: 'days until the artifact expires',
    more: 'Default: as the repository has it.',
  },
  {
    name: 'vmcore-retention-days',
    kind: 'value',
    only: 'action',
    group: 'report',
    help: 'days until the artifact with vmcore and vmlinux expires',
    more: 'Default: like `retention-days`. It is large, and an artifact of its own.',
  },
  {
    name: 'summary',
    kind: 'value',
    only: 'action',
    group: 'report',
    default: 'auto',
    help: 'auto, full, compact',
    more: '`compact`, for matrices, folds all but the verdict and what went wrong; `auto` does that for a run that passed.',
  },
]

export type OptionName = (typeof OPTIONS)[number]['name']

/** Values as they were typed, by option name; lists as arrays. What was not given is absent. */
export type RawOptions = Readonly<Record<string, string | readonly string[] | undefined>>

/** kc's long flag of an option, without the dashes. */
export function flagOf(option: Option): string {
  return option.flag ?? option.name
}

/** The options of one face. */
export function optionsOf(face: 'action' | 'kc'): Option[] {
  return OPTIONS.filter(option => option.only === undefined || option.only === face)
}

/** What the action tells the steps after it. */
export const OUTPUTS = {
  verdict:
    'passed, test-failed, splat, panic, hang, boot-failed, build-failed, config-failed, source-failed, infra-error or cancelled',
  title: "The finding's title as syzbot has it, or one sentence that explains the verdict.",
  fingerprint: 'Of the finding that decided, the same on every boot and build; empty if none did.',
  'exit-code': 'Status of the commands in the guest; empty if it was never known.',
  sha: 'Full id of the commit that was tested.',
  'kernel-release': 'What `uname -r` says of the kernel.',
  'run-directory': 'Directory with everything that the run learned.',
  'console-log': 'Path of the console log.',
  vmcore: 'Path of the vmcore; empty if none was taken.',
  junit: 'Path of the JUnit file; empty if the guest printed no KTAP.',
  'kernel-cache-hit': 'true if the kernel came out of the cache, false if it was built; empty if neither.',
  'ccache-hit-rate':
    "Percent of the compiler's calls that ccache answered; empty where nothing was compiled.",
  result: 'Path of result.json, see schema/result.schema.json.',
  'artifact-id': 'Id of the uploaded artifact.',
  'artifact-url': 'Where a browser finds it.',
  'artifact-digest': 'Its SHA-256.',
  'vmcore-artifact-id': 'Id of the artifact with vmcore and vmlinux; empty if there is no vmcore.',
  'vmcore-artifact-url': 'Where a browser finds it.',
  'vmcore-artifact-digest': 'Its SHA-256.',
} as const
