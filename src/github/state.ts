import * as core from '@actions/core'
import type { CcacheState } from './ccache.js'

/** What main leaves for post. This is the only place that knows how the two talk. */
export interface State {
  runDirectory: string
  artifact: string
  retentionDays?: string
  /** set once main has uploaded and reported: post has nothing more to do */
  reported: boolean
  /** set once ccache's directory has been looked at */
  ccache?: CcacheState
}

const KEY = 'kernelcraft'

export function saveState(state: State): void {
  core.saveState(KEY, JSON.stringify(state))
}

/** The state that main left; undefined in main itself. */
export function loadState(): State | undefined {
  const text = core.getState(KEY)
  return text ? (JSON.parse(text) as State) : undefined
}
