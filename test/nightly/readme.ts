import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { makeBridge } from '../bridge.js'
import { DISTRO_REPOSITORY, KC, ROOT, scratch } from '../cache.js'
import { addKernel, KERNELS, kernelFor, kernelWords } from '../kernels.js'
import { rootFor } from '../roots.js'
import { freePort, startAgent, startBuildServer } from '../sshd.js'

/**
 * KernelCraft's README as a walk: what it showed, in its order, typed and seen. kernel.org is a git daemon on this machine
 * that has trees of the same names; each of their tags is the distribution's 6.12, which the tests have built.
 */

interface Step {
  title: string
  text: string
  /** lines of shell; `$ ` stands before each in the document */
  type: string
  /** something that runs meanwhile */
  meanwhile?: string
}

/** The arm64 kernel that the tests have built, with its root by its name in the home. */
const ARM64_WORDS = kernelWords('arm64')
  .map(word => (word === rootFor.path('arm64') ? 'arm64' : word))
  .join(' ')

const steps = (host: string): Step[] => [
  {
    title: 'A tag of a named tree',
    text: '`-r` adds the tree as a remote of the checkout in the current directory, and `-c` names the ref to test. The suffix `-rc` distinguishes such a kernel from an installed one.',
    type: 'kc -r mainline -c v6.1-rc3 -- uname -r\ngit remote -v',
  },
  {
    title: 'A commit of the checkout',
    text: '`-c` accepts any ref that git can resolve.',
    type: 'kc --commit HEAD~1 -- uname -r',
  },
  {
    title: 'HEAD of the checkout',
    text: 'Without `-c`, HEAD is tested with its uncommitted changes. On a terminal and without a command, `kc` opens a shell in the guest.',
    type: 'kc -- uname -r',
  },
  {
    title: 'The kernel that was built last',
    text: '`-s` skips the build.',
    type: 'kc -s -- uname -r',
  },
  {
    title: 'Pipes',
    text: "`kc` prints only the guest's stdout on its own stdout.",
    type: "kc -s -e 'uname -r' 2> log | tr a-z A-Z",
  },
  {
    title: 'Known trees',
    text: 'The known trees are in `~/.kernelcraft.conf`. For an unknown name, the error message lists the known ones.',
    type: 'cat ~/.kernelcraft.conf\nkc -r unknown -- uname -r',
  },
  {
    title: 'A memory dump of a running guest',
    text: 'If one guest is running, `kc -d` dumps it and opens a debugger. `--dump-file` saves the dump instead. The guest continues to run.',
    meanwhile: "kc -s -e 'echo it runs; sleep 25; echo it ran on'",
    type: 'kc -d --dump-file vmcore.img',
  },
  {
    title: 'A build host',
    text: 'The commit is pushed to `~/.kernelcraft` on the build host and built with its cores. A prefix runs the build in a chroot, or with another `PATH`.',
    type: `kc --kernel-cache false --build-host ${host} --build-host-known-hosts "$HOST_KEY" --build-host-exec-prefix 'PATH=/opt/gcc/bin:$PATH' -- uname -r`,
  },
  {
    title: 'Options of virtme-run',
    text: '`-o` passes options to virtme-run. In this example the machine has a bridge virbr0 with a DHCP server, and a line `allow virbr0` in /etc/qemu/bridge.conf.',
    type: "kc -s -o '--net bridge' -e 'ip -4 -o addr show eth0 | grep -o inet.*/24'",
  },
  {
    title: 'Another architecture',
    text: 'The kernel is cross-compiled, and the guest is emulated with a root of that architecture. `kc root create --arch arm64 DIR` creates one.',
    type: `cd ..; kc ${ARM64_WORDS} -e 'uname -m'`,
  },
  {
    title: 'Out-of-tree modules',
    text: 'The modules are built against the kernel under test, loaded before the commands, and removed after them.',
    type: 'kc -s -M ../package -e \'cut -d" " -f1 /proc/modules\'',
  },
  {
    title: 'Cleaning up',
    text: '`-x` removes what `kc` keeps for the checkout. The checkout itself is not changed, unless `--force` is used.',
    type: 'kc -x',
  },
]

/** What differs from machine to machine, or from day to day. */
const VOLATILE: readonly (readonly [RegExp, string])[] = [
  // progress, and what a machine is short of
  [/^ {4}(?:\d+ % \(\d+ of about \d+\)|\d+ done,) .*\n/gm, ''],
  [/\(\d+ min \d+ s\)|\(\d+(?:\.\d+)? s\)/g, '(... s)'],
  [/\d+(?:\.\d+)? s; the guest/g, '... s; the guest'],
  [/: \d+ MiB in/g, ': ... MiB in'],
  [/\d+ options on/g, '... options on'],
  [/\d+ steps(?:, ccache answered \d+ of \d+ calls)?/g, '... steps'],
  [/6\.12\.\d+(?:-[\w.~+]+?)?(?=["', -]|\n|:|$)/gm, '6.12.N'],
  [/\b[0-9a-f]{64}\b/g, '(key)'],
  [/\b[0-9a-f]{40}\b/g, '(sha)'],
  [/\b[0-9a-f]{12}\b/g, '(sha)'],
  [/results: .*/g, 'results: ~/.cache/kernelcraft/runs/...'],
  [/127\.0\.0\.1:\d+/g, 'builder'],
  [/inet 10\.\d+\.\d+\.\d+/g, 'inet (address)'],
]

function tidy(text: string, home: string, cache: string): string {
  let tidied = text.replaceAll(home, '~').replaceAll(cache, '~/.cache/kernelcraft')
  for (const [pattern, instead] of VOLATILE) tidied = tidied.replace(pattern, instead)
  return tidied.trimEnd()
}

/** Types all of it, and returns the document. */
export async function walk(): Promise<string> {
  const home = scratch('readme')
  // both kernels in one cache directory, as on a user's machine
  const cache = await kernelFor('tiny')
  await addKernel('arm64', cache)
  const server = await startBuildServer()
  const port = await freePort()
  const daemon = serveTrees(join(home, 'kernel.org'), port)
  const bin = join(home, 'bin')
  mkdirSync(bin)
  // KVM is on no machine's list of what is the same everywhere
  writeFileSync(join(bin, 'kc'), `#!/bin/sh\nexec ${process.execPath} ${KC} --accel tcg "$@"\n`)
  chmodSync(join(bin, 'kc'), 0o755)
  // compilers that are looked for in a home directory are part of what a kernel is known by
  for (const name of ['.rustup', '.cargo'])
    if (existsSync(join(homedir(), name))) symlinkSync(join(homedir(), name), join(home, name))
  const linux = makeCheckout(home, `git://127.0.0.1:${port}`)
  const bridge = makeBridge('virbr0', 78)
  bridge.rules('allow virbr0\n')
  const addresses = bridge.serveAddresses()
  const agent = startAgent(server.keyFile)
  const env = {
    ...{
      PATH: `${bin}:${process.env.PATH}`,
      HOME: home,
      KERNELCRAFT_CACHE: cache,
      LANG: process.env.LANG ?? 'C',
    },
    ...agent.env,
    HOST_KEY: server.knownHost,
  }
  const type = (line: string) => {
    const end = spawnSync('sh', ['-c', `exec 2>&1\n${line}`], {
      cwd: linux,
      env,
      encoding: 'utf8',
      timeout: 900_000,
    })
    return end.stdout + (end.status === 0 ? '' : `(status ${end.status})\n`)
  }
  try {
    const parts: string[] = []
    for (const { title, text, type: lines, meanwhile } of steps(server.destination)) {
      const seen: string[] = []
      const other = meanwhile === undefined ? undefined : await startGuest(meanwhile, linux, env)
      if (meanwhile) seen.push(`$ ${meanwhile} &`)
      for (const line of lines.split('\n')) seen.push(`$ ${line}`, type(line).trimEnd())
      if (other) seen.push('$ wait', await other.end())
      parts.push(
        `## ${title}\n\n${text}\n\n\`\`\`console\n${tidy(seen.filter(Boolean).join('\n'), home, cache)}\n\`\`\``,
      )
    }
    return `${HEAD}\n${parts.join('\n\n')}\n`
  } finally {
    agent.close()
    daemon.kill('SIGKILL')
    addresses.stop()
    bridge.close()
    server.close()
  }
}

const HEAD = `# The examples of the original KernelCraft's README

This file is generated by \`npx vitest run test/e2e/readme.test.ts -u\`, which runs each command and records its output.
kernel.org is replaced by a git server on the test machine with trees of the same names, in which every tag is the
distribution's 6.12. Guests are emulated. Times, sizes, versions and ids are replaced, so that the test can compare.
`

/** Trees of kernel.org's names, over git's own protocol. */
function serveTrees(place: string, port: number): ChildProcess {
  const source = DISTRO_REPOSITORY
  const mainline = join(place, 'mainline')
  execFileSync('git', ['init', '--quiet', '--bare', '--initial-branch=master', mainline])
  mkdirSync(join(mainline, 'objects', 'info'), { recursive: true })
  writeFileSync(join(mainline, 'objects', 'info', 'alternates'), `${join(source, 'objects')}\n`)
  const git = (...args: string[]) =>
    execFileSync(
      'git',
      ['--git-dir', mainline, '-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args],
      {
        encoding: 'utf8',
        env: {
          ...process.env,
          GIT_AUTHOR_DATE: '2022-10-30T12:00:00Z',
          GIT_COMMITTER_DATE: '2022-10-30T12:00:00Z',
        },
      },
    ).trim()
  const tree = execFileSync('git', ['--git-dir', source, 'rev-parse', '6.12^{tree}'], {
    encoding: 'utf8',
  }).trim()
  const first = git('commit-tree', '-m', 'Linux 6.1-rc3', tree)
  const second = git('commit-tree', '-m', 'A change', '-p', first, tree)
  git('update-ref', 'refs/tags/v6.1-rc3', first)
  git('update-ref', 'refs/heads/master', second)
  return spawn(
    'git',
    [
      'daemon',
      '--export-all',
      `--base-path=${place}`,
      '--listen=127.0.0.1',
      `--port=${port}`,
      '--reuseaddr',
      place,
    ],
    { stdio: 'ignore' },
  )
}

/** A user's home: a checkout of mainline with the project's defaults, and a module and an arm64 root beside it. */
function makeCheckout(home: string, server: string): string {
  const linux = join(home, 'linux')
  const mainline = join(home, 'kernel.org', 'mainline')
  execFileSync('git', ['clone', '--quiet', '--shared', '--no-checkout', mainline, linux])
  execFileSync('git', ['-C', linux, 'sparse-checkout', 'set', '--no-cone', '/Makefile'])
  execFileSync('git', ['-C', linux, 'checkout', '--quiet', 'master'])
  writeFileSync(
    join(linux, '.kernelcraft.json'),
    JSON.stringify({
      defaults: {
        'config-base': KERNELS.tiny['config-base'],
        'debug-info': KERNELS.tiny['debug-info'],
        config: KERNELS.tiny.config,
        'config-items': KERNELS.tiny['config-items'],
      },
    }),
  )
  writeFileSync(join(linux, '.git', 'info', 'exclude'), '.kernelcraft.json\nlog\nvmcore.img\n')
  writeFileSync(
    join(home, '.kernelcraft.conf'),
    `${JSON.stringify({ mainline: { repo: `${server}/mainline`, branch: 'master' } }, null, 2)}\n`,
  )
  const modules = join(ROOT, 'test', 'fixtures', 'modules')
  cpSync(join(modules, 'package'), join(home, 'package'), { recursive: true })
  symlinkSync(rootFor.path('arm64'), join(home, 'arm64'))
  return linux
}

/** A guest that runs while something else is typed. */
async function startGuest(
  line: string,
  cwd: string,
  env: NodeJS.ProcessEnv,
): Promise<{ end(): Promise<string> }> {
  const child = spawn('sh', ['-c', `exec 2>/dev/null\n${line}`], {
    cwd,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  const ended = new Promise<string>(resolve => child.on('close', () => resolve(said)))
  child.stdout?.on('data', chunk => {
    said += chunk
  })
  while (!said.includes('it runs')) await pause(100)
  return { end: () => ended }
}
