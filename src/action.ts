import { setFailed } from '@actions/core'
import { messageOf } from './errors.js'
import { isPost, loadState, main, post } from './github/main.js'

try {
  process.exitCode = isPost() ? await post(loadState()) : await main(process.env)
} catch (error) {
  setFailed(`KernelCraft itself failed: ${messageOf(error)}`)
}
// flush before the end; a handle that is still open must not keep a finished step from ending
await new Promise(resolve => process.stdout.write('', resolve))
process.exit()
