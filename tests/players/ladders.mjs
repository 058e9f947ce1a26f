// Ladders of many titles: each rung is forced in turn while the title plays, and has to be what is shown.
import {readFile} from 'node:fs/promises';
import {atOnce, launch, record} from './browser.mjs';
import {firstLine, FORMS, Viewer} from './play.mjs';
import {read} from './presentation.mjs';

// Who plays which form.
const CASES = [['hls.js', 'hls-cmaf'], ['shaka', 'dash'], ['shaka', 'hls-cmaf'], ['dash.js', 'dash']];

// Small pictures are decoded quickly: most of a case is waiting for the clock.
const AT_ONCE = 6;
// Others may be at work on the machine; what fails here is hung.
const DEADLINE_S = 60;
// How long a rung is watched before the next is forced.
const STAY_S = 1.2;
// So much more must be left before the end when a rung is forced: the clock may go on until it is shown.
const ROOM_S = 1.5;
// A title without the room for two rungs is played from start to end on each.
const WHOLE_S = STAY_S + ROOM_S;
// A title of sound alone is heard so long.
const HEARD_S = 3;
// A rung that shows fewer pictures a second than this part of what another one shows hangs, where those are enough to count.
const RATE_RATIO_MIN = 0.25;
const PICTURE_COUNT_MIN = 12;
// What the clock says at the end of a title may be short of the manifest's rounded times.
const END_S = 0.3;
// Who begins later is noted.
const GAP_S = 0.1;
// Sound may be a frame of AAC away from where it belongs beside the pictures. Some drop its last frame: it seems early by one.
const FRAME = 1024;
const SAMPLE_RATE = 44_100;
// How long what was fetched last may take into its buffer.
const SYNC_DEADLINE_S = 15;
// hls.js 1.7 does not end most streams with tracks shorter than this, be they made by ffmpeg, and without an end Chromium shows
// nothing of them.
const HLS_JS_MIN_S = 0.2;
// HTMLMediaElement.HAVE_CURRENT_DATA: the picture at the clock's time is there.
const HAVE_CURRENT_DATA = 2;
// Segments that touch a time by less were not needed for it.
const ROUNDING_S = 0.005;

const standing = ({seeking, ready}) => !seeking && ready >= HAVE_CURRENT_DATA;
const sameSize = (one, other) => one.width === other.width && one.height === other.height;

/** The titles of a file as `headwater library DIR --json` prints it: {id, name, refused}, `refused` if the origin serves none. */
export async function listed(file) {
  const lines = (await readFile(file, 'utf8')).split('\n').filter(Boolean);
  // Each ladder lies in a folder named after its source; what is in there is named after the source's stem.
  return lines.map((line) => JSON.parse(line)).map(({id, path, playable, ...rest}) => ({
    id,
    name: path.split('/').slice(0, -1).join('/') || path,
    refused: playable ? null : `not playable: ${JSON.stringify(rest)}`,
  }));
}

/** Runs every case and never throws; results have the shape of `play`'s, with `name` of the title and `skipped`. */
export async function ladders({base, titles, players, forms, executable, harness, report}) {
  let browser = launch({executable});
  // A browser that died takes along those that played in it, and nobody after them.
  const current = async () => {
    const used = browser;
    if ((await used).isConnected()) return used;
    if (browser === used) browser = launch({executable});
    return browser;
  };
  const wanted = CASES.filter(([player, form]) => players.includes(player) && forms.includes(form));
  const jobs = titles.flatMap((title) => wanted.map(([player, form]) => () =>
    ladder({current, harness, base, title, player, form})));
  try {
    return await atOnce(AT_ONCE, jobs, report);
  } finally {
    await (await browser).close();
  }
}

/** Runs one case and never throws; `current` gives the browser. */
export async function ladder({current, harness, base, title, player, form}) {
  const began_ms = performance.now();
  const result = {name: title.name, player, form, ok: false, skipped: null, steps: [], facts: {}};
  let context = null;
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
    result.steps.push(outcome);
    return outcome.ok;
  };
  try {
    if (title.refused) throw new Error(title.refused);
    const url = FORMS[form](base, title.id);
    context = await (await current()).newContext({viewport: {width: 640, height: 360}, locale: 'en-GB'});
    const page = await context.newPage();
    const climber = new Climber(page, record(page));
    if (await step('manifest', () => climber.describe(url))) {
      await page.goto(`${harness}/`);
      result.skipped = await climber.unplayable();
      if (!result.skipped) {
        if (await step('start', () => climber.beginWith(harness, player, url, result.facts))) {
          await step('sync', () => climber.sync(FORMS.dash(base, title.id)));
          await step('rungs', () => climber.climb());
        }
        await step('health', () => climber.well(result.facts));
        const failed = result.steps.filter(({ok}) => !ok);
        result.skipped = failed.length === 1 ? climber.excuse(player, failed[0]) : null;
        if (result.skipped) result.steps = result.steps.filter(({ok}) => ok);
      }
    }
  } catch (error) {
    result.steps.push({name: 'harness', ok: false, detail: firstLine(error), took_s: 0});
  } finally {
    await context?.close().catch((error) =>
      result.steps.push({name: 'harness', ok: false, detail: firstLine(error), took_s: 0}));
  }
  result.ok = result.steps.every(({ok}) => ok);
  result.took_s = (performance.now() - began_ms) / 1000;
  return result;
}

/** A viewer who goes from rung to rung. */
class Climber extends Viewer {
  /** Why this browser can not play the title at all, or `null`: it has no decoder for any rendition of a kind. */
  async unplayable() {
    for (const kind of ['video', 'audio']) {
      const told = this.presentation[kind];
      const able = await Promise.all(told.map((rendition) => this.decodes(rendition)));
      this[`${kind}s`] = told.filter((_, index) => able[index]);
      if (told.length > 0 && this[`${kind}s`].length === 0) {
        return `the browser has no decoder for ${[...new Set(told.flatMap(({codecs}) => codecs))].join(', ')}`;
      }
    }
    return null;
  }

  /** Why what `failed` is no wonder, or `null`. */
  excuse(player, failed) {
    const ends_s = [this.videos, this.audios].filter(({length}) => length > 0).map((renditions) =>
      Math.max(...renditions.map(({segments}) => segments.at(-1).end_s)));
    const end_s = Math.min(...ends_s);
    const starved = player === 'hls.js' && ends_s.length === 2 && end_s < HLS_JS_MIN_S &&
      /not within .*, ready state 1,/.test(failed.detail);
    return starved ? `hls.js did not begin: sound or pictures end after ${end_s.toFixed(2)} s` : null;
  }

  decodes({kind, codecs}) {
    const types = codecs.map((codec) => `${kind}/mp4; codecs="${codec}"`);
    return this.page.evaluate((all) => all.every((type) => MediaSource.isTypeSupported(type)), types);
  }

  async beginWith(harness, player, url, facts) {
    const pictures = this.videos.length > 0;
    // A title of a moment may have ended before it is looked at.
    const begun = (state) => (state.time_s > 0 && !state.paused || state.ended) && (state.width > 0 || !pictures) &&
      state.buffered.length > 0;
    const detail = await this.start(harness, player, url, null, DEADLINE_S, begun);
    // Where sound begins late or pictures do, players begin where there is both.
    const [[first_s]] = (await this.state()).buffered;
    // Within the first picture: rounded down, it would be a time that no segment has.
    this.begin_s = first_s > 0 ? first_s + ROUNDING_S : 0;
    if (first_s > GAP_S) facts.note = `the player begins at ${first_s.toFixed(2)} s, where there are sound and pictures`;
    return [detail, facts.note].filter(Boolean).join('; ');
  }

  /**
   * The player has put sound and pictures as far apart as they are. HLS says of that nothing outside the media, so DASH is asked.
   * Ends of what is in the buffers are compared: what a player puts before zero is cut off at the other end.
   */
  async sync(dash_url) {
    if (this.videos.length === 0 || this.audios.length === 0) return 'one kind alone';
    const told = await read(dash_url);
    let detail = '';
    const fits = ({tracks}) => {
      const [video, audio] = ['video', 'audio'].map((kind) => ({
        end_s: tracks.find(({type, buffered}) => type.startsWith(`${kind}/`) && buffered.length > 0)?.buffered.at(-1)[1],
        last: this.lastInRow(kind),
      }));
      if ([video, audio].some(({end_s, last}) => end_s === undefined || last < 0)) return false;
      const apart = told.audio.map(({segments}) => segments[audio.last]?.end_s - told.video[0].segments[video.last]?.end_s);
      const late = apart.map((apart_s) => audio.end_s - video.end_s - apart_s);
      detail = `sound to ${audio.end_s.toFixed(3)} s, pictures to ${video.end_s.toFixed(3)} s; told ` +
        `${[...new Set(apart.map((apart_s) => apart_s.toFixed(3)))].join(', ')} s apart`;
      return late.some((late_s, index) => {
        const frame_s = FRAME / (told.audio[index].sample_rate || SAMPLE_RATE);
        return late_s >= -frame_s - ROUNDING_S && late_s <= frame_s / 2;
      });
    };
    try {
      await this.until('sound and pictures are as far apart as they are', SYNC_DEADLINE_S, fits);
    } catch (error) {
      throw new Error(`${detail}: ${firstLine(error)}`, {cause: error});
    }
    return detail;
  }

  /** The last segment of a kind up to which all are fetched, by its place; players look at the end of a long title as well. */
  lastInRow(kind) {
    const got = new Set(this.fetched(kind).map(({rendition, segment}) => rendition.segments.indexOf(segment)));
    let count = 0;
    while (got.has(count)) count += 1;
    return count - 1;
  }

  climb() {
    return this.videos.length > 0 ? this.rungs() : this.listen();
  }

  /** Title of sound alone. */
  async listen() {
    const target_s = Math.min(HEARD_S, this.presentation.duration_s);
    const {time_s} = await this.until(`is heard to ${target_s.toFixed(1)} s`, DEADLINE_S, (state) => state.time_s >= target_s ||
      state.ended && state.time_s >= target_s - END_S);
    await this.until('a segment of sound is fetched', DEADLINE_S, () => this.fetched('audio').length > 0);
    return `sound alone, to ${time_s.toFixed(1)} s`;
  }

  /** Forces each rung once, and at last the one that played first. */
  async rungs() {
    const tracks = this.tracks.video.filter(({height}) => height > 0).sort((a, b) => a.bandwidth_bps - b.bandwidth_bps);
    // To some players the same pictures beside other sound are another track.
    const known = tracks.filter((track, index) => tracks.findIndex((other) => sameSize(other, track)) === index);
    const missing = this.videos.filter((rendition) => !known.some((track) => sameSize(track, rendition)));
    if (missing.length > 0) {
      throw new Error(`the player does not see ${missing.map(({width, height}) => `${width}×${height}`).join(', ')}`);
    }
    const {active} = await this.state();
    const playing = tracks.find(({id}) => id === active.video) ?? known[0];
    const first = known.findIndex((rung) => sameSize(rung, playing));
    const order = [...known.slice(first + 1), ...known.slice(0, first + 1)];
    const visits = [];
    for (const rung of order) visits.push(await this.visit(rung));
    const rates = visits.map(({rate}) => rate).filter((rate) => rate !== null);
    const most = Math.max(0, ...rates);
    const poor = visits.find(({rate}) => rate !== null && rate < most * RATE_RATIO_MIN);
    if (poor && most * STAY_S >= PICTURE_COUNT_MIN) {
      throw new Error(`${poor.height}p has ${poor.rate.toFixed(1)} pictures a second from ${poor.from_s.toFixed(2)} to ` +
        `${poor.to_s.toFixed(2)} s, another rung ${most.toFixed(1)}`);
    }
    return visits.map(({height, shown_count}) => `${height}p ${shown_count}`).join(' → ');
  }

  /** Stays on a rung until its pictures are on the screen and the clock has gone on; starts over where the end is near. */
  async visit(rung) {
    const {width, height} = rung;
    const name = `rung ${width}×${height}`;
    const {duration_s} = this.presentation;
    const whole = duration_s - this.begin_s < WHOLE_S;
    const before = await this.state();
    const shown = (state) => (state.shown_by_height[height] ?? 0) - (before.shown_by_height[height] ?? 0);
    if (whole) await this.forceHeld(rung, name);
    else await this.forceAtPlay(rung);
    let from = null;
    const last = await this.until(name, DEADLINE_S, async (state) => {
      const there = state.active.video === rung.id && state.height === height && !state.seeking && shown(state) > 0;
      if (!there || state.time_s < from?.time_s) from = null;
      // A first picture may be shown for long: the clock counts from the second one on.
      if (there && shown(state) > 1) from ??= state;
      if (there && whole && state.ended && state.time_s >= duration_s - END_S) return true;
      if (from && !whole && state.time_s >= from.time_s + STAY_S) return true;
      // Played to the end before the rung was there, or before it was watched for long enough.
      if (state.ended) {
        await this.rewind();
        from = null;
      }
      return false;
    });
    const [from_s, to_s] = whole ? [this.begin_s, duration_s] : [from.time_s, last.time_s];
    await this.until(`${name}: its segments from ${from_s.toFixed(2)} to ${to_s.toFixed(2)} s are fetched`, DEADLINE_S,
      () => this.has(rung, from_s, to_s));
    const rate = whole ? null : (last.frame_count - from.frame_count) / (last.time_s - from.time_s);
    return {height, shown_count: shown(last), rate, from_s, to_s};
  }

  /** Forces a rung while the title plays, from its start where the end is near. */
  async forceAtPlay(rung) {
    const {time_s, ended} = await this.state();
    if (ended || time_s + STAY_S + ROOM_S > this.presentation.duration_s) {
      await this.rewind();
      await this.until('plays on from the start', DEADLINE_S, (state) =>
        !state.seeking && state.time_s > this.begin_s && state.time_s < time_s);
    }
    await this.pick(rung);
  }

  /** Forces a rung at the start of a title that stands still, and lets go when it is there: the clock would be over before. */
  async forceHeld(rung, name) {
    await this.page.evaluate((time_s) => window.harness.hold(time_s), this.begin_s);
    const {active} = await this.until('stands still at the start', DEADLINE_S, standing);
    const since = this.log.done.length;
    await this.pick(rung);
    if (active.video !== rung.id) {
      await this.until(`${name}: is fetched`, DEADLINE_S, (state) => state.active.video === rung.id && standing(state) &&
        this.fetched('video', since).some(({rendition}) => sameSize(rendition, rung)));
    }
    await this.rewind();
  }

  pick({id}) {
    return this.page.evaluate((track) => window.harness.pick('video', track), id);
  }

  rewind() {
    return this.page.evaluate((time_s) => window.harness.seek(time_s), this.begin_s);
  }

  /** Whether all segments were fetched that a rung has between two times; where two are of one size, either's. */
  has(rung, from_s, to_s) {
    const got = new Set(this.fetched('video').map(({segment}) => segment));
    return this.videos.filter((rendition) => sameSize(rendition, rung)).some(({segments}) => {
      const needed = segments.filter(({start_s, end_s}) => start_s < to_s - ROUNDING_S && end_s > from_s + ROUNDING_S);
      return needed.length > 0 && needed.every((segment) => got.has(segment));
    });
  }

  async well(facts) {
    // Requests that are under way may still fail.
    const state = await this.state();
    Object.assign(facts, {requests: this.log.done.length, warnings: state.warnings, console: this.log.console,
      frame_count: state.frame_count, dropped_count: state.dropped_count, waiting_count: state.waiting_count});
    const reasons = this.reasons(state);
    if (reasons.length > 0) throw new Error([...new Set(reasons)].slice(0, 6).join('; '));
    if (this.audios.length > 0 && state.heard_byte_count === 0) throw new Error('no sound came through the decoder');
    return `${state.dropped_count} of ${state.frame_count} frames dropped, ${state.waiting_count} waits`;
  }
}

/** One line a case, and every step of what failed. */
export function report({name, player, form, ok, skipped, took_s, steps}) {
  const word = skipped ? 'SKIPPED' : ok ? 'pass' : 'FAIL';
  const done = steps.find((step) => step.name === 'rungs')?.detail ?? '';
  console.log(`${word.padEnd(7)}  ${name}  ${player} ${form}  ${took_s.toFixed(1)} s  ${skipped ?? (ok ? done : '')}`.trimEnd());
  if (ok) return;
  for (const step of steps) {
    console.log(`  ${step.ok ? ' ok ' : 'FAIL'}  ${step.name.padEnd(8)} ${step.took_s.toFixed(1).padStart(5)} s  ${step.detail}`);
  }
}

/** The table of all titles, then what was skipped and what failed, and the counts. */
export function conclude(results, took_s) {
  const cases = [...new Set(results.map(({player, form}) => `${player} ${form}`))];
  const titles = new Map();
  for (const result of results) titles.set(result.name, [...titles.get(result.name) ?? [], result]);
  const head = ['title', 'rungs', ...cases, 's'];
  const rows = [...titles].map(([name, own]) => {
    const words = cases.map((column) => {
      const result = own.find(({player, form}) => `${player} ${form}` === column);
      return result ? (result.skipped ? 'skipped' : result.ok ? 'ok' : 'FAIL') : '-';
    });
    const told = own[0].steps.find((step) => step.name === 'manifest')?.detail.match(/^\d+/)?.[0] ?? '-';
    return [name, told, ...words, own.reduce((sum, {took_s: own_s}) => sum + own_s, 0).toFixed(1)];
  });
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  console.log('');
  for (const row of [head, ...rows]) {
    console.log(row.map((cell, column) => cell.padEnd(widths[column])).join('  ').trimEnd());
  }
  const skipped = results.filter((result) => result.skipped);
  const failed = results.filter(({ok}) => !ok);
  console.log('');
  for (const {name, player, form, skipped: reason} of skipped) console.log(`SKIPPED  ${name}  ${player} ${form}: ${reason}`);
  for (const {name, player, form, steps} of failed) {
    const first = steps.find(({ok}) => !ok);
    console.log(`FAILED   ${name}  ${player} ${form}: ${first.name}: ${first.detail}`);
  }
  const noted = results.filter(({facts}) => facts.note);
  for (const {name, player, form, facts} of noted) console.log(`NOTE     ${name}  ${player} ${form}: ${facts.note}`);
  console.log(`${titles.size} titles, ${results.length} cases: ${results.length - failed.length - skipped.length} passed, ` +
    `${failed.length} failed, ${skipped.length} skipped, in ${(took_s / 60).toFixed(1)} min`);
}
