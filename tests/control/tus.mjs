// Uploads a file with tus-js-client: tus.mjs ENDPOINT TOKEN FILE MEMORY [give-up]
//
// With `give-up` the program ends after half the bytes, as a page does that is closed; without, it goes on with what MEMORY
// knows. Prints the upload's URL and where it began, in bytes.
import {createReadStream, statSync} from 'node:fs';
import tus from 'tus-js-client';

const [endpoint, token, file, memory, giveUp] = process.argv.slice(2);
const size_bytes = statSync(file).size;
let began_at = null;

const upload = new tus.Upload(createReadStream(file), {
  endpoint,
  headers: {Authorization: `Bearer ${token}`},
  metadata: {filename: 'second.mp4', asset_type: 'trailer', title: 'Second'},
  chunkSize: 32 * 1024,
  retryDelays: [0, 100, 300, 1000],
  urlStorage: new tus.FileUrlStorage(memory),
  removeFingerprintOnSuccess: true,
  onProgress: (sent) => { began_at ??= sent; },
  onChunkComplete: async (chunk, accepted) => {
    if (giveUp && accepted >= size_bytes / 2) {
      await upload.abort();
      done();
    }
  },
  onSuccess: done,
  onError: (error) => {
    console.error(String(error));
    process.exit(1);
  },
});

function done() {
  console.log(upload.url, began_at);
  process.exit(0);
}

const before = await upload.findPreviousUploads();
if (before.length > 0) upload.resumeFromPreviousUpload(before[0]);
if (!giveUp && before.length === 0) throw new Error('nothing is remembered of the upload that was given up');
upload.start();
