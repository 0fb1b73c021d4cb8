/** Files of a run directory, by what they are. */
export const FILES = {
  result: 'result.json',
  console: 'console.log',
  stdout: 'stdout.log',
  stderr: 'stderr.log',
  build: 'build.log',
  config: 'config',
  virtme: 'virtme.log',
  registers: 'registers.txt',
  vmcore: 'vmcore',
  vmlinux: 'vmlinux',
  crash: 'crash.txt',
  junit: 'junit.xml',
  summary: 'summary.md',
} as const
