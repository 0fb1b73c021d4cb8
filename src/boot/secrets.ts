import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'

/** Below a home directory: keys, tokens, sessions. */
const IN_HOME = [
  '.ssh',
  '.gnupg',
  '.docker',
  '.netrc',
  '.git-credentials',
  '.config/git/credentials',
  '.config/gh',
  '.config/hub',
  '.aws',
  '.azure',
  '.config/gcloud',
  '.oci',
  '.kube',
  '.config/doctl',
  '.terraform.d',
  '.terraformrc',
  '.vault-token',
  '.npmrc',
  '.yarnrc.yml',
  '.pypirc',
  '.config/pip',
  '.pip',
  '.cargo/credentials',
  '.cargo/credentials.toml',
  '.gem/credentials',
  '.m2/settings.xml',
  '.gradle/gradle.properties',
  '.config/rclone',
  '.password-store',
  '.local/share/keyrings',
  '.mozilla',
  '.config/chromium',
  '.config/google-chrome',
  '.bash_history',
  '.zsh_history',
]

/** Absolute paths. ssh's host keys are added from a listing of their directory. */
const ON_MACHINE = [
  '/var/lib/docker',
  '/var/lib/containerd',
  '/var/lib/kubelet',
  '/etc/kubernetes',
  '/etc/rancher',
  '/etc/docker/key.json',
  '/var/lib/cloud',
  '/etc/sudoers.d',
  '/etc/ssl/private',
  '/etc/NetworkManager/system-connections',
  '/etc/wireguard',
  '/var/lib/systemd/credential.secret',
  '/etc/credstore',
  '/etc/credstore.encrypted',
  '/etc/krb5.keytab',
]

/** In the directory of a self-hosted runner. */
const IN_RUNNER = ['.credentials', '.credentials_rsaparams', '.runner', '.env', '.path', '.service', '_diag']

export interface SecretSearch {
  env: NodeJS.ProcessEnv
  /** the checkout under test; actions/checkout leaves its token in .git/config */
  checkout: string
}

/** Home directories of all users, root's included. */
function homes(): string[] {
  const listed = readdirSafely('/home').map(name => join('/home', name))
  return [...new Set([homedir(), '/root', ...listed])]
}

function readdirSafely(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

/** The runner's own directory: above RUNNER_TEMP and GITHUB_WORKSPACE, recognized by its credential file. */
function runnerDirectories(env: NodeJS.ProcessEnv): string[] {
  const found: string[] = []
  for (const start of [env.RUNNER_TEMP, env.GITHUB_WORKSPACE]) {
    for (let dir = start && resolve(start); dir && dir !== dirname(dir); dir = dirname(dir)) {
      if (existsSync(join(dir, '.credentials')) && existsSync(join(dir, '.runner'))) found.push(dir)
    }
  }
  return [...new Set(found)]
}

/** The config files of the checkout's repository, also where .git is a file (git-worktree, submodules). */
function gitConfigs(checkout: string): string[] {
  const dotGit = join(checkout, '.git')
  try {
    if (statSync(dotGit).isDirectory()) return [join(dotGit, 'config')]
    const gitDir = /^gitdir: (.*)$/m.exec(readFileSync(dotGit, 'utf8'))?.[1]
    if (!gitDir) return []
    const path = resolve(checkout, gitDir)
    return [join(path, 'config'), join(path, '..', '..', 'config')]
  } catch {
    return []
  }
}

/**
 * Files and directories of the host that the guest must not read: absolute paths that exist, with symbolic links resolved.
 * /proc, /sys, /dev and /run of the host are not part of the snapshot and need no mask.
 */
export function secretPaths(search: SecretSearch): string[] {
  const { env, checkout } = search
  const candidates = [
    ...homes().flatMap(home => IN_HOME.map(name => join(home, name))),
    ...ON_MACHINE,
    ...readdirSafely('/etc/ssh')
      .filter(name => /^ssh_host_.*_key$/.test(name))
      .map(name => join('/etc/ssh', name)),
    ...runnerDirectories(env).flatMap(dir => IN_RUNNER.map(name => join(dir, name))),
    ...(env.RUNNER_TEMP ? [resolve(env.RUNNER_TEMP)] : []),
    ...gitConfigs(checkout),
    ...(env.GITHUB_WORKSPACE ? gitConfigs(env.GITHUB_WORKSPACE) : []),
    ...[
      'GOOGLE_APPLICATION_CREDENTIALS',
      'AWS_SHARED_CREDENTIALS_FILE',
      'KUBECONFIG',
      'DOCKER_CONFIG',
      'NETRC',
      'GNUPGHOME',
    ]
      .flatMap(name => env[name]?.split(':') ?? [])
      .filter(path => path.startsWith('/')),
  ]
  const real = candidates.flatMap(path => {
    try {
      // the target of a link is in the snapshot too
      return [realpathSync(path)]
    } catch {
      return []
    }
  })
  return [...new Set(real)].filter(path => path !== '/')
}

/** /etc/shadow with every password hash replaced by `*`: PAM still finds the users, and the guest gets no hash. */
export function withoutHashes(shadow: string): string {
  return shadow.replace(/^([^:\n]+):[^:\n]+:/gm, '$1:*:')
}
