import * as core from '@actions/core'
import type { CacheOffer } from '../build/remote-caches.js'
import type { ArtifactNaming } from './artifacts.js'

/** What the main step passes to the post step. Only this file knows how it is passed. */
export interface State {
  runDirectory: string
  naming: ArtifactNaming
  /** set once main has uploaded and reported: the post step need not */
  reported: boolean
  /** entries to save in GitHub's cache */
  offers: readonly CacheOffer[]
}

const STATE_KEY = 'kernelcraft'
const MAIN_KEY = 'kernelcraft-main'

/** Records that main has started, by which the post step recognizes itself, whatever else main saves. */
export function beginMain(): void {
  core.saveState(MAIN_KEY, 'true')
}

export function isPost(): boolean {
  return core.getState(MAIN_KEY) === 'true'
}

export function saveState(state: State): void {
  core.saveState(STATE_KEY, JSON.stringify(state))
}

/** The state that main saved; undefined if it saved none. */
export function loadState(): State | undefined {
  const text = core.getState(STATE_KEY)
  return text ? (JSON.parse(text) as State) : undefined
}
