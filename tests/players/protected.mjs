// A protected title: it plays for who holds a grant, and nobody else sees a frame of it.
import {CLOSED, NO_FRAME, atOnce, record, until} from './browser.mjs';
import {pages} from './pages.mjs';
import {firstLine, LIBRARIES, play} from './play.mjs';

// What each player is given, by the path below the grant.
const CASES = [
  ['hls.js', 'hls-cbcs', 'master.m3u8?clear_key=licence'],
  ['hls.js', 'hls-cenc', 'master.m3u8?scheme=cenc'],
  ['hls.js', 'ts-aes128', 'ts/master.m3u8'],
  ['hls.js', 'ts-sampleaes', 'ts/master.m3u8?scheme=sampleaes'],
  ['shaka', 'hls-cbcs', 'master.m3u8?clear_key=identity'],
  ['shaka', 'hls-cenc', 'master.m3u8?scheme=cenc'],
  ['shaka', 'dash-cbcs', 'manifest.mpd'],
  ['shaka', 'dash-cenc', 'manifest.mpd?scheme=cenc'],
  ['shaka', 'ts-aes128', 'ts/master.m3u8'],
  ['dash.js', 'dash-cbcs', 'manifest.mpd'],
  ['dash.js', 'dash-cenc', 'manifest.mpd?scheme=cenc'],
];

// What a key may come in the way of; the quality goes from the highest class of keys to the lowest and back.
const ACTIONS = ['borders', 'seek', 'quality', 'audio', 'pictures'];
const PAGES = ['every form plays', 'form selector', 'embed', 'embed in a foreign page'];

// What comes to the end of a key period: playing on over it, and jumping to and fro between periods.
const PERIOD_ACTIONS = ['borders', 'seek', 'audio', 'pictures'];

// A title that begins in the clear has no keys yet where its first encrypted sound is decoded; if hls.js is later with them
// than Chromium is with its decoder, Chromium gives up. That is between the two of them.
const KEYS_LATE = 'audio decoder reinitialization failed';

// Players spend most of a case waiting for the clock.
const AT_ONCE = 4;
const KEY_PATH = /\/(license\/clearkey|key\/[0-9a-f-]{36})$/;
const QUIET_S = 1;
// Mean difference of two pictures' brightness, of 255, that is still the same picture.
const DIFFERENCE_MAX = 4;

/**
 * Runs every check and never throws; results have the shape of `play`'s and are given to `report` as they come.
 * `grant` opens the title, those of `refused` do not.
 */
export async function protectedTitle({browser, harness, base, media, grant, refused, players, shots, executable, report}) {
  const address = (token, path) => `${base}/vod/${media}/${token ? `~${token}/` : ''}${path}`;
  const cases = CASES.filter(([player]) => players.includes(player));
  const jobs = [() => pages({base, media: `${media}/~${grant}/`, shots, executable, harness, only: PAGES})];
  for (const [player, form, path] of cases) {
    const license = address(grant, 'license/clearkey');
    jobs.push(() => play({browser, harness, base, media, player, form, only: ACTIONS, url: address(grant, path), license}));
  }
  for (const [index, [player, form, path]] of cases.entries()) {
    const common = {browser, harness, player, form};
    jobs.push(() => denied({...common, what: 'no grant', url: address(null, path),
      license: address(null, 'license/clearkey'), status: 401, at: /\.(m3u8|mpd)$/}));
    const other = refused[index % refused.length];
    const reroute = (url) => url.replace(`/~${grant}/`, `/~${other}/`);
    jobs.push(() => denied({...common, what: 'keys refused', url: address(grant, path),
      license: address(grant, 'license/clearkey'), status: 403, at: KEY_PATH, reroute}));
  }
  jobs.push(() => closed({base, media, grant, refused}));
  const results = await atOnce(AT_ONCE, jobs, report);
  const agreement = agree(results);
  report(agreement);
  return [...results, agreement];
}

/**
 * Plays a title whose keys change on the way, or that begins in the clear, in every form that `players` know. Never throws.
 * Some segment borders that are played over and times that are jumped to lie in other key periods.
 */
export async function periods({browser, harness, base, media, grant, players, report}) {
  const address = (path) => `${base}/vod/${media}/~${grant}/${path}`;
  const license = address('license/clearkey');
  const jobs = CASES.filter(([player]) => players.includes(player)).map(([player, form, path]) => async () => {
    const once = () => play({browser, harness, base, media, player, form, only: PERIOD_ACTIONS, url: address(path), license});
    let result = await once();
    if (result.steps.some(({ok, detail}) => !ok && detail.includes(KEYS_LATE))) {
      console.log(`  note  ${player} ${form}: ${KEYS_LATE}; tried once more`);
      result = await once();
    }
    return {...result, player: `${player}, periods`};
  });
  jobs.push(() => several({address}));
  const results = await atOnce(AT_ONCE, jobs, report);
  const agreement = agree(results);
  report(agreement);
  return [...results, agreement];
}

/** The title has several key periods where the players are sent to. */
async function several({address}) {
  const began_ms = performance.now();
  const step = {name: 'several', ok: true, detail: ''};
  try {
    const counts = [];
    for (const [, form, path] of CASES) {
      const text = await (await fetch(address(path))).text();
      if (form.startsWith('dash')) {
        counts.push([form, text.split('<Period ').length - 1]);
        continue;
      }
      const link = text.split(/\r?\n/).find((line) => line && !line.startsWith('#'));
      const playlist = await (await fetch(new URL(link, address(path)))).text();
      const keys = [...playlist.matchAll(/#EXT-X-KEY:METHOD=(?:NONE|[^,]+,URI="([^"]+)")/g)].map(([, uri]) => uri ?? 'none');
      counts.push([form, new Set(keys).size]);
    }
    const single = counts.find(([, count]) => count < 2);
    if (single) throw new Error(`${single[0]} has ${single[1]} key periods`);
    step.detail = [...new Set(counts.map(([form, count]) => `${form} ${count}`))].join(', ');
  } catch (error) {
    step.ok = false;
    step.detail = firstLine(error);
  }
  step.took_s = (performance.now() - began_ms) / 1000;
  return {player: 'key periods', form: 'of all forms', ok: step.ok, took_s: step.took_s, steps: [step], facts: {}};
}

/** What is deciphered is the picture: ciphers and containers that have nothing in common show the same. */
export function agree(results) {
  const step = {name: 'agree', ok: true, detail: '', took_s: 0};
  const seen = results.filter(({facts}) => facts.pictures?.length > 0);
  const difference = (one, other) => one.reduce((sum, value, at) => sum + Math.abs(value - other[at]), 0) / one.length;
  try {
    if (seen.length < 2) throw new Error(`pictures of ${seen.length} cases only`);
    const [reference, ...others] = seen;
    const [first, second] = reference.facts.pictures;
    const apart = difference(first, second);
    if (apart < DIFFERENCE_MAX * 2) throw new Error(`the film shows the same at both times (${apart.toFixed(1)})`);
    let largest = 0;
    for (const {player, form, facts} of others) {
      const found = Math.max(...facts.pictures.map((picture, at) => difference(picture, reference.facts.pictures[at])));
      if (found > DIFFERENCE_MAX) {
        throw new Error(`${player} ${form} shows another picture than ${reference.player} ${reference.form} (${found.toFixed(1)} of 255)`);
      }
      largest = Math.max(largest, found);
    }
    step.detail = `${seen.length} cases within ${largest.toFixed(1)} of 255; two times are ${apart.toFixed(1)} apart`;
  } catch (error) {
    step.ok = false;
    step.detail = firstLine(error);
  }
  return {player: 'pictures', form: 'of all cases', ok: step.ok, took_s: 0, steps: [step], facts: {}};
}

/**
 * Opens what must not play: an address matching `at` answers `status`, the player says that it failed, and no frame is
 * shown. `reroute` changes the addresses of keys and licences on their way.
 */
export async function denied({browser, harness, player, form, what, url, license, status, at, reroute}) {
  const began_ms = performance.now();
  const step = {name: NO_FRAME, ok: true, detail: ''};
  const context = await browser.newContext({viewport: {width: 640, height: 360}, locale: 'en-GB'});
  try {
    const page = await context.newPage();
    const log = record(page);
    if (reroute) await page.route((address) => KEY_PATH.test(address.pathname), (route) => route.continue({url: reroute(route.request().url())}));
    await page.goto(`${harness}/`);
    await page.evaluate(([name, library, ...addresses]) => {
      window.harness.open(name, library, ...addresses).catch((error) => { window.refusal = error.message; });
    }, [player, LIBRARIES[player], url, license]);
    const told = await until(`${player} says that it failed`, 15, async () => {
      const {failures} = await page.evaluate(() => window.harness.state());
      // Trying again is not giving up.
      return failures.find((failure) => !failure.startsWith('retried: ')) ?? await page.evaluate(() => window.refusal);
    });
    // What was asked for before the refusal came may still arrive, and must be of no use.
    await new Promise((resolve) => setTimeout(resolve, QUIET_S * 1000));
    const state = await page.evaluate(() => window.harness.state());
    const answers = log.done.filter((entry) => at.test(new URL(entry.url).pathname));
    if (answers.length === 0) throw new Error(`nothing like ${at} was asked for; the player says: ${told}`);
    const other = answers.find((entry) => entry.status !== status);
    if (other) throw new Error(`${other.status}, not ${status}, for ${other.url}`);
    // The clock says nothing: a player that looks for a way out of a stall moves it.
    if (state.shown_count > 0 || state.frame_count > 0) {
      throw new Error(`${state.shown_count} frames were shown, ${state.frame_count} deciphered`);
    }
    step.detail = `${answers.length}× ${status}; the player says: ${told.replace(/\s*https?:\S+/, '').replace(/\s+/g, ' ').slice(0, 80)}`;
  } catch (error) {
    step.ok = false;
    step.detail = firstLine(error);
  } finally {
    await context.close();
  }
  step.took_s = (performance.now() - began_ms) / 1000;
  return {player: `${player}, ${what}`, form, ok: step.ok, took_s: step.took_s, steps: [step], facts: {}};
}

/** Every address of the title, asked for without a grant and with one that does not open it. */
async function closed({base, media, grant, refused}) {
  const began_ms = performance.now();
  const step = {name: CLOSED, ok: true, detail: ''};
  try {
    const open = `${base}/vod/${media}/~${grant}/`;
    const paths = new Set([...CASES.map(([, , path]) => path)].map((path) => open + path));
    for (const entry of [...paths]) await follow(entry, open, paths);
    paths.add(`${open}license/clearkey`);
    const pages_of = ['v', 'embed'].map((room) => `${base}/${room}/${media}/~${grant}/`);
    let count = 0;
    // Thumbnails are what a title is offered with: everybody may have them.
    const guarded = [...paths].filter((path) => !path.includes('/i1/'));
    for (const path of [...guarded, ...pages_of]) {
      for (const [token, status] of [['', 401], ...refused.map((other) => [`~${other}/`, 403])]) {
        const url = path.replace(`~${grant}/`, token);
        const init = path.endsWith('/clearkey') ? {method: 'POST', body: '{"kids":["AAAAAAAAAAAAAAAAAAAAAA"]}'} : {};
        const answer = await fetch(url, {...init, signal: AbortSignal.timeout(10_000)});
        const body = await answer.arrayBuffer();
        count += 1;
        if (answer.status !== status) throw new Error(`${answer.status}, not ${status}, for ${url}`);
        if (body.byteLength > 1000) throw new Error(`${body.byteLength} bytes with ${status} for ${url}`);
      }
    }
    const open_page = await fetch(pages_of[0]);
    if (open_page.status !== 200) throw new Error(`${open_page.status}, not 200, for ${pages_of[0]}`);
    step.detail = `${count} requests for ${paths.size + pages_of.length} addresses`;
  } catch (error) {
    step.ok = false;
    step.detail = firstLine(error);
  }
  step.took_s = (performance.now() - began_ms) / 1000;
  return {player: 'every address', form: 'closed', ok: step.ok, took_s: step.took_s, steps: [step], facts: {}};
}

/** Adds the playlists, init segments, first segments and keys that `url` leads to; they all must lie below `open`. */
async function follow(url, open, paths) {
  const answer = await fetch(url, {signal: AbortSignal.timeout(10_000)});
  if (answer.status !== 200) throw new Error(`${answer.status}, not 200, for ${url}`);
  const text = await answer.text();
  const links = new URL(url).pathname.endsWith('.mpd') ?
    [...text.matchAll(/(?:initialization|media)="([^"]+)"/g)].map(([, link]) => link.replace('$Number$', '1')) :
    [...text.matchAll(/URI="(?!data:)([^"]+)"/g)].map(([, link]) => link).concat(firstLinks(text));
  for (const link of links) {
    const address = new URL(link, url).href;
    if (!address.startsWith(open)) throw new Error(`${link} in ${url} leads away from the grant`);
    if (paths.has(address)) continue;
    paths.add(address);
    if (new URL(address).pathname.endsWith('.m3u8')) await follow(address, open, paths);
  }
}

/** The addresses on lines of their own; of segments the first is enough. */
function firstLinks(text) {
  const links = text.split(/\r?\n/).filter((line) => line && !line.startsWith('#'));
  return text.includes('#EXTINF:') ? links.slice(0, 1) : links;
}
