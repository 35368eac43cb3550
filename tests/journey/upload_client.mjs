// A dock written with tus-js-client in Node.
//   node upload_client.mjs MODULES FILE OPTIONS_JSON
// Says "paused BYTES", waits for a line on standard input, then says "done URL".
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { driveTus } from './upload_driver.mjs'

const [modules, path, options] = process.argv.slice(2)
const tus = createRequire(`${modules}/`)('tus-js-client')
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const file = readFileSync(path)

const drive = driveTus(tus, file, file.length, JSON.parse(options))
console.log(`paused ${await drive.paused}`)
await lines.next()
console.log(`done ${await drive.resume()}`)
process.exit(0)
