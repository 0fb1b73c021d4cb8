import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const identity = {
  GIT_AUTHOR_NAME: 'a',
  GIT_AUTHOR_EMAIL: 'a@b',
  GIT_COMMITTER_NAME: 'a',
  GIT_COMMITTER_EMAIL: 'a@b',
}

export const git = (where: string, ...args: string[]) =>
  execFileSync('git', ['-C', where, '-c', 'init.defaultBranch=main', ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...identity },
  }).trim()

/** What KernelCraft takes for a kernel; asked for a configuration, it prints the file `marker` and fails. */
const makefile = (sublevel: number) =>
  `VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = ${sublevel}\nKERNELVERSION = x\n%config:\n\t@cat marker; false\n`

/** A repository of four commits, 6.12.0 to 6.12.3, with the tag v6.12.1 and refs as GitHub and Gerrit have them. */
export function tinyKernel(path: string): string[] {
  mkdirSync(path, { recursive: true })
  git(path, 'init', '-q')
  const shas = [0, 1, 2, 3].map(sublevel => {
    writeFileSync(join(path, 'Makefile'), makefile(sublevel))
    writeFileSync(join(path, 'marker'), `marker ${sublevel}\n`)
    writeFileSync(join(path, `file${sublevel}.c`), `int x${sublevel};\n`.repeat(1000))
    git(path, 'add', '-A')
    git(path, 'commit', '-q', '-m', `release ${sublevel}`)
    return git(path, 'rev-parse', 'HEAD')
  })
  git(path, 'tag', '-a', '-m', 'tag', 'v6.12.1', shas[1] ?? '')
  git(path, 'branch', 'fixes/one', shas[1] ?? '')
  // as servers have them: not part of a clone
  for (const [ref, at] of [
    ['refs/pull/7/merge', 2],
    ['refs/changes/34/1234/5', 0],
  ] as const)
    git(
      path,
      'update-ref',
      ref,
      git(path, 'commit-tree', '-p', shas[at] ?? '', '-m', ref, `${shas[at]}^{tree}`),
    )
  return shas
}
