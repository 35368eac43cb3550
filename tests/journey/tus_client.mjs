// A dock written with tus-js-client: uploads a part, pauses, and goes on when it is told to.
//   node tus_client.mjs MODULES ENDPOINT TOKEN FILE METADATA_JSON
// Says "paused OFFSET", waits for a line on standard input, then says "done URL".
import { createRequire } from 'node:module'
import { createReadStream, statSync } from 'node:fs'
import { createInterface } from 'node:readline'

const [modules, endpoint, token, path, metadata] = process.argv.slice(2)
const tus = createRequire(`${modules}/`)('tus-js-client')
const size = statSync(path).size
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
let isPaused = false

const upload = new tus.Upload(createReadStream(path), {
  endpoint,
  uploadSize: size,
  chunkSize: Math.ceil(size / 8),
  headers: { Authorization: `Bearer ${token}` },
  metadata: JSON.parse(metadata),
  retryDelays: [200, 500, 1000, 2000, 4000],
  async onChunkComplete(_chunk, accepted) {
    if (isPaused || accepted < size / 2) return
    isPaused = true
    await upload.abort()
    console.log(`paused ${accepted}`)
    await lines.next()
    resume()
  },
  onError(error) {
    console.error(String(error))
    process.exit(1)
  },
  onSuccess() {
    console.log(`done ${upload.url}`)
    process.exit(0)
  },
})

// A new object, as after a restart of the dock: all that is left of the first is its address.
function resume() {
  const again = new tus.Upload(createReadStream(path), { ...upload.options, uploadUrl: upload.url })
  again.options.onSuccess = () => {
    console.log(`done ${again.url}`)
    process.exit(0)
  }
  again.start()
}

upload.start()
