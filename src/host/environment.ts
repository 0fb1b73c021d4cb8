/**
 * Variables that child processes inherit, and no others: the environment of a job has tokens, and make runs code from
 * pull requests.
 */
const INHERITED = [
  /^(PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|TERM|TZ|TMPDIR)$/,
  /^LC_/,
  /^XDG_(CACHE|CONFIG|DATA)_HOME$/,
  /^(https?|ftp|all|no)_proxy$/i,
  /^SSL_CERT_(FILE|DIR)$/,
  /^KERNELCRAFT_/,
]

/** Further variables for programs that use the network with the user's settings (git, pip, apt). */
const NETWORK = [
  /^SSH_(AUTH_SOCK|AGENT_PID|ASKPASS)$/,
  /^GIT_(SSL_|SSH|ASKPASS|HTTP_|TRACE|CONFIG_)/,
  /^(PIP|CURL|REQUESTS)_/,
]

export type EnvironmentKind = 'plain' | 'network'

/** The variables of `env` that a child inherits, and `extra`. */
export function childEnvironment(
  kind: EnvironmentKind,
  extra: NodeJS.ProcessEnv = {},
  env: NodeJS.ProcessEnv = process.env,
): Record<string, string> {
  const patterns = kind === 'network' ? [...INHERITED, ...NETWORK] : INHERITED
  const kept = Object.entries(env).filter(
    ([name, value]) => value !== undefined && patterns.some(pattern => pattern.test(name)),
  )
  return Object.fromEntries([...kept, ...Object.entries(extra)]) as Record<string, string>
}
