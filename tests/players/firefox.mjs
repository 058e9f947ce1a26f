// Headless Firefox ESR, whose Clear Key module and decoders are its own: a protected title plays for who holds a grant,
// and nobody else sees a frame of it.
import {launchFirefox} from './bidi.mjs';
import {atOnce} from './browser.mjs';
import {play} from './play.mjs';
import {agree, denied} from './protected.mjs';

// Port 9 is nobody's: what is not on this machine can not be reached, whatever the browser would like to fetch.
const NOWHERE = {
  'network.proxy.type': 1, 'network.proxy.http': '127.0.0.1', 'network.proxy.http_port': 9, 'network.proxy.ssl': '127.0.0.1',
  'network.proxy.ssl_port': 9, 'network.proxy.no_proxies_on': 'localhost, 127.0.0.1', 'network.dns.disablePrefetch': true,
};
const PREFERENCES = {
  ...NOWHERE,
  'media.eme.enabled': true,
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  // A page in the background may show its video less often than it decodes it.
  'media.suspend-background-video.enabled': false,
};

const ACTIONS = ['borders', 'seek', 'quality', 'pictures'];
// What each player is given, by the path below the grant: cbcs in all of them, and one of each other form.
const CASES = [
  ['shaka', 'hls-cbcs', 'master.m3u8?clear_key=identity', ACTIONS],
  ['hls.js', 'hls-cbcs', 'master.m3u8?clear_key=licence', ACTIONS],
  ['dash.js', 'dash-cbcs', 'manifest.mpd', ACTIONS],
  ['dash.js', 'dash-cenc', 'manifest.mpd?scheme=cenc', ACTIONS],
  ['hls.js', 'ts-aes128', 'ts/master.m3u8', ACTIONS],
  // In Firefox shaka-player 5.2 does not come back from emptying its buffer in DASH, whoever made the manifest and
  // though nothing is protected: it stays with one quality.
  ['shaka', 'dash-cbcs', 'manifest.mpd', ['borders', 'seek']],
];
const AT_ONCE = 2;
const KEY_PATH = /\/(license\/clearkey|key\/[0-9a-f-]{36})$/;

/** A Firefox that reaches this machine alone and plays without being touched. */
export async function launch({executable}) {
  return launchFirefox({executable, preferences: PREFERENCES});
}

/** Runs every check and never throws; `grant`, `refused` and the results are as for Chromium. */
export async function title({browser, harness, base, media, grant, refused, players, report}) {
  const address = (token, path) => `${base}/vod/${media}/${token ? `~${token}/` : ''}${path}`;
  const cases = CASES.filter(([player]) => players.includes(player));
  const jobs = cases.map(([player, form, path, only]) => () => play({browser, harness, base, media, player, form, only,
    url: address(grant, path), license: address(grant, 'license/clearkey')}));
  for (const [index, [player, form, path]] of cases.entries()) {
    const common = {browser, harness, player, form};
    jobs.push(() => denied({...common, what: 'no grant', url: address(null, path),
      license: address(null, 'license/clearkey'), status: 401, at: /\.(m3u8|mpd)$/}));
    const other = refused[index % refused.length];
    jobs.push(() => denied({...common, what: 'keys refused', url: address(grant, path),
      license: address(grant, 'license/clearkey'), status: 403, at: KEY_PATH,
      reroute: (url) => url.replace(`/~${grant}/`, `/~${other}/`)}));
  }
  const results = await atOnce(AT_ONCE, jobs, report);
  const agreement = agree(results);
  report(agreement);
  return [...results, agreement];
}
