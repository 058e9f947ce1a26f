// One case: one player plays one form, and every thing a viewer does is done once.
import {record, until} from './browser.mjs';
import {read} from './presentation.mjs';

export const LIBRARIES = {'hls.js': '/hls.js', 'shaka': '/shaka.js', 'dash.js': '/dash.js'};
export const FORMS = {
  'hls-cmaf': (base, media) => `${base}/vod/${media}/master.m3u8`,
  'hls-ts': (base, media) => `${base}/vod/${media}/ts/master.m3u8`,
  'dash': (base, media) => `${base}/vod/${media}/manifest.mpd`,
};
const PLAYS = {'hls.js': ['hls-cmaf', 'hls-ts'], 'shaka': ['hls-cmaf', 'hls-ts', 'dash'], 'dash.js': ['dash']};

/** Whether `player` knows `form` at all. */
export const plays = (player, form) => PLAYS[player].includes(form);

// Software decoding on a small machine drops some frames; a storm drops most.
const DROPPED_RATIO_MAX = 0.2;
const BORDER_COUNT = 3;

// What a viewer does once the title plays, in this order. 'pictures' is for those who compare them.
const ACTIONS = ['borders', 'seek', 'quality', 'audio', 'subtitles', 'thumbnails'];

/**
 * Runs the case and never throws: {player, form, ok, took_s, steps, facts}. `only` names the actions to do, `license`
 * the Clear Key licence server of a protected title, `url` the entry where `form` is none of FORMS.
 */
export async function play({browser, harness, base, media, player, form, only = ACTIONS, license = null,
  url = FORMS[form](base, media)}) {
  const began_ms = performance.now();
  const steps = [];
  const facts = {};
  const context = await browser.newContext({viewport: {width: 640, height: 360}, locale: 'en-GB'});
  const step = async (name, action) => {
    const step_began_ms = performance.now();
    const outcome = {name, ok: true, detail: ''};
    try {
      outcome.detail = await action() ?? '';
    } catch (error) {
      outcome.ok = false;
      outcome.detail = firstLine(error);
    }
    outcome.took_s = (performance.now() - step_began_ms) / 1000;
    steps.push(outcome);
    return outcome.ok;
  };
  try {
    const page = await context.newPage();
    const log = record(page);
    const viewer = new Viewer(page, log);
    const begun = await step('manifest', () => viewer.describe(url)) &&
      await step('start', () => viewer.start(harness, player, url, license));
    if (begun) {
      for (const name of only) await step(name, () => viewer[name]());
    }
    facts.pictures = viewer.pictures_seen;
    await step('health', () => viewer.health(facts));
  } catch (error) {
    steps.push({name: 'harness', ok: false, detail: firstLine(error), took_s: 0});
  } finally {
    await context.close();
  }
  const took_s = (performance.now() - began_ms) / 1000;
  return {player, form, ok: steps.every(({ok}) => ok), took_s, steps, facts};
}

export function firstLine(error) {
  return String(error?.message ?? error).split('\n')[0].replace(/^page\.evaluate: (Error: )?/, '');
}

const moves = ({time_s, paused, width}) => time_s > 0.1 && !paused && width > 0;

/** One who watches: what is on the screen is asked of the page, what was fetched of the wire. */
export class Viewer {
  constructor(page, log) {
    this.page = page;
    this.log = log;
    this.pictures_seen = [];
  }

  state() {
    return this.page.evaluate(() => window.harness.state());
  }

  /** Waits for a state; a failure of the player or the network ends the wait at once. */
  async until(what, deadline_s, accept) {
    let last = null;
    return until(what, deadline_s, async () => {
      last = await this.state();
      const reason = this.reasons(last)[0];
      if (reason) throw new Error(`${what}: ${reason}`);
      return await accept(last) ? last : null;
    }, () => last && `at ${last.time_s.toFixed(2)} s, ready state ${last.ready}, buffered ${last.buffered.map(([from, to]) => `${from.toFixed(2)}–${to.toFixed(2)}`).join(' ')}${last.paused ? ', paused' : ''}${last.ended ? ', ended' : ''}${last.seeking ? ', seeking' : ''}, ${last.width}×${last.height}, active ${JSON.stringify(last.active)}`);
  }

  reasons(state) {
    return [...state?.failures ?? [], ...this.log.failures];
  }

  /** The distinct segments of a kind that were fetched whole, counted from request `since`. */
  fetched(kind, since = 0) {
    const segments = new Map();
    for (const {url, range, status} of this.log.done.slice(since)) {
      const found = this.presentation.find(url, range);
      if (found?.rendition.kind === kind && status < 400) segments.set(found.segment.key, found);
    }
    return [...segments.values()];
  }

  async describe(url) {
    this.presentation = await read(url);
    this.has_thumbnails = /thumbnail_tile|EXT-X-IMAGE-STREAM-INF/.test(await (await fetch(url)).text());
    const {video, audio, text, duration_s} = this.presentation;
    return `${video.length} video, ${audio.length} audio, ${text.length} text, ${duration_s.toFixed(1)} s`;
  }

  /** Opens the title; `begun` says of a state whether it plays. */
  async start(harness, player, url, license, deadline_s = 20, begun = moves) {
    await this.page.goto(`${harness}/`);
    const began_ms = performance.now();
    this.tracks = await this.page.evaluate(([limit_s, name, library, ...addresses]) => {
      const opened = window.harness.open(name, library, ...addresses);
      const late = new Promise((_, reject) => setTimeout(() =>
        reject(new Error(`not open within ${limit_s} s: ${window.harness.state().failures.join('; ')}`)), limit_s * 1000));
      return Promise.race([opened, late]);
    }, [deadline_s, player, LIBRARIES[player], url, license]);
    const first = await this.until('first frame moves', deadline_s, begun);
    this.begin = {frame_count: first.frame_count, shown_count: first.shown_count, dropped_count: first.dropped_count, waiting_count: first.waiting_count};
    const {video, audio, text} = this.tracks;
    return `first frame after ${((performance.now() - began_ms) / 1000).toFixed(1)} s; sees ${video.length} video, ${audio.length} audio, ${text.length} text`;
  }

  async borders() {
    const segments = this.presentation.video[0].segments;
    const border_count = Math.min(BORDER_COUNT, segments.length - 1);
    if (border_count < 1) return 'one segment only';
    const target_s = segments[border_count].start_s + 0.2;
    await this.until(`play over ${border_count} segment borders, to ${target_s.toFixed(1)} s`, target_s * 1.5 + 15,
      (state) => state.time_s >= target_s);
    const numbers = new Set(this.fetched('video').map(({rendition, segment}) => rendition.segments.indexOf(segment)));
    if (numbers.size < border_count + 1) {
      throw new Error(`played to ${target_s.toFixed(1)} s, but only video segments ${[...numbers].join(', ')} of the manifest were asked for`);
    }
    return `${border_count} borders, ${numbers.size} segments`;
  }

  async advance(what, by_s = 1) {
    const from = await this.state();
    return this.until(`${what}: play on for ${by_s} s`, by_s * 3 + 10, (state) => !state.seeking && state.time_s >= from.time_s + by_s);
  }

  async goTo(to_s) {
    await this.page.evaluate((time_s) => window.harness.seek(time_s), to_s);
    const by_s = 1;
    await this.until(`seek to ${to_s.toFixed(1)} s and play on`, 15,
      (state) => !state.seeking && state.time_s >= to_s + by_s && state.time_s < to_s + by_s + 8);
  }

  async seek() {
    const {duration_s} = this.presentation;
    const forward_s = duration_s * 0.6;
    const back_s = duration_s * 0.15;
    await this.goTo(forward_s);
    const there = this.fetched('video').some(({segment}) => segment.start_s <= forward_s && segment.end_s > forward_s);
    if (!there) throw new Error(`no video segment at ${forward_s.toFixed(1)} s was asked for`);
    await this.goTo(back_s);
    return `to ${forward_s.toFixed(1)} s and back to ${back_s.toFixed(1)} s`;
  }

  /** Goes back when too little is left to play the next step. */
  async room(need_s = 8) {
    const {time_s, ended} = await this.state();
    if (ended || time_s + need_s > this.presentation.duration_s) await this.goTo(this.presentation.duration_s * 0.1);
  }

  async quality() {
    const seen = [];
    const videos = [...this.tracks.video].sort((a, b) => a.bandwidth_bps - b.bandwidth_bps);
    if (videos.length < 2) return 'one rendition only';
    const before = await this.state();
    const current = videos.findIndex(({id}) => id === before.active.video);
    // The one that plays now comes last: it must be returned to.
    const order = [...videos.slice(current + 1), ...videos.slice(0, current + 1)];
    for (const {id, width, height} of order) {
      await this.room();
      const from = await this.state();
      await this.page.evaluate(([kind, track]) => window.harness.pick(kind, track), ['video', id]);
      // With non-square samples the shown size is not the coded one, so a change of size is taken as well.
      const same_size = this.tracks.video.filter((other) => other.height === height).length > 1;
      await this.until(`switch to ${width}×${height}`, 15, (state) => state.active.video === id &&
        (Math.abs(state.height - height) <= 2 || same_size || (from.active.video !== id && (state.height !== from.height || state.width !== from.width))));
      const after = await this.advance(`after the switch to ${width}×${height}`);
      seen.push(`${after.height}p`);
    }
    const heights = new Set(this.fetched('video').map(({rendition}) => rendition.height));
    const missing = videos.filter(({height}) => !heights.has(height)).map(({height}) => `${height}p`);
    if (missing.length > 0) throw new Error(`no segment of ${missing.join(', ')} was ever asked for`);
    return seen.join(' → ');
  }

  async audio() {
    const {audio} = this.tracks;
    const told = new Set(this.presentation.audio.map(({language}) => primary(language))).size;
    const known = new Set(audio.map(({language}) => primary(language))).size;
    if (known < told) throw new Error(`the manifest names ${told} audio languages, the player sees ${known}`);
    if (known < 2) return 'one language only';
    const first = (await this.state()).active.audio;
    const other = audio.find(({id, language}) => id !== first && language !== audio.find((track) => track.id === first)?.language);
    await this.room(14);
    const seen = [];
    for (const {id, language, label} of [other, audio.find((track) => track.id === first)].filter(Boolean)) {
      await this.room();
      const since = this.log.done.length;
      await this.page.evaluate(([kind, track]) => window.harness.pick(kind, track), ['audio', id]);
      await this.until(`switch audio to ${language}`, 10, (state) => state.active.audio === id);
      const separate = this.presentation.audio.filter((rendition) => rendition.segments?.length > 0 && sameLanguage(rendition.language, language));
      if (separate.length > 0) {
        await this.until(`audio segments of ${language} are fetched`, 10, () =>
          this.fetched('audio', since).some(({rendition}) => separate.includes(rendition)));
      }
      await this.advance(`after the switch to ${label || language}`);
      seen.push(language);
    }
    return seen.join(' → ');
  }

  async subtitles() {
    const {text} = this.tracks;
    if (this.presentation.text.length > 0 && text.length === 0) {
      throw new Error(`the manifest names ${this.presentation.text.length} text renditions, the player sees none`);
    }
    if (text.length === 0) return 'none';
    const {id, language} = text[0];
    await this.page.evaluate(([kind, track]) => window.harness.pick(kind, track), ['text', id]);
    await this.until(`text ${language} becomes active`, 10, (state) => state.active.text === id);
    const cue = await this.firstCue(language);
    if (!(await this.state()).shown) await this.goTo(Math.max(0, cue - 1.2));
    const {shown} = await this.until(`a cue of ${language} is shown`, 12, (state) => state.shown.trim() !== '');
    await this.advance('with subtitles');
    return `${language}: "${shown.trim().replace(/\s+/g, ' ').slice(0, 40)}"`;
  }

  /** Where the manifest has them, pictures of two times lie in two places, whole on their sheets. */
  async thumbnails() {
    if (!this.has_thumbnails) return 'none';
    const places = [];
    for (const share of [0.1, 0.8]) {
      const found = await this.page.evaluate((time_s) => window.harness.thumbnail(time_s), this.presentation.duration_s * share);
      if (typeof found === 'string') return found;
      if (!found) throw new Error(`no thumbnail at ${share} of the film`);
      const {x, y, width, height, sheet} = found;
      if (x + width > sheet.width || y + height > sheet.height || sheet.width % width || sheet.height % height) {
        throw new Error(`${width}×${height} at ${x},${y} of a sheet of ${sheet.width}×${sheet.height}`);
      }
      places.push(`${found.url.split('/').pop()} ${x},${y}`);
    }
    if (places[0] === places[1]) throw new Error(`one thumbnail for all times: ${places[0]}`);
    return places.join(' → ');
  }

  /** Takes what the largest rendition shows at two times in the middle of a frame, for one who compares. */
  async pictures() {
    const {id, height} = this.tracks.video.reduce((one, other) => other.bandwidth_bps > one.bandwidth_bps ? other : one);
    if ((await this.state()).active.video !== id) {
      await this.room();
      await this.page.evaluate((track) => window.harness.pick('video', track), id);
      await this.until(`switch to ${height} lines`, 15, (state) => state.active.video === id && Math.abs(state.height - height) <= 2);
    }
    const times_s = [0.2, 0.7].map((share) => Math.floor(this.presentation.duration_s * share) + 0.5);
    for (const time_s of times_s) {
      await this.page.evaluate((at_s) => window.harness.still(at_s), time_s);
      // From the screen: a page may not read the frames of protected media.
      const shot = await this.page.locator('#video').screenshot({type: 'png'});
      const picture = `data:image/png;base64,${shot.toString('base64')}`;
      this.pictures_seen.push(await this.page.evaluate((url) => window.harness.brightness(url), picture));
    }
    return `at ${times_s.join(' s and ')} s`;
  }

  /** When the first cue still to come starts; sparse subtitles are looked for along the whole title. */
  async firstCue(language) {
    for (const share of [null, 0.05, 0.3, 0.55, 0.8]) {
      if (share !== null) await this.goTo(this.presentation.duration_s * share);
      try {
        const {cues, time_s} = await this.until('cues', share === null ? 6 : 3, (state) => state.cues.length > 0);
        const ahead = cues.map(([start_s]) => start_s).filter((start_s) => start_s > time_s + 0.5);
        return ahead.length > 0 ? Math.min(...ahead) : cues[0][0];
      } catch (error) {
        if (!/^cues: not within/.test(error.message)) throw error;
      }
    }
    throw new Error(`text ${language} is active, but not one cue was read`);
  }

  async health(facts) {
    const state = await this.state().catch(() => null);
    Object.assign(facts, {
      requests: this.log.done.length,
      warnings: state?.warnings ?? [],
      console: this.log.console,
    });
    const reasons = this.reasons(state);
    if (reasons.length > 0) throw new Error([...new Set(reasons)].slice(0, 6).join('; '));
    if (!state || !this.begin) throw new Error('never started');
    facts.frame_count = state.frame_count - this.begin.frame_count;
    facts.shown_count = state.shown_count - this.begin.shown_count;
    facts.dropped_count = state.dropped_count - this.begin.dropped_count;
    facts.waiting_count = state.waiting_count - this.begin.waiting_count;
    // The clock of the element goes on without a picture, too.
    if (facts.frame_count <= 0 || facts.shown_count <= 0) throw new Error('the clock went on, but no frame was shown');
    const ratio = facts.frame_count > 0 ? facts.dropped_count / facts.frame_count : 0;
    const summary = `${facts.dropped_count} of ${facts.frame_count} frames dropped, ${facts.waiting_count} waits`;
    if (ratio >= DROPPED_RATIO_MAX) throw new Error(summary);
    return summary;
  }
}

/** The primary language of a tag, in its shortest form: `eng` and `en-GB` are both `en`. */
function primary(tag) {
  try {
    return new Intl.Locale(tag).language;
  } catch {
    return tag;
  }
}

function sameLanguage(a, b) {
  return primary(a) === primary(b);
}
