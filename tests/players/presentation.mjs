// A presentation as its manifests describe it: renditions and the address and time of each segment.
//
// Read independently of any player, so that what a player asks for can be compared with what it was told.

/**
 * A segment: `key` names its bytes (address, and range if it is part of a file), times are seconds from the start.
 * @typedef {{key: string, start_s: number, end_s: number}} Segment
 * A rendition; `segments` is null if its bytes travel inside another rendition.
 * @typedef {{kind: 'video'|'audio'|'text', id: string, language: string, label: string, width: number, height: number,
 *   bandwidth_bps: number, codecs: string[], segments: Segment[]|null}} Rendition
 * DASH also tells the `sample_rate` of sound, 0 where it does not.
 */

// Every other codec is one of pictures.
const SOUND = /^(mp4a|ac-[34]|ec-3|opus|flac|alac|dts|mp3)/i;
const TEXT = /^(wvtt|stpp)/;
const TRICK_MODE = 'http://dashif.org/guidelines/trickmode';

/** Reads the presentation at `url`: `.mpd` is DASH, everything else HLS. */
export async function read(url) {
  const renditions = new URL(url).pathname.endsWith('.mpd') ? await readDash(url) : await readHls(url);
  const byKey = new Map();
  for (const rendition of renditions) {
    for (const segment of rendition.segments ?? []) byKey.set(segment.key, {rendition, segment});
  }
  const video = renditions.filter((rendition) => rendition.kind === 'video');
  const audio = renditions.filter((rendition) => rendition.kind === 'audio');
  const main = video.length > 0 ? video : audio;
  if (main.length === 0) throw new Error(`${url}: no video rendition, and no audio rendition`);
  if (!main.some((rendition) => rendition.segments?.length > 0)) throw new Error(`${url}: no ${main[0].kind} segment`);
  return {
    url,
    video,
    audio,
    text: renditions.filter((rendition) => rendition.kind === 'text'),
    duration_s: Math.max(...main.flatMap((rendition) => (rendition.segments ?? []).map((segment) => segment.end_s))),
    /** The segment that a finished request was for, or undefined. */
    find: (request_url, range) => byKey.get(keyOf(request_url, range)) ?? byKey.get(keyOf(request_url, null)),
  };
}

/** `range` is "first-last" in bytes, both included, or null for the whole resource. */
function keyOf(url, range) {
  return range ? `${url}#${range}` : url;
}

async function text(url) {
  const answer = await fetch(url, {signal: AbortSignal.timeout(15_000)});
  if (!answer.ok) throw new Error(`${url}: answered ${answer.status}`);
  return answer.text();
}

// ---- HLS (RFC 8216) ----

async function readHls(url) {
  const lines = (await text(url)).split(/\r?\n/);
  if (lines[0].trim() !== '#EXTM3U') throw new Error(`${url}: does not start with #EXTM3U`);
  const found = [];
  const codecs_of_group = {};
  for (const [index, line] of lines.entries()) {
    if (line.startsWith('#EXT-X-STREAM-INF:')) {
      const attributes = attributeList(line);
      const next = lines.slice(index + 1).find((candidate) => candidate && !candidate.startsWith('#'));
      if (!next) throw new Error(`${url}: EXT-X-STREAM-INF without an address`);
      const [width, height] = (attributes.RESOLUTION ?? '0x0').split('x').map(Number);
      const codecs = (attributes.CODECS ?? '').split(',').filter(Boolean);
      for (const codec of codecs) {
        if (attributes.AUDIO && SOUND.test(codec)) (codecs_of_group[attributes.AUDIO] ??= new Set()).add(codec);
      }
      // A variant of sound alone, whose rendition is in a group as well.
      if (codecs.length > 0 && codecs.every((codec) => SOUND.test(codec)) && attributes.AUDIO) continue;
      found.push({kind: 'video', uri: next.trim(), language: '', label: '', width, height,
        bandwidth_bps: Number(attributes.BANDWIDTH), codecs: codecs.filter((codec) => !SOUND.test(codec) && !TEXT.test(codec))});
    } else if (line.startsWith('#EXT-X-MEDIA:')) {
      const attributes = attributeList(line);
      const kind = {AUDIO: 'audio', SUBTITLES: 'text'}[attributes.TYPE];
      if (!kind) continue;
      found.push({kind, uri: attributes.URI, language: attributes.LANGUAGE ?? '', label: attributes.NAME ?? '',
        width: 0, height: 0, bandwidth_bps: 0, codecs: [], group: attributes['GROUP-ID']});
    }
  }
  // Variants may differ by audio group alone and then share their video playlist.
  const seen = new Set();
  const once = found.filter(({kind, uri}) => !uri || !seen.has(kind + uri) && seen.add(kind + uri));
  return Promise.all(once.map(async ({uri, group, ...rendition}) => ({
    ...rendition,
    codecs: rendition.kind === 'audio' ? [...codecs_of_group[group] ?? []] : rendition.codecs,
    id: uri ?? `${rendition.kind}-${rendition.language}`,
    segments: uri ? await mediaPlaylist(new URL(uri, url).href) : null,
  })));
}

async function mediaPlaylist(url) {
  const segments = [];
  let at_s = 0;
  let duration_s = 0;
  let range = null;
  let next_offset = 0;
  for (const raw of (await text(url)).split(/\r?\n/)) {
    const line = raw.trim();
    if (line.startsWith('#EXTINF:')) {
      duration_s = Number.parseFloat(line.slice(8));
    } else if (line.startsWith('#EXT-X-BYTERANGE:')) {
      const [length, offset] = line.slice(17).split('@').map(Number);
      const first = Number.isNaN(offset) || offset === undefined ? next_offset : offset;
      range = `${first}-${first + length - 1}`;
      next_offset = first + length;
    } else if (line && !line.startsWith('#')) {
      segments.push({key: keyOf(new URL(line, url).href, range), start_s: at_s, end_s: at_s + duration_s});
      at_s += duration_s;
      range = null;
    }
  }
  return segments;
}

function attributeList(line) {
  const attributes = {};
  for (const [, name, quoted, bare] of line.matchAll(/([A-Z0-9-]+)=(?:"([^"]*)"|([^,]*))/g)) {
    attributes[name] = quoted ?? bare;
  }
  return attributes;
}

// ---- DASH (ISO/IEC 23009-1) ----

async function readDash(url) {
  const mpd = parseXml(await text(url));
  if (mpd.name !== 'MPD') throw new Error(`${url}: root element is ${mpd.name}, not MPD`);
  const renditions = new Map();
  const mpd_base = resolve(url, mpd);
  let period_start_s = 0;
  for (const period of children(mpd, 'Period')) {
    if (period.attributes.start) period_start_s = seconds(period.attributes.start);
    const stated = period.attributes.duration ?? mpd.attributes.mediaPresentationDuration;
    const period_duration_s = stated ? seconds(stated) : Infinity;
    const period_base = resolve(mpd_base, period);
    for (const set of children(period, 'AdaptationSet')) {
      // Key frames alone, for who winds to and fro.
      if (children(set, 'EssentialProperty').some(({attributes}) => attributes.schemeIdUri === TRICK_MODE)) continue;
      const set_base = resolve(period_base, set);
      for (const representation of children(set, 'Representation')) {
        const attribute = (name) => representation.attributes[name] ?? set.attributes[name] ?? '';
        const kind = dashKind(attribute('contentType'), attribute('mimeType'), attribute('codecs'));
        if (!kind) continue;
        const id = representation.attributes.id;
        const rendition = renditions.get(id) ?? {kind, id, language: attribute('lang'),
          label: children(set, 'Label')[0]?.text ?? '', width: Number(attribute('width')) || 0,
          height: Number(attribute('height')) || 0, bandwidth_bps: Number(attribute('bandwidth')) || 0,
          codecs: attribute('codecs').split(',').filter(Boolean), sample_rate: Number(attribute('audioSamplingRate')) || 0,
          segments: []};
        rendition.segments.push(...dashSegments({base: resolve(set_base, representation), period, set, representation,
          period_start_s, period_duration_s}));
        renditions.set(id, rendition);
      }
    }
    period_start_s += period_duration_s;
  }
  return [...renditions.values()];
}

function dashKind(content_type, mime_type, codecs) {
  const type = content_type || mime_type.split('/')[0];
  if (type === 'video' || type === 'audio' || type === 'text') return type;
  return type === 'application' && /ttml|stpp|wvtt|mp4/.test(mime_type + codecs) ? 'text' : null;
}

/** Addresses by template or list; a representation in one file is one segment as long as its period. */
function dashSegments({base, period, set, representation, period_start_s, period_duration_s}) {
  const inherited = (name) => [period, set, representation].flatMap((element) => children(element, name));
  const merged = (elements) => Object.assign({}, ...elements.map((element) => element.attributes));
  const templates = inherited('SegmentTemplate');
  const lists = inherited('SegmentList');
  if (templates.length === 0 && lists.length === 0) {
    return [{key: keyOf(base, null), start_s: period_start_s, end_s: period_start_s + period_duration_s}];
  }
  const attributes = merged([...templates, ...lists]);
  const scale = Number(attributes.timescale ?? 1);
  const offset = Number(attributes.presentationTimeOffset ?? 0);
  const first_number = Number(attributes.startNumber ?? 1);
  const timeline = [...templates, ...lists].flatMap((element) => children(element, 'SegmentTimeline')).at(-1);
  const urls = lists.flatMap((list) => children(list, 'SegmentURL'));
  const times = timeline ? timelineTimes(timeline, offset + period_duration_s * scale) :
    evenTimes(Number(attributes.duration), offset, period_duration_s * scale, urls.length);
  return times.map(([time, duration], index) => ({
    key: urls.length > 0 ?
      keyOf(new URL(urls[index]?.attributes.media ?? '', base).href, urls[index]?.attributes.mediaRange ?? null) :
      new URL(fill(attributes.media, {RepresentationID: representation.attributes.id, Number: first_number + index,
        Time: time, Bandwidth: representation.attributes.bandwidth}), base).href,
    start_s: period_start_s + (time - offset) / scale,
    end_s: period_start_s + (time + duration - offset) / scale,
  }));
}

function timelineTimes(timeline, end) {
  const times = [];
  let time = 0;
  const entries = children(timeline, 'S');
  for (const [index, {attributes}] of entries.entries()) {
    if (attributes.t !== undefined) time = Number(attributes.t);
    const duration = Number(attributes.d);
    const until = Number(entries[index + 1]?.attributes.t ?? end);
    const repeat = Number(attributes.r ?? 0);
    const count = repeat >= 0 ? repeat + 1 : Math.ceil((until - time) / duration);
    for (let i = 0; i < count; i += 1, time += duration) times.push([time, duration]);
  }
  return times;
}

function evenTimes(duration, offset, total, listed) {
  const count = listed || Math.ceil(total / duration);
  return Array.from({length: count}, (_, index) => [offset + index * duration, duration]);
}

function fill(template, values) {
  return template.replace(/\$(\w*)(?:%0(\d+)d)?\$/g, (_, name, width) =>
    name === '' ? '$' : String(values[name]).padStart(Number(width ?? 0), '0'));
}

function resolve(base, element) {
  const own = children(element, 'BaseURL')[0];
  return own ? new URL(own.text.trim(), base).href : base;
}

/** An ISO 8601 duration of days or less, in seconds. */
function seconds(duration) {
  const match = /^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?$/.exec(duration);
  if (!match) throw new Error(`not a duration: ${duration}`);
  const [days, hours, minutes, secs] = match.slice(1).map((part) => Number(part ?? 0));
  return ((days * 24 + hours) * 60 + minutes) * 60 + secs;
}

// ---- as much XML as a manifest uses ----

function parseXml(source) {
  const document = {name: '', attributes: {}, children: [], text: ''};
  const open = [document];
  const token = /<\?[^]*?\?>|<!--[^]*?-->|<!\[CDATA\[([^]*?)\]\]>|<\/([^\s>]+)\s*>|<([^\s/>]+)((?:\s+[^\s=>]+\s*=\s*(?:"[^"]*"|'[^']*'))*)\s*(\/?)>|([^<]+)/g;
  for (const [, data, closing, opening, attributes, empty, characters] of source.matchAll(token)) {
    const parent = open.at(-1);
    if (opening) {
      const element = {name: local(opening), attributes: {}, children: [], text: ''};
      for (const [, name, double, single] of attributes.matchAll(/([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g)) {
        element.attributes[name] = unescape(double ?? single);
      }
      parent.children.push(element);
      if (!empty) open.push(element);
    } else if (closing) {
      if (parent.name !== local(closing)) throw new Error(`XML: ${parent.name} is closed by ${closing}`);
      open.pop();
    } else {
      parent.text += data ?? unescape(characters ?? '');
    }
  }
  if (open.length !== 1 || document.children.length !== 1) throw new Error('XML: not one complete element');
  return document.children[0];
}

function local(name) {
  return name.slice(name.indexOf(':') + 1);
}

function unescape(characters) {
  const named = {amp: '&', lt: '<', gt: '>', quot: '"', apos: "'"};
  return characters.replace(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (all, hex, decimal, name) =>
    hex ? String.fromCodePoint(Number.parseInt(hex, 16)) :
      decimal ? String.fromCodePoint(Number(decimal)) : named[name] ?? all);
}

function children(element, name) {
  return element.children.filter((child) => child.name === name);
}
