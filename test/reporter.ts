import type { Reporter, TestModule } from 'vitest/node'
import { buildTimes } from './kernels.js'

const MOST = 10

/** Prints at the end where the time went: each kernel of the tests, and the slowest files. */
export default class TimesReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const files = modules
      .map(module => ({ name: module.relativeModuleId, seconds: module.diagnostic().duration / 1000 }))
      .sort((a, b) => b.seconds - a.seconds)
      .slice(0, MOST)
    const row = (name: string, seconds: number) => `  ${seconds.toFixed(0).padStart(5)} s  ${name}`
    if (!files.some(({ name }) => name.includes('/e2e/') || name.includes('/nightly/'))) return
    console.log(
      ['Kernels of the tests, and how long each took to build:']
        .concat(buildTimes().map(([name, seconds]) => row(name, seconds)))
        .concat(
          ['Slowest files:'],
          files.map(({ name, seconds }) => row(name, seconds)),
        )
        .join('\n'),
    )
  }
}
