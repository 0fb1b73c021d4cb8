import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { guest, KERNEL, kc } from '../kc.js'

/** Builds the kernel that the e2e tests boot, once. */
export default async function setup(): Promise<void> {
  const ready = await kc(['doctor', '--install'])
  if (ready.status !== 0) throw new Error(`kc doctor --install: ${ready.stdout}${ready.stderr}`)
  // both sources that the tests configure; the newest alone is what doctor installs
  const sources = ['6.12', '6.1'].filter(series => !existsSync(`/usr/src/linux-source-${series}.tar.xz`))
  if (sources.length > 0) {
    execFileSync(
      'apt-get',
      ['install', '-y', '--no-install-recommends', ...sources.map(series => `linux-source-${series}`)],
      {
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
        stdio: 'inherit',
      },
    )
  }
  const built = await kc([...KERNEL, '--accel', 'tcg', '-e', 'true'])
  if (built.status !== 0) throw new Error(`the e2e kernel: ${built.stderr}`)
  const again = await guest(['-e', 'uname -r'])
  if (!/^6\.12\.\d+-rc\n$/.test(again.stdout.toString()))
    throw new Error(`unexpected kernel: ${again.stdout}`)
}
