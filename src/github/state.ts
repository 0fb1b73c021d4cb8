import * as core from '@actions/core'
import type { CacheOffer } from '../build/remote-caches.js'
import type { ArtifactNaming } from './outputs.js'

/** What main leaves for post. This is the only place that knows how the two talk. */
export interface State {
  runDirectory: string
  naming: ArtifactNaming
  /** set once main has uploaded and reported: post has nothing more to do */
  reported: boolean
  /** what is worth keeping beyond this machine */
  offers: readonly CacheOffer[]
}

const KEY = 'kernelcraft'
const BEGUN = 'kernelcraft-main'

/** Notes that main has begun, so that post knows itself by it, whatever else main leaves. */
export function beginMain(): void {
  core.saveState(BEGUN, 'true')
}

export function isPost(): boolean {
  return core.getState(BEGUN) === 'true'
}

export function saveState(state: State): void {
  core.saveState(KEY, JSON.stringify(state))
}

/** The state that main left; undefined if it left none. */
export function loadState(): State | undefined {
  const text = core.getState(KEY)
  return text ? (JSON.parse(text) as State) : undefined
}
