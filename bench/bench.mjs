// Benchmarks. They measure KernelCraft and, where there is one, another tool in the same run, and print the ratio. They do
// not assert anything.
//
//   node bench/bench.mjs boot [RUNS]   boot with virtme-run and KernelCraft's init, and bare QEMU with a busybox initramfs
//   node bench/bench.mjs smoke         a second `npm run smoke`, from start to verdict
//   node bench/bench.mjs triage        a healthy console log of 512 MiB: kc triage, and grep for the keywords of reports
//   node bench/bench.mjs build         CPU time of a cold build: the minimal configuration, and virtme-ng's (half an hour)
//
// Run `npm run smoke` once before, because the benchmarks use its kernel. Times are in seconds.
import { execFileSync, spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, homedir, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

const root = dirname(import.meta.dirname)
const kcPath = join(root, 'dist', 'kc', 'index.js')
const cache = process.env.KERNELCRAFT_CACHE ?? join(homedir(), '.cache', 'kernelcraft')
const median = values => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]
const shown = values =>
  `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)})`

/** Runs kc. Returns its exit status, its result.json, and the wall time in seconds. */
function kc(...args) {
  const start = performance.now()
  const end = spawnSync(process.execPath, [kcPath, ...args], { encoding: 'utf8', cwd: root })
  const seconds = (performance.now() - start) / 1000
  const directory = /^\s*results: (.*)$/m.exec(end.stderr)?.[1]
  if (!directory) throw new Error(end.stderr)
  return {
    seconds,
    status: end.status,
    result: JSON.parse(readFileSync(join(directory, 'result.json'), 'utf8')),
  }
}

/** The work tree of the newest series that has a built kernel, and the path of its image. Throws if there is none. */
function builtKernel() {
  const work = join(cache, 'work')
  const trees = readdirSync(work).filter(name =>
    existsSync(join(work, name, 'src', '.out-x86_64', '.kernelcraft.json')),
  )
  const newest = trees.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).pop()
  if (!newest) throw new Error('no kernel is built yet: npm run smoke')
  const source = join(work, newest, 'src')
  return { source, image: join(source, '.out-x86_64', 'arch/x86/boot/bzImage') }
}

/** Boots bare QEMU with a busybox initramfs. Returns the seconds from its start to the first line of /init. */
function bareBoot(image, initramfs) {
  const script = `start=$(date +%s.%N)
qemu-system-x86_64 -machine q35 -cpu max -accel tcg,thread=single -smp ${availableParallelism()} -m 1024M -nographic -no-reboot \\
  -kernel "$1" -initrd "$2" -append 'console=ttyS0 earlyprintk=serial panic=-1' < /dev/null |
while IFS= read -r line; do case $line in *kernelcraft-bench-init*) date +%s.%N; break;; esac; done | { read -r end; echo "$end - $start" | bc; }`
  return Number(execFileSync('bash', ['-c', script, 'bench', image, initramfs], { encoding: 'utf8' }))
}

function makeInitramfs(directory) {
  mkdirSync(join(directory, 'tree', 'proc'), { recursive: true })
  cpSync('/bin/busybox', join(directory, 'tree', 'busybox'))
  writeFileSync(
    join(directory, 'tree', 'init'),
    '#!/busybox sh\necho kernelcraft-bench-init\n/busybox mount -t proc proc /proc\necho o > /proc/sysrq-trigger\n/busybox sleep 100\n',
    { mode: 0o755 },
  )
  const path = join(directory, 'initramfs.gz')
  execFileSync('bash', [
    '-c',
    'cd "$1" && find . | cpio --quiet -o -H newc | gzip > "$2"',
    'bench',
    join(directory, 'tree'),
    path,
  ])
  return path
}

function benchBoot(runs) {
  const directory = mkdtempSync(join(tmpdir(), 'kernelcraft-bench-'))
  try {
    kc('-r', 'distro', '--accel', 'tcg', '-e', 'true')
    const { image } = builtKernel()
    const initramfs = makeInitramfs(directory)
    const [bare, init, commands, whole] = [[], [], [], []]
    for (let run = 0; run <= runs; run++) {
      const peer = bareBoot(image, initramfs)
      const { timestamps } = kc('-r', 'distro', '-s', '--accel', 'tcg', '-e', 'true').result.boot
      const cached = kc('-r', 'distro', '--accel', 'tcg', '-e', 'true')
      if (run === 0) continue
      bare.push(peer)
      init.push(timestamps.init)
      commands.push(timestamps.commands)
      whole.push(cached.seconds)
    }
    console.log(`start to first line, bare QEMU and busybox:     ${shown(bare)}`)
    console.log(`virtme-run's start to our init's first line:    ${shown(init)}`)
    console.log(`virtme-run's start to the commands:             ${shown(commands)}`)
    console.log(`kc's start to its verdict, a cached kernel:     ${shown(whole)}`)
    console.log(
      `ratio, first line:                              ${shown(init.map((value, index) => value / bare[index]))}`,
    )
    console.log(
      `ratio, commands:                                ${shown(commands.map((value, index) => value / bare[index]))}`,
    )
    console.log(
      `ratio, verdict of a cached kernel:              ${shown(whole.map((value, index) => value / bare[index]))}`,
    )
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

function benchSmoke() {
  const start = performance.now()
  const end = spawnSync(process.execPath, [kcPath, 'smoke'], { encoding: 'utf8', cwd: root })
  console.log(`smoke: status ${end.status}, ${((performance.now() - start) / 1000).toFixed(1)}`)
}

/** CPU time (user and system) of a cold build with gcc and without ccache, in seconds. */
function coldBuild(source, out, configure) {
  const directory = join(source, out)
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory)
  configure(directory)
  const script = 'TIMEFORMAT="%U %S %R"; time make "$@" > /dev/null 2> /dev/null'
  const args = ['-C', source, `O=${out}`, `-j${availableParallelism()}`, 'bzImage', 'modules']
  const end = spawnSync('bash', ['-c', script, 'bench', ...args], { encoding: 'utf8' })
  const [user, system, wall] = end.stderr.trim().split('\n').pop().split(' ').map(Number)
  const options = readFileSync(join(directory, '.config'), 'utf8').match(/=[ym]$/gm).length
  rmSync(directory, { recursive: true, force: true })
  return { cpu: user + system, wall, options }
}

function benchBuild() {
  const first = kc('-r', 'distro', '--accel', 'tcg', '-e', 'true')
  const { source } = builtKernel()
  const ours = coldBuild(source, '.bench-minimal', directory => {
    cpSync(join(first.result.runDirectory, 'config'), join(directory, '.config'))
  })
  console.log(`minimal: ${ours.cpu.toFixed(0)} CPU, ${ours.wall.toFixed(0)} wall, ${ours.options} options`)
  const peer = coldBuild(source, '.bench-virtme', directory => {
    const out = 'O=.bench-virtme'
    execFileSync(join(cache, 'venv', 'bin', 'virtme-configkernel'), ['--defconfig', out], {
      cwd: source,
      stdio: 'ignore',
    })
    // the same debug information as KernelCraft's configuration
    writeFileSync(
      join(directory, '.config'),
      'CONFIG_DEBUG_INFO_DWARF5=y\n# CONFIG_DEBUG_INFO_NONE is not set\n',
      { flag: 'a' },
    )
    execFileSync('make', ['-C', source, out, 'olddefconfig'], { stdio: 'ignore' })
  })
  console.log(
    `virtme-ng's: ${peer.cpu.toFixed(0)} CPU, ${peer.wall.toFixed(0)} wall, ${peer.options} options`,
  )
  console.log(`ratio of CPU time: ${(ours.cpu / peer.cpu).toFixed(3)}`)
}

/** Parses a healthy console log that is repeated until it has 512 MiB. */
function benchTriage(runs) {
  const { result } = kc('-r', 'distro', '-s', '-e', 'true')
  const log = readFileSync(join(result.runDirectory, 'console.log'))
  const directory = mkdtempSync(join(tmpdir(), 'kc-bench-'))
  const path = join(directory, 'console.log')
  writeFileSync(path, Buffer.concat(Array(Math.ceil((512 * 2 ** 20) / log.length)).fill(log)))
  const size = statSync(path).size / 1e6
  const seconds = (file, args) => {
    const start = performance.now()
    const end = spawnSync('/usr/bin/time', ['-f', '%M', file, ...args], { encoding: 'utf8' })
    return [(performance.now() - start) / 1000, Number(end.stderr.trim().split('\n').pop()) / 1024]
  }
  const words = 'BUG:|WARNING:|INFO:|Kernel panic|Oops|general protection fault|nable to handle|UBSAN:'
  const ours = []
  const theirs = []
  let memory = 0
  for (let run = 0; run < runs; run++) {
    const [time, peak] = seconds(process.execPath, [kcPath, 'triage', path])
    ours.push(size / time)
    memory = Math.max(memory, peak)
    theirs.push(size / seconds('grep', ['-aE', words, path])[0])
  }
  console.log(`kc triage, MB/s:   ${shown(ours)}; at most ${memory.toFixed(0)} MiB of memory`)
  console.log(`grep -aE, MB/s:    ${shown(theirs)}`)
  console.log(`ratio:             ${(median(ours) / median(theirs)).toFixed(2)}`)
  rmSync(directory, { recursive: true })
}

const [what, runs = '5'] = process.argv.slice(2)
const benches = {
  boot: () => benchBoot(Number(runs)),
  smoke: benchSmoke,
  triage: () => benchTriage(Number(runs)),
  build: benchBuild,
}
if (!benches[what]) {
  console.error(`usage: node bench/bench.mjs ${Object.keys(benches).join('|')}`)
  process.exit(2)
}
benches[what]()
