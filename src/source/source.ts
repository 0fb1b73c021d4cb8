import type { SourceFacts } from '../result.js'

/** A tree that is at hand: its repository holds all of its files (or knows whom to ask for them). */
export interface Source extends SourceFacts {
  /** where its objects are */
  gitDir: string
  /** the repository that it belongs to, by which work trees are told apart */
  repository: string
  /** version of the kernel by its Makefile, e.g. 6.12.117 */
  version: string
}
