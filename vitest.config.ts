import { readFileSync } from 'node:fs'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** GitHub's language service: its modules import JSON as only bundlers do, and name source maps that are not shipped. */
const LANGUAGE_SERVICE = /node_modules\/(@actions\/(languageservice|workflow-parser|expressions)|cronstrue)\/.*\.js$/

/**
 * The end-to-end files in the order in which they start: those that wait for a kernel's compilation first, since the
 * others run meanwhile, and of the others the long ones first.
 */
const ORDER = [
  ...['streams', 'checkout', 'faults', 'build-host', 'cache', 'arches', 'action', 'services', 'dump'],
  ...['modules', 'isolation', 'options', 'shell', 'input', 'processes', 'terminal', 'ktap', 'verdicts'],
]

class Sequencer extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const at = ORDER.indexOf(/([^/]*)\.test\.ts$/.exec(moduleId)?.[1] ?? '')
      return at < 0 ? ORDER.length : at
    }
    return [...files].sort((a, b) => rank(a) - rank(b) || a.moduleId.localeCompare(b.moduleId))
  }
}

const E2E = {
  globalSetup: ['test/e2e/global-setup.ts'],
  setupFiles: ['test/e2e/setup.ts'],
  // the first test that asks for a kernel waits until it is compiled; kc has deadlines of its own
  testTimeout: 1_800_000,
  hookTimeout: 1_800_000,
  // a guest is emulated by one thread, and much of a test is waiting
  maxWorkers: Number(process.env.KERNELCRAFT_TEST_WORKERS) || 3,
  sequence: { groupOrder: 1 },
}

export default defineConfig({
  test: {
    sequence: { sequencer: Sequencer },
    reporters: ['default', './test/reporter.ts'],
    projects: [
      {
        plugins: [
          {
            name: 'without-source-maps',
            load: id =>
              LANGUAGE_SERVICE.test(id)
                ? { code: readFileSync(id, 'utf8').replace(/^\/\/# sourceMappingURL=.*$/m, ''), map: null }
                : undefined,
          },
        ],
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          testTimeout: 60_000,
          server: { deps: { inline: [LANGUAGE_SERVICE] } },
        },
      },
      // linters from package registries, no kernel
      { test: { name: 'lint', include: ['test/lint/**/*.test.ts'], testTimeout: 60_000, hookTimeout: 900_000 } },
      { test: { ...E2E, name: 'e2e', include: ['test/e2e/**/*.test.ts'] } },
      { test: { ...E2E, name: 'nightly', include: ['test/nightly/**/*.test.ts'] } },
    ],
  },
})
