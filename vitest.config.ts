import { readFileSync } from 'node:fs'
import { defineConfig } from 'vitest/config'

/** GitHub's language service: its modules import JSON as only bundlers do, and name source maps that are not shipped. */
const LANGUAGE_SERVICE = /node_modules\/(@actions\/(languageservice|workflow-parser|expressions)|cronstrue)\/.*\.js$/

/** Tests that mind other guests, or the kernel that was built last. */
const ALONE = ['action', 'dump', 'kvm', 'processes', 'readme', 'shell'].map(name => `test/e2e/${name}.test.ts`)

const E2E = {
  globalSetup: ['test/e2e/global-setup.ts'],
  // some compile a kernel, on a machine that may have no cache yet; kc has deadlines of its own
  testTimeout: 1_800_000,
  hookTimeout: 3_600_000,
}

export default defineConfig({
  test: {
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
      {
        test: {
          ...E2E,
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          exclude: ALONE,
          // guests are emulated by one thread each, and machines have two cores at least
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...E2E,
          name: 'e2e-alone',
          include: ALONE,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
