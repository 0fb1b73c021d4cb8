/**
 * The one table of options: inputs of the action and flags of kc have the same names. action.yml, the tables of
 * README.md, `kc --help`, completion, the manual page and the parser are derived from it. scripts/docs.mjs loads this file
 * by itself, so it imports nothing.
 */
export interface Option {
  /** the action's input and, with two dashes, kc's flag */
  name: string
  /** kc's flag where its name differs */
  flag?: string
  /** kc's short flag */
  letter?: string
  /** `value`: one; `list`: a flag that may be repeated, or lines of an input; `switch`: true or false */
  kind: 'value' | 'list' | 'switch'
  /** placeholder of the value in --help */
  value?: string
  /** as the user would type it */
  default?: string
  /** the values that it takes, where it takes no others */
  choices?: readonly string[]
  /** values with a meaning of their own, where it takes a path as well */
  keywords?: readonly string[]
  /** one line for --help */
  help: string
  /** further sentences for action.yml, README.md and the manual page */
  more?: string
  /** the one interface that has it; both by default */
  only?: 'action' | 'kc'
  /** a checkout's .kernelcraft.json may set a default: see project-file.ts for the criterion */
  project?: true
  group: 'source' | 'config' | 'build' | 'guest' | 'run' | 'report'
}

/** The values of `config-base` that are not a file. */
export const CONFIG_BASES = ['minimal', 'tiny', 'virtme', 'defconfig', 'current'] as const

const TABLE = [
  {
    name: 'release',
    letter: 'r',
    kind: 'value',
    value: 'TREE',
    group: 'source',
    help: 'tree by name (mainline, next, stable, distro, ...) or URL',
    more: 'Default: the checkout at `path`. `distro` is the kernel source package of the running distribution; Ubuntu series and the trees that `~/.kernelcraft.conf` and `.kernelcraft.json` define can be named too.',
  },
  {
    name: 'ref',
    flag: 'commit',
    letter: 'c',
    kind: 'value',
    value: 'REF',
    group: 'source',
    help: 'tag, branch, SHA, HEAD~2, refs/... (default: HEAD)',
    more: 'Default: the branch of the tree, or HEAD of the checkout with its uncommitted changes. A commit that the checkout does not have is fetched from its `origin`.',
  },
  {
    name: 'path',
    flag: 'directory',
    letter: 'C',
    kind: 'value',
    value: 'DIR',
    default: '.',
    group: 'source',
    help: 'kernel checkout (default: the current directory)',
    more: 'Relative to the workspace. The checkout is only read: KernelCraft builds in a work tree of its own.',
  },
  {
    name: 'force',
    kind: 'switch',
    default: 'false',
    only: 'kc',
    group: 'source',
    help: 'ignore uncommitted changes; with -i and -x, discard them',
    more: 'What is discarded is listed first.',
  },
  {
    name: 'run',
    flag: 'exec',
    letter: 'e',
    kind: 'value',
    value: 'SCRIPT',
    group: 'run',
    help: 'commands to run in the guest; also as `-- COMMAND ...`',
    more: 'A script of any length, run by `bash -e` (or what its `#!` line names) as root in the guest.',
  },
  {
    name: 'env',
    kind: 'list',
    value: 'NAME[=V]',
    group: 'run',
    help: 'environment variable for the commands; repeatable',
    more: 'One per line. `NAME` alone takes its value from the environment of the step. No other variable reaches the guest.',
  },
  {
    name: 'arch',
    kind: 'value',
    value: 'ARCH',
    group: 'config',
    choices: ['x86_64', 'arm64', 'riscv64', 's390x', 'ppc64el'],
    help: 'x86_64, arm64, riscv64, s390x or ppc64el',
    more: "Default: this machine's. Any other is cross-compiled, emulated, and needs a `root` of that architecture.",
  },
  {
    name: 'config-base',
    kind: 'value',
    value: 'BASE',
    default: 'minimal',
    project: true,
    group: 'config',
    keywords: CONFIG_BASES,
    help: 'minimal, tiny, virtme, defconfig, current, or a file',
    more: '`minimal` is the least that boots here and runs a modern userspace. `tiny` is the least that boots over a root and reports how it died: no network beyond what 9p needs, no BPF, no containers. `virtme` is `virtme-configkernel`, `current` the .config of the checkout.',
  },
  {
    name: 'config',
    letter: 'f',
    kind: 'list',
    value: 'FILE',
    project: true,
    group: 'config',
    help: 'config fragment; later ones override earlier ones; repeatable',
    more: 'One per line; a file, or the name of a bundled fragment: `test` (LKDTM, KUnit), `kasan`, `lockdep`, `ubsan`, `kvm-host`, `disk` (ext4), `network` (bridge, tun), `numa`.',
  },
  {
    name: 'config-items',
    flag: 'configitem',
    kind: 'list',
    value: 'CONFIG_X=y',
    project: true,
    group: 'config',
    help: 'single config option; repeatable',
    more: 'One per line, applied after all fragments. An option that does not survive Kconfig fails the run with the reason.',
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
    help: 'size limit of the ccache directory',
  },
  {
    name: 'ccache-remote',
    kind: 'value',
    value: 'URL',
    group: 'build',
    help: 'remote storage of ccache (http://, redis://)',
    more: 'Shared by several machines. The build sees the URL, so a password in it is only as secret as the code that is built.',
  },
  {
    name: 'kernel-cache',
    kind: 'value',
    value: 'BOOL',
    default: 'true',
    group: 'build',
    choices: ['true', 'false'],
    help: 'boot a cached kernel instead of building it again',
    more: 'A kernel is identified by all that determines it: source, resolved configuration, tools, suffix. `false` always builds.',
  },
  {
    name: 'kernel-cache-max-size',
    kind: 'value',
    value: 'SIZE',
    default: '4G',
    group: 'build',
    help: "size limit of this machine's kernel cache",
    more: 'The least recently used kernels are removed first.',
  },
  {
    name: 'build-host',
    kind: 'value',
    value: 'USER@HOST',
    group: 'build',
    help: 'build on that machine over ssh, in its ~/.kernelcraft',
    more: 'The commit is pushed to it and built with its cores, compilers and ccache; only what the test needs is fetched. Also `ssh://user@host:port`.',
  },
  {
    name: 'build-host-exec-prefix',
    kind: 'value',
    value: 'PREFIX',
    group: 'build',
    help: 'prefix of commands on the build host: schroot -c sid --',
    more: 'Quoted as in a shell; `$NAME` is a variable of that machine, as in `PATH=/opt/gcc/bin:$PATH`.',
  },
  {
    name: 'build-host-vmlinux',
    kind: 'switch',
    default: 'false',
    group: 'build',
    help: 'always fetch vmlinux, not only when it is needed',
  },
  {
    name: 'build-host-key',
    kind: 'value',
    only: 'action',
    group: 'build',
    help: 'private key for the build host, from a secret',
    more: 'Kept in the memory of an ssh-agent that ends with the job, never in a file.',
  },
  {
    name: 'build-host-known-hosts',
    kind: 'list',
    value: 'LINE',
    group: 'build',
    help: "host key, as in known_hosts (default: the user's file)",
    more: 'Lines of known_hosts(5), as `ssh-keyscan` prints them.',
  },
  {
    name: 'skip-build',
    letter: 's',
    kind: 'switch',
    default: 'false',
    group: 'build',
    help: 'do not build: test the last kernel built from this source',
  },
  {
    name: 'skip-modules',
    letter: 'S',
    kind: 'switch',
    default: 'false',
    project: true,
    group: 'build',
    help: 'build the kernel image only, no modules',
  },
  {
    name: 'modules',
    letter: 'M',
    kind: 'list',
    value: 'DIR',
    group: 'build',
    help: 'external module to build against the kernel and load; repeatable',
    more: 'One directory per line: plain Kbuild, or with a dkms.conf. The modules are loaded in this order before the commands and removed after them; later ones may use symbols of earlier ones.',
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
    more: "`user` is QEMU's user-mode network, with access to the outside; `bridge` connects the guest to a bridge of this machine (virbr0), where it uses DHCP; `loop` is two devices connected to each other.",
  },
  {
    name: 'disk',
    letter: 'D',
    kind: 'list',
    value: 'FILE',
    group: 'guest',
    help: 'disk image, writable, as virtio-blk; repeatable',
    more: 'One per line. The guest writes to the image itself.',
  },
  {
    name: 'append',
    letter: 'a',
    kind: 'list',
    value: 'ARG',
    project: true,
    group: 'guest',
    help: 'kernel command-line argument; repeatable',
    more: 'One or more per line.',
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
    name: 'qemu-opts',
    kind: 'value',
    value: 'OPTS',
    group: 'guest',
    help: 'further options for QEMU, quoted as in a shell',
  },
  {
    name: 'numa',
    kind: 'list',
    value: 'NODE',
    group: 'guest',
    help: 'NUMA node, as SIZE[,cpus=LIST]; repeatable',
    more: 'One per line, such as `512M,cpus=0-1`. The sizes add up to `memory`, and the kernel needs CONFIG_NUMA.',
  },
  {
    name: 'rwdir',
    kind: 'list',
    value: 'HOST[=GUEST]',
    group: 'guest',
    help: 'directory that the guest may write to; repeatable',
    more: 'One per line; it has the same path in the guest unless another is named. What the guest writes is visible on the host at once. In a workflow it has to be in the workspace or in `RUNNER_TEMP`.',
  },
  {
    name: 'rodir',
    kind: 'list',
    value: 'HOST[=GUEST]',
    group: 'guest',
    help: 'directory that the guest may read; repeatable',
    more: 'One per line. Directories below the root are visible anyway; this is for another path in the guest, or another `root`.',
  },
  {
    name: 'cwd',
    kind: 'value',
    value: 'DIR',
    group: 'run',
    help: 'working directory of the commands (default: that of kc)',
    more: 'Default: the workspace, or `/` where the guest does not have it.',
  },
  {
    name: 'user',
    kind: 'value',
    value: 'NAME',
    group: 'run',
    help: 'user of the commands (default: root; your own for a shell)',
    more: "A user of the guest's root. Default: root.",
  },
  {
    name: 'root',
    kind: 'value',
    value: 'DIR',
    default: '/',
    group: 'guest',
    help: 'root file system of the guest',
    more: 'The guest sees a copy-on-write snapshot: nothing that it writes reaches the directory.',
  },
  {
    name: 'accel',
    kind: 'value',
    value: 'KIND',
    default: 'auto',
    group: 'guest',
    choices: ['auto', 'kvm', 'tcg'],
    help: 'auto, kvm, tcg',
    more: '`auto` is KVM where it boots a kernel on this machine, else emulation (TCG) with a warning.',
  },
  {
    name: 'boot-timeout',
    kind: 'value',
    value: 'TIME',
    default: '2m',
    project: true,
    group: 'run',
    help: 'time limit until the commands start (90, 90s, 5m, 1h, off)',
  },
  {
    name: 'run-timeout',
    kind: 'value',
    value: 'TIME',
    default: '30m',
    project: true,
    group: 'run',
    help: 'time limit for the commands; none for a shell',
  },
  {
    name: 'idle-timeout',
    kind: 'value',
    value: 'TIME',
    default: 'off',
    project: true,
    group: 'run',
    help: 'time limit without output of commands and console',
  },
  {
    name: 'fail-on',
    kind: 'list',
    value: 'WHAT',
    group: 'report',
    help: 'findings that fail a run: all, none, a type; repeatable',
    more: 'One or more per line: `all` (default), `none`, types such as `KASAN-*`, `title:PATTERN`, `fingerprint:HEX`. A crashed or hung kernel always fails the run.',
  },
  {
    name: 'ignore',
    kind: 'value',
    value: 'FILE',
    group: 'report',
    help: 'YAML file of known findings, each with an expiry date',
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
    more: "The guest's memory, kdump-compressed, beside its vmlinux. `always` also takes it at the first report of a kernel that keeps running.",
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
    help: 'directory for results (default: a new one in the cache)',
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
    more: 'Default: the setting of the repository.',
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
    choices: ['auto', 'full', 'compact'],
    help: 'auto, full, compact',
    more: '`compact`, for matrices, folds all but the verdict and the failure; `auto` does so for a run that passed.',
  },
] as const satisfies readonly Option[]

export const OPTIONS: readonly Option[] = TABLE

export type OptionName = (typeof TABLE)[number]['name']

/** An entry of the table that lists its values. */
type ChoiceOption = Extract<(typeof TABLE)[number], { choices: readonly string[] }>

/** An option that takes only the values that the table lists. */
export type ChoiceName = ChoiceOption['name']

/** The values of such an option. */
export type Choice<N extends ChoiceName> = Extract<ChoiceOption, { name: N }>['choices'][number]

/** The values of such an option, in the order of the table. */
export function choicesOf<N extends ChoiceName>(name: N): readonly Choice<N>[] {
  return (OPTIONS.find(option => option.name === name)?.choices ?? []) as readonly Choice<N>[]
}

/** Values of options as text, by option name; lists as arrays. An option that was not set is absent. */
export type RawOptions = Readonly<Record<string, string | readonly string[] | undefined>>

/** kc's long flag of an option, without the dashes. */
export function flagOf(option: Option): string {
  return option.flag ?? option.name
}

/** The options of the action, or of kc. */
export function optionsOf(user: 'action' | 'kc'): Option[] {
  return OPTIONS.filter(option => option.only === undefined || option.only === user)
}

/** Outputs of the action, with their descriptions. */
export const OUTPUTS = {
  verdict:
    'passed, test-failed, splat, panic, hang, boot-failed, build-failed, config-failed, source-failed, infra-error or cancelled',
  title: "The finding's title in syzbot's format, or one sentence that explains the verdict.",
  fingerprint:
    'Fingerprint of the finding that decided the verdict, the same on every boot and build; empty if none did.',
  'exit-code': 'Exit status of the commands in the guest; empty if it is not known.',
  sha: 'Full id of the commit that was tested.',
  'kernel-release': 'What `uname -r` prints in the guest.',
  'run-directory': 'Directory with all results of the run.',
  'console-log': 'Path of the console log.',
  vmcore: 'Path of the vmcore; empty if none was taken.',
  junit: 'Path of the JUnit file; empty if the guest printed no KTAP.',
  'kernel-cache-hit': 'true if the kernel came from the cache, false if it was built; empty if neither.',
  'ccache-hit-rate': 'Percentage of compiler calls that were ccache hits; empty if nothing was compiled.',
  result: 'Path of result.json; its schema is schema/result.schema.json.',
  'artifact-id': 'Id of the uploaded artifact.',
  'artifact-url': 'URL of the artifact.',
  'artifact-digest': 'SHA-256 of the artifact.',
  'vmcore-artifact-id': 'Id of the artifact with vmcore and vmlinux; empty if there is no vmcore.',
  'vmcore-artifact-url': 'URL of the artifact with vmcore and vmlinux.',
  'vmcore-artifact-digest': 'SHA-256 of the artifact with vmcore and vmlinux.',
} as const
