// A reference origin: a presentation made by ffmpeg behind the real URL shape, with faults on demand.
//
// It shows that the harness passes on what other software made, and fails when something is broken.
import {execFile} from 'node:child_process';
import {createHash} from 'node:crypto';
import {mkdir, readFile, stat, writeFile} from 'node:fs/promises';
import {dirname, extname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {promisify} from 'node:util';
import {assemble} from '../../origin/player/assemble.mjs';
import {TYPES, listen} from './server.mjs';

const run = promisify(execFile);
const here = dirname(fileURLToPath(import.meta.url));

const DURATION_S = 44;
const SEGMENT_S = 3;
const RUNGS = [
  {name: 'v360', size: '640x360', bitrate_kbps: 700, bandwidth_bps: 900_000, codec: 'avc1.42c01e'},
  {name: 'v180', size: '320x180', bitrate_kbps: 250, bandwidth_bps: 400_000, codec: 'avc1.42c00d'},
];
const AUDIO = [
  {name: 'a-en', language: 'en', iso_639_2: 'eng', label: 'English', frequency: 440},
  {name: 'a-de', language: 'de', iso_639_2: 'deu', label: 'Deutsch', frequency: 660},
];
// What ffmpeg's MPEG-TS muxer puts in front of the first sample: 1.4 s at 90 kHz.
const TS_START = 126_000;

/** The policy the player pages are served under; the origin's own must say the same. */
export const PAGE_POLICY = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "media-src 'self' blob: data:",
  "connect-src 'self'", "worker-src 'self'", "base-uri 'none'", "form-action 'none'",
].join('; ');

/** Makes the presentation `ref` under `folder`/vod/ref, in the three forms. */
export async function make(folder) {
  const out = join(folder, 'vod', 'ref');
  const source = join(folder, 'source');
  await mkdir(source, {recursive: true});
  const ffmpeg = (...args) => run('ffmpeg', ['-hide_banner', '-loglevel', 'error', '-y', ...args]);
  for (const {name, size, bitrate_kbps} of RUNGS) {
    await ffmpeg('-f', 'lavfi', '-i', `testsrc2=size=${size}:rate=25:duration=${DURATION_S}`, '-c:v', 'libx264',
      '-preset', 'ultrafast', '-profile:v', 'baseline', '-pix_fmt', 'yuv420p', '-b:v', `${bitrate_kbps}k`,
      '-g', String(SEGMENT_S * 25), '-keyint_min', String(SEGMENT_S * 25), '-sc_threshold', '0', join(source, `${name}.mp4`));
  }
  for (const {name, frequency, iso_639_2} of AUDIO) {
    await ffmpeg('-f', 'lavfi', '-i', `sine=frequency=${frequency}:sample_rate=48000:duration=${DURATION_S}`,
      '-c:a', 'aac', '-b:a', '64k', '-ac', '2', '-metadata:s:a:0', `language=${iso_639_2}`, join(source, `${name}.mp4`));
  }
  const tracks = [...RUNGS, ...AUDIO].map(({name}) => name);
  for (const form of ['cmaf', 'ts']) {
    const parent = form === 'ts' ? join(out, 'ts') : out;
    for (const name of tracks) {
      const target = join(parent, name);
      await mkdir(target, {recursive: true});
      const shape = form === 'ts' ?
        ['-hls_segment_type', 'mpegts', '-hls_segment_filename', join(target, '%d.ts')] :
        ['-hls_segment_type', 'fmp4', '-hls_fmp4_init_filename', 'init.mp4', '-hls_segment_filename', join(target, '%d.m4s')];
      await ffmpeg('-i', join(source, `${name}.mp4`), '-c', 'copy', '-f', 'hls', '-hls_time', String(SEGMENT_S),
        '-hls_playlist_type', 'vod', '-hls_flags', 'independent_segments', ...shape, join(target, 'index.m3u8'));
    }
    await mkdir(join(parent, 'subs'), {recursive: true});
    await writeFile(join(parent, 'subs', 'en.vtt'), subtitles(form === 'ts' ? TS_START : 0));
    await writeFile(join(parent, 'subs', 'index.m3u8'),
      `#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:${DURATION_S}\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:${DURATION_S},\nen.vtt\n#EXT-X-ENDLIST\n`);
    await writeFile(join(parent, 'master.m3u8'), master());
  }
  const inputs = tracks.flatMap((name) => ['-i', join(source, `${name}.mp4`)]);
  const maps = tracks.flatMap((_, index) => ['-map', String(index)]);
  await ffmpeg(...inputs, ...maps, '-c', 'copy', '-f', 'dash', '-seg_duration', String(SEGMENT_S), '-use_template', '1',
    '-use_timeline', '1', '-adaptation_sets', 'id=0,streams=0,1 id=1,streams=2 id=2,streams=3', join(out, 'manifest.mpd'));
  const mpd = await readFile(join(out, 'manifest.mpd'), 'utf8');
  await writeFile(join(out, 'manifest.mpd'), mpd.replace(/(\s*)<\/Period>/,
    '$1<AdaptationSet id="3" contentType="text" mimeType="text/vtt" lang="en"><Representation id="subs" bandwidth="256">' +
    '<BaseURL>subs/en.vtt</BaseURL></Representation></AdaptationSet>$1</Period>'));
}

function master() {
  const lines = ['#EXTM3U', '#EXT-X-VERSION:6', '#EXT-X-INDEPENDENT-SEGMENTS'];
  for (const [index, {name, language, label}] of AUDIO.entries()) {
    const yes = index === 0 ? 'YES' : 'NO';
    lines.push(`#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",LANGUAGE="${language}",NAME="${label}",DEFAULT=${yes},AUTOSELECT=YES,CHANNELS="2",URI="${name}/index.m3u8"`);
  }
  lines.push('#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subs",LANGUAGE="en",NAME="English",DEFAULT=NO,AUTOSELECT=NO,FORCED=NO,URI="subs/index.m3u8"');
  for (const {name, size, bandwidth_bps, codec} of RUNGS) {
    lines.push(`#EXT-X-STREAM-INF:BANDWIDTH=${bandwidth_bps},RESOLUTION=${size},FRAME-RATE=25.000,CODECS="${codec},mp4a.40.2",AUDIO="aac",SUBTITLES="subs"`, `${name}/index.m3u8`);
  }
  return `${lines.join('\n')}\n`;
}

function subtitles(mpeg_ts) {
  const clock = (time_s) => `00:${String(Math.floor(time_s / 60)).padStart(2, '0')}:${String(time_s % 60).padStart(2, '0')}.000`;
  const map = mpeg_ts ? `X-TIMESTAMP-MAP=MPEGTS:${mpeg_ts},LOCAL:00:00:00.000\n` : '';
  const cues = [];
  for (let at_s = 1; at_s + 3 < DURATION_S; at_s += 4) cues.push(`${clock(at_s)} --> ${clock(at_s + 3)}\nThe line at second ${at_s}\n`);
  return `WEBVTT\n${map}\n${cues.join('\n')}`;
}

const MEDIA_TYPES = {
  ...TYPES,
  '.m3u8': 'application/vnd.apple.mpegurl',
  '.mpd': 'application/dash+xml',
  '.m4s': 'video/iso.segment',
  '.mp4': 'video/mp4',
  '.ts': 'video/mp2t',
  '.vtt': 'text/vtt; charset=utf-8',
};

/** What can be broken: each takes a path and answers how it is hit, or null. */
export const FAULTS = {
  none: () => null,
  'segment missing': (path) => /\/v\d+\/2\.(m4s|ts)$|chunk-stream[01]-00003\.m4s$/.test(path) ? 'missing' : null,
  'segment cut short': (path) => /\/v\d+\/2\.(m4s|ts)$|chunk-stream[01]-00003\.m4s$/.test(path) ? 'short' : null,
  'no CORS header': (path) => /\.(m4s|ts)$/.test(path) ? 'closed' : null,
  'other language has no segments': (path) => /\/a-de\/\d+\.|chunk-stream3-/.test(path) ? 'missing' : null,
  'small rendition is the large one': (path) => path.includes('/v180/') ? 'larger' : null,
  'small rendition missing': (path) => /\/v180\/\d+\.|chunk-stream1-/.test(path) ? 'missing' : null,
  'sound elsewhere': (path) => path.endsWith('.mpd') ? 'late' : null,
  'subtitles empty': (path) => path.endsWith('.vtt') ? 'empty' : null,
};

/** Serves `folder` in the origin's URL shape, player pages included. `set(fault)` names what is broken from then on. */
export async function serve(folder) {
  let fault = FAULTS.none;
  const player = join(folder, 'player');
  await assemble(player, join(here, 'node_modules', 'shaka-player'));
  const version = createHash('sha256').update(await readFile(join(player, 'player.js'))).digest('hex').slice(0, 12);
  const server = await listen(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    const page = /^\/(v|embed)\/(ref)$/.exec(path);
    if (page) {
      const template = await readFile(join(player, page[1] === 'v' ? 'page.html' : 'embed.html'), 'utf8');
      const policy = `${PAGE_POLICY}; frame-ancestors ${page[1] === 'v' ? "'self'" : '*'}`;
      response.writeHead(200, {'content-type': TYPES['.html'], 'content-security-policy': policy,
        'x-content-type-options': 'nosniff', 'referrer-policy': 'same-origin', 'cache-control': 'no-cache'});
      response.end(fill(template, {title: 'Test pattern & <tone>', id: page[2], hls: `/vod/${page[2]}/master.m3u8`,
        ts: `/vod/${page[2]}/ts/master.m3u8`, dash: `/vod/${page[2]}/manifest.mpd`, license: '', poster: '',
        asset_base: `/player/${version}`}));
      return;
    }
    const asset = /^\/player\/[0-9a-f]+\/([\w.-]+)$/.exec(path);
    const file = asset ? join(player, asset[1]) : path.startsWith('/vod/') && !path.includes('..') ? join(folder, path) : null;
    await answer(request, response, file, asset ? null : fault(path));
  });
  return {...server, set: (name) => { fault = FAULTS[name]; }};
}

async function answer(request, response, named, broken) {
  const file = broken === 'larger' ? named.replace('/v180/', '/v360/') : named;
  const found = file && await stat(file).catch(() => null);
  const headers = {'cache-control': 'no-store', 'x-content-type-options': 'nosniff'};
  if (broken !== 'closed') headers['access-control-allow-origin'] = '*';
  if (!found?.isFile() || broken === 'missing') {
    response.writeHead(404, headers).end();
    return;
  }
  let body = await readFile(file);
  if (broken === 'short') body = body.subarray(0, body.length >> 1);
  if (broken === 'empty') body = Buffer.from('WEBVTT\n\n');
  // One second later than it is.
  if (broken === 'late') body = Buffer.from(body.toString().replace(/(contentType="audio"[^]*?<S t=)"0"/g, '$1"48000"'));
  headers['content-type'] = MEDIA_TYPES[extname(file)] ?? 'application/octet-stream';
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  if (range) {
    const first = Number(range[1]);
    const last = Math.min(range[2] ? Number(range[2]) : Infinity, body.length - 1);
    response.writeHead(206, {...headers, 'content-range': `bytes ${first}-${last}/${body.length}`});
    response.end(body.subarray(first, last + 1));
    return;
  }
  response.writeHead(200, headers).end(body);
}

function fill(template, values) {
  const escapes = {'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;'};
  return template.replace(/\{\{(\w+)\}\}/g, (all, name) => {
    if (!(name in values)) throw new Error(`the template names ${all}, which nobody fills`);
    return values[name].replace(/[&<>"']/g, (character) => escapes[character]);
  });
}
