import type { SourceFacts } from '../result.js'

/** A commit or work tree to test. Its repository has all of its files, or the remote to fetch them from (a partial clone). */
export interface Source extends SourceFacts {
  /** the repository with its objects */
  gitDir: string
  /** the repository that it belongs to: each has workspaces of its own */
  repository: string
  /** kernel version from the top Makefile, e.g. 6.12.117 */
  version: string
}

/** The source as a result has it: without the paths of this machine. */
export function sourceFacts({
  gitDir: _gitDir,
  repository: _repository,
  version: _version,
  ...facts
}: Source): SourceFacts {
  return facts
}
