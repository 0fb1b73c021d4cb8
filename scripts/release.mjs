// node scripts/release.mjs vX.Y.Z: does everything agree that this is the release? Prints its notes from CHANGELOG.md.
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const [tag = '', root = resolve(import.meta.dirname, '..')] = process.argv.slice(2)
const read = name => (existsSync(join(root, name)) ? readFileSync(join(root, name), 'utf8') : '')

const complaints = []
const version = /^v(\d+\.\d+\.\d+)$/.exec(tag)?.[1]
if (version === undefined) {
  complaints.push(`${JSON.stringify(tag)} is no tag of a release: it has to be vX.Y.Z.`)
} else {
  for (const name of ['package.json', 'package-lock.json']) {
    const said = JSON.parse(read(name) || '{}').version
    if (said !== version) complaints.push(`${name} says ${said}, the tag ${version}.`)
  }
}
// a section begins with "## X.Y.Z", whatever follows on that line, and ends where the next one does
const notes = read('CHANGELOG.md')
  .split(/^(?=## )/m)
  .find(section => section.split(/\s+/, 2)[1]?.replace(/^\[|\]$/g, '') === version)
  ?.replace(/^.*\n?/, '')
  .trim()
if (version !== undefined && !notes) complaints.push(`CHANGELOG.md has no section "## ${version}" with text.`)

if (complaints.length > 0) {
  for (const complaint of complaints) console.error(complaint)
  process.exit(1)
}
console.log(notes)
