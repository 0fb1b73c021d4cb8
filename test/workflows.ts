import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { load } from 'js-yaml'
import { ROOT } from './kc.js'

/** What the tests read of a step, a job, a workflow. */
export interface Step {
  id?: string
  name?: string
  uses?: string
  with?: Record<string, string>
  run?: string
  shell?: string
}

export interface Job {
  uses?: string
  with?: Record<string, string>
  permissions?: unknown
  strategy?: { matrix: unknown }
  outputs?: Record<string, string>
  'timeout-minutes'?: unknown
  steps?: Step[]
}

export interface Input {
  description?: string
  type?: string
  required?: boolean
  default?: unknown
}

export interface Workflow {
  on: {
    workflow_call?: { inputs?: Record<string, Input>; outputs?: Record<string, { description?: string }> }
    workflow_dispatch?: { inputs?: Record<string, Input> } | null
  }
  permissions?: unknown
  jobs: Record<string, Job>
}

export interface WorkflowFile {
  /** relative to the repository */
  path: string
  text: string
  content: Workflow
}

function yamlFiles(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter(name => /\.ya?ml$/.test(name))
    .map(name => join(folder, name))
    .sort()
}

/** All workflows of the project: its own and the examples; Kubernetes' files among these are none. */
export function workflows(): WorkflowFile[] {
  return [...yamlFiles('.github/workflows'), ...yamlFiles('examples')].flatMap(path => {
    const text = readFileSync(join(ROOT, path), 'utf8')
    if (!/^jobs:/m.test(text)) return []
    return [{ path, text, content: load(text) as Workflow }]
  })
}

export function workflow(path: string): Workflow {
  const found = workflows().find(file => file.path === path)
  if (!found) throw new Error(`no workflow ${path}`)
  return found.content
}
