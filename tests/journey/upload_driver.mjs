// Uploads that pause at half and go on when told to, the same in Node and in a browser.
// Each returns { paused: Promise<bytes accepted>, resume(): Promise<address of the upload> }.

const RETRY_DELAYS = [100, 200, 400, 800, 1600, 3200, 3200]

function promised() {
  const told = {}
  told.promise = new Promise((resolve, reject) => Object.assign(told, { resolve, reject }))
  return told
}

export function driveTus(tus, source, size, options) {
  const paused = promised()
  const done = promised()
  let accepted = 0
  let isPaused = false
  const upload = new tus.Upload(source, {
    ...options,
    chunkSize: Math.ceil(size / 16),
    retryDelays: RETRY_DELAYS,
    // Of parallel uploads this is called by each part, for its own bytes.
    async onChunkComplete(chunk) {
      accepted += chunk
      if (isPaused || accepted < size / 2) return
      isPaused = true
      await upload.abort()
      paused.resolve(accepted)
    },
    onError(error) {
      paused.reject(error)
      done.reject(error)
    },
    onSuccess: () => done.resolve(upload.url),
  })
  upload.start()
  return {
    paused: paused.promise,
    resume() {
      upload.start()
      return done.promise
    },
  }
}

export function driveUppy(Uppy, blob, name, options) {
  const paused = promised()
  const done = promised()
  const uppy = new Uppy.Uppy().use(Uppy.Tus, {
    ...options,
    chunkSize: Math.ceil(blob.size / 16),
    retryDelays: RETRY_DELAYS,
  })
  let isPaused = false
  uppy.on('upload-progress', (_file, progress) => {
    if (isPaused || progress.bytesUploaded < blob.size / 2) return
    isPaused = true
    uppy.pauseAll()
    paused.resolve(progress.bytesUploaded)
  })
  uppy.on('upload-error', (_file, error) => {
    paused.reject(error)
    done.reject(error)
  })
  uppy.on('upload-success', (_file, answer) => done.resolve(answer.uploadURL))
  uppy.addFile({ name, type: 'video/mp4', data: blob })
  uppy.upload()
  return {
    paused: paused.promise,
    resume() {
      uppy.resumeAll()
      return done.promise
    },
  }
}
