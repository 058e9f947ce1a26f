// Plays a protected title in headless Chromium: manifests from the origin, licences from the control API, by EME Clear Key.
//
//   node watch.mjs --port PORT --url MANIFEST --api URL --token TOKEN --device ID --content ID --session ID
//
// PORT is where the test page is; the API lets pages of http://127.0.0.1:PORT ask it.
import {parseArgs} from 'node:util';
import {launch} from '../players/browser.mjs';
import {play} from '../players/play.mjs';
import {serve} from '../players/server.mjs';

const names = ['port', 'url', 'api', 'token', 'device', 'content', 'session'];
const {values} = parseArgs({options: Object.fromEntries(names.map((name) => [name, {type: 'string'}]))});
const license = {
  url: `${values.api}/drm/license`,
  headers: {Authorization: `Bearer ${values.token}`, 'X-Device-Id': values.device},
  wish: {content_id: values.content, content_type: 'movie', drm_system: 'clearkey', session_id: values.session},
};
const page = await serve(Number(values.port));
const browser = await launch({executable: process.env.CHROMIUM ?? '/usr/bin/chromium'});
try {
  const result = await play({browser, harness: page.origin, player: 'shaka', form: 'dash', url: values.url, license,
    only: ['borders', 'seek', 'quality']});
  for (const {ok, name, detail} of result.steps) console.log(`  ${ok ? ' ok ' : 'FAIL'}  ${name.padEnd(10)} ${detail}`);
  process.exitCode = result.ok ? 0 : 1;
} finally {
  await browser.close();
  await page.close();
}
