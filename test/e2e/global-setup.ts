import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { makeDebianRoot, makeRoot, SMALL_ARCHES, SMALL_CACHE, smallKernel } from '../arches.js'
import {
  ARM64_KERNEL,
  ARM64_ROOT,
  CACHE,
  guest,
  KASAN_CACHE,
  KASAN_KERNEL,
  KERNEL,
  kc,
  OLD_KERNEL,
  shareRooms,
} from '../kc.js'

/** Builds the kernels that the e2e tests boot, once. */
export default async function setup(): Promise<void> {
  // each project of vitest.config.ts asks for it, and nothing has changed since the first did
  if (process.env.KERNELCRAFT_TESTS_READY) return
  for (const words of [[], ...['arm64', ...SMALL_ARCHES].map(arch => ['--arch', arch])]) {
    const ready = await kc(['doctor', '--install', ...words])
    if (ready.status !== 0) throw new Error(`kc doctor --install: ${ready.stdout}${ready.stderr}`)
  }
  // both sources that the tests configure; the newest alone is what doctor installs
  const sources = ['6.12', '6.1'].filter(series => !existsSync(`/usr/src/linux-source-${series}.tar.xz`))
  // what tests talk to: an sshd, shells that complete, a reader of manual pages
  const programs = {
    sshd: 'openssh-server',
    tmux: 'tmux',
    zsh: 'zsh',
    fish: 'fish',
    mandoc: 'mandoc',
    pkill: 'procps',
  }
  const missing = Object.entries(programs).filter(
    ([program]) => !existsSync(`/usr/bin/${program}`) && !existsSync(`/usr/sbin/${program}`),
  )
  const packages = [
    ...sources.map(series => `linux-source-${series}`),
    ...missing.map(([, name]) => name),
    // for kc root without root rights
    ...(existsSync('/usr/bin/newuidmap') ? [] : ['uidmap']),
    // for a busybox of an architecture that this release of Debian does not have
    ...(existsSync('/usr/riscv64-linux-gnu/include/stdio.h') ? [] : ['libc6-dev-riscv64-cross']),
    ...(existsSync('/usr/bin/bzip2') || existsSync('/bin/bzip2') ? [] : ['bzip2']),
  ]
  const apt = (...words: string[]) =>
    execFileSync('apt-get', words, {
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      stdio: 'inherit',
    })
  if (packages.length > 0) {
    apt('update', '-q')
    apt('install', '-y', '--no-install-recommends', ...packages)
  }
  // what is the same for all kernels is shared
  for (const cache of [KASAN_CACHE, SMALL_CACHE]) shareRooms(cache)
  for (const arch of SMALL_ARCHES) await makeRoot(arch)
  await makeDebianRoot('arm64', ARM64_ROOT)
  const kernels = [
    [KERNEL, CACHE],
    [OLD_KERNEL, CACHE],
    [KASAN_KERNEL, KASAN_CACHE],
    [ARM64_KERNEL, CACHE],
    ...SMALL_ARCHES.map(arch => [smallKernel(arch), SMALL_CACHE] as const),
  ] as const
  for (const [kernel, cache] of kernels) {
    const built = await kc([...kernel, '--accel', 'tcg', '-e', 'true'], { env: { KERNELCRAFT_CACHE: cache } })
    if (built.status !== 0) throw new Error(`the e2e kernel ${kernel.join(' ')}: ${built.stderr}`)
    console.info(`${kernel.join(' ')}: ${built.result?.seconds.toFixed(0)} s`)
  }
  const again = await guest(['-e', 'uname -r'])
  if (!/^6\.12\.\d+-rc\n$/.test(again.stdout.toString()))
    throw new Error(`unexpected kernel: ${again.stdout}`)
  process.env.KERNELCRAFT_TESTS_READY = '1'
}
