// Plays a running origin in headless Chromium, or Firefox, and says what failed.
//
//   node run.mjs --base http://127.0.0.1:8080 --media ID [--players hls.js,shaka,dash.js]
//                [--forms hls-cmaf,hls-ts,dash] [--json out.json]
//   node run.mjs page --base http://127.0.0.1:8080 --media ID [--shots FOLDER] [--json out.json]
//   node run.mjs protected --base http://127.0.0.1:8080 --media ID --grant TOKEN --refused TOKEN[,TOKEN]
//                [--players LIST] [--shots FOLDER] [--json out.json]
//   node run.mjs firefox --base http://127.0.0.1:8080 --media ID --grant TOKEN --refused TOKEN[,TOKEN]
//                [--players LIST] [--json out.json]
//   node run.mjs periods --base http://127.0.0.1:8080 --media ID --grant TOKEN [--players LIST] [--json out.json]
//   node run.mjs ladders --base http://127.0.0.1:8080 --titles FILE|--media ID[,ID] [--players LIST] [--forms LIST]
//                [--json out.json]
//                FILE is what `headwater library DIR --json` prints
//   node run.mjs --self-test [--shots FOLDER]
//
// Leaves with 0 if everything passed, 1 if something failed, 2 if it was called wrongly.
import {mkdtemp, rm, writeFile} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {parseArgs} from 'node:util';
import {atOnce, launch} from './browser.mjs';
import * as firefox from './firefox.mjs';
import * as ladders from './ladders.mjs';
import {FORMS, LIBRARIES, play, plays} from './play.mjs';
import {pages} from './pages.mjs';
import {periods, protectedTitle} from './protected.mjs';
import * as reference from './reference.mjs';
import * as harness from './server.mjs';

// A case waits for the clock for most of its time; a small machine decodes this many.
const AT_ONCE = 3;

const OPTIONS = {
  base: {type: 'string'},
  media: {type: 'string'},
  titles: {type: 'string'},
  players: {type: 'string', default: Object.keys(LIBRARIES).join(',')},
  forms: {type: 'string', default: Object.keys(FORMS).join(',')},
  grant: {type: 'string'},
  refused: {type: 'string', default: ''},
  json: {type: 'string'},
  shots: {type: 'string'},
  chromium: {type: 'string', default: process.env.CHROMIUM ?? '/usr/bin/chromium'},
  firefox: {type: 'string', default: process.env.FIREFOX ?? '/usr/bin/firefox-esr'},
  'self-test': {type: 'boolean', default: false},
};

async function main() {
  const {values, positionals} = parseArgs({options: OPTIONS, allowPositionals: true});
  const mode = values['self-test'] ? 'self-test' : positionals[0] ?? 'matrix';
  const run = {'self-test': selfTest, 'matrix': matrix, 'page': page, 'protected': guarded, 'firefox': guardedInFirefox,
    'periods': rotated, 'ladders': climbed}[mode];
  if (!run || positionals.length > 1) usage(`no mode ${positionals.join(' ')}`);
  const named = values.base && (values.media || mode === 'ladders' && values.titles);
  if (mode !== 'self-test' && !named) usage(`--base and --media${mode === 'ladders' ? ', or --titles,' : ''} are needed`);
  if (mode === 'periods' && !values.grant) usage('--grant is needed');
  if (['protected', 'firefox'].includes(mode) && !(values.grant && values.refused)) usage('--grant and --refused are needed');
  const options = {
    ...values,
    base: values.base?.replace(/\/$/, ''),
    players: listed('players', values.players, LIBRARIES),
    forms: listed('forms', values.forms, FORMS),
    refused: values.refused.split(',').filter(Boolean),
  };
  const test_page = await harness.serve();
  try {
    const results = await run(options, test_page.origin);
    if (values.json) await writeFile(values.json, `${JSON.stringify(results, null, 2)}\n`);
    if (results.length === 0) usage('no player plays any of these forms');
    return results.every(({ok}) => ok) ? 0 : 1;
  } finally {
    await test_page.close();
  }
}

function listed(name, text, known) {
  const values = text.split(',').filter(Boolean);
  const unknown = values.filter((value) => !(value in known));
  if (unknown.length > 0) usage(`--${name}: ${unknown.join(', ')} not among ${Object.keys(known).join(', ')}`);
  return values;
}

function usage(reason) {
  console.error(`${reason}\nusage: node run.mjs [page] --base URL --media ID [--players LIST] [--forms LIST] [--json FILE] [--shots FOLDER]\n       node run.mjs protected|firefox --base URL --media ID --grant TOKEN --refused TOKEN[,TOKEN] [--players LIST] [--json FILE] [--shots FOLDER]\n       node run.mjs periods --base URL --media ID --grant TOKEN [--players LIST] [--json FILE]\n       node run.mjs ladders --base URL --titles FILE|--media ID[,ID] [--players LIST] [--forms LIST] [--json FILE]\n       node run.mjs --self-test`);
  process.exit(2);
}

async function matrix({base, media, players, forms, chromium}, origin) {
  const browser = await launch({executable: chromium});
  try {
    const jobs = players.flatMap((player) => forms.filter((form) => plays(player, form))
      .map((form) => () => play({browser, harness: origin, base, media, player, form})));
    const results = await atOnce(AT_ONCE, jobs, report);
    conclude(results);
    return results;
  } finally {
    await browser.close();
  }
}

async function page({base, media, shots, chromium}, origin) {
  const results = await pages({base, media, shots, executable: chromium, harness: origin, report});
  conclude(results);
  return results;
}

/** A title that only grants open. */
async function guarded({chromium, ...options}, origin) {
  const browser = await launch({executable: chromium});
  try {
    const results = await protectedTitle({...options, browser, harness: origin, executable: chromium, report});
    conclude(results);
    return results;
  } finally {
    await browser.close();
  }
}

/** The same title in a browser with other decoders and another key module. */
async function guardedInFirefox(options, origin) {
  const browser = await firefox.launch({executable: options.firefox});
  try {
    const results = await firefox.title({...options, browser, harness: origin, report});
    conclude(results);
    return results;
  } finally {
    await browser.close();
  }
}

/** A title under several keys, one after the other. */
async function rotated({chromium, ...options}, origin) {
  const browser = await launch({executable: chromium});
  try {
    const results = await periods({...options, browser, harness: origin, report});
    conclude(results);
    return results;
  } finally {
    await browser.close();
  }
}

/** Many titles, each rung of every one. */
async function climbed({chromium, ...options}, origin) {
  // The browser driver's own answer to this signal is to end the browser, and a new one would be started.
  process.once('SIGTERM', () => process.exit(143));
  const began_ms = performance.now();
  const titles = options.titles ? await ladders.listed(options.titles) :
    options.media.split(',').filter(Boolean).map(titled);
  const results = await ladders.ladders({...options, titles, executable: chromium, harness: origin, report: ladders.report});
  ladders.conclude(results, (performance.now() - began_ms) / 1000);
  return results;
}

/** A title of which the id alone is known. */
const titled = (id) => ({id, name: id, refused: null});

/** Plays a presentation that other software made, whole and then broken: the harness must see the difference. */
async function selfTest({shots, chromium}, origin) {
  const folder = await mkdtemp(join(tmpdir(), 'players-'));
  try {
    console.log('making the reference presentation');
    await reference.make(folder);
    const server = await reference.serve(folder);
    try {
      const base = server.origin;
      const common = {base, media: 'ref', chromium};
      const results = await matrix({...common, players: Object.keys(LIBRARIES), forms: Object.keys(FORMS)}, origin);
      results.push(...await page({...common, shots}, origin));
      results.push(...await climbed({...common, players: Object.keys(LIBRARIES), forms: Object.keys(FORMS)}, origin));
      const seen = await broken({server, ...common}, origin);
      conclude(seen);
      return [...results, ...seen];
    } finally {
      await server.close();
    }
  } finally {
    await rm(folder, {recursive: true, force: true});
  }
}

async function broken({server, base, media, chromium}, origin) {
  const expected = [
    {fault: 'segment missing', player: 'hls.js', form: 'hls-cmaf', only: ['borders'], reason: /fragLoadError .*\/2\.m4s .*404/},
    {fault: 'segment missing', player: 'dash.js', form: 'dash', only: ['borders'], reason: /404 .*-00003\.m4s/},
    {fault: 'segment cut short', player: 'shaka', form: 'dash', only: ['borders'], reason: /video element: code 3|VIDEO_ERROR/},
    {fault: 'no CORS header', player: 'shaka', form: 'hls-ts', only: [], reason: /HTTP_ERROR|ERR_FAILED/},
    {fault: 'small rendition is the large one', player: 'hls.js', form: 'hls-cmaf', only: ['quality'], reason: /^quality: switch to 320×180/},
    {fault: 'other language has no segments', player: 'hls.js', form: 'hls-ts', only: ['audio'], reason: /^audio: .*a-de.*404/},
    {fault: 'subtitles empty', player: 'shaka', form: 'hls-cmaf', only: ['subtitles'], reason: /^subtitles: .*not one cue/},
    {fault: 'small rendition is the large one', player: 'shaka', form: 'hls-cmaf', ladder: true, reason: /^rungs: rung 320×180: not within/},
    {fault: 'small rendition missing', player: 'hls.js', form: 'hls-cmaf', ladder: true, reason: /^(start|rungs): .*404/},
    {fault: 'small rendition missing', player: 'dash.js', form: 'dash', ladder: true, reason: /^(start|rungs): .*404/},
    {fault: 'sound elsewhere', player: 'hls.js', form: 'hls-cmaf', ladder: true, reason: /^sync: .* 1\.0\d\d s apart/},
  ];
  const browser = await launch({executable: chromium});
  const results = [];
  try {
    for (const {fault, player, form, only, ladder, reason} of expected) {
      server.set(fault);
      const {steps, took_s} = ladder ?
        await ladders.ladder({current: () => browser, harness: origin, base, title: titled(media), player, form}) :
        await play({browser, harness: origin, base, media, player, form, only});
      const first = steps.find(({ok}) => !ok);
      const detail = first ? `${first.name}: ${first.detail}` : 'nothing failed';
      const ok = reason.test(detail);
      results.push({player: `${player}, ${fault}`, form: ladder ? `${form} ladder` : form, ok, took_s, facts: {}, steps: [{name: 'is seen', ok, took_s, detail}]});
      report(results.at(-1));
    }
  } finally {
    server.set('none');
    await browser.close();
  }
  return results;
}

// ---- what is printed ----

function report({player, form, ok, took_s, steps, facts}) {
  console.log(`\n${ok ? 'pass' : 'FAIL'}  ${player}  ${form}  ${took_s.toFixed(1)} s`);
  for (const step of steps) {
    console.log(`  ${step.ok ? ' ok ' : 'FAIL'}  ${step.name.padEnd(10)} ${step.took_s.toFixed(1).padStart(5)} s  ${step.detail}`);
  }
  for (const warning of new Set(facts.warnings ?? [])) console.log(`  note  ${warning}`);
}

function conclude(results) {
  const names = [...new Set(results.flatMap(({steps}) => steps.map(({name}) => name)))];
  const head = ['case', ...names, 's'];
  const rows = results.map(({player, form, steps, took_s}) => [`${player} ${form}`,
    ...names.map((name) => {
      const step = steps.find((candidate) => candidate.name === name);
      return step ? (step.ok ? 'ok' : 'FAIL') : '-';
    }), took_s.toFixed(1)]);
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  console.log('');
  for (const row of [head, ...rows]) console.log(row.map((cell, column) => cell.padEnd(widths[column])).join('  ').trimEnd());
  const failed = results.filter(({ok}) => !ok).length;
  console.log(`\n${results.length - failed} passed, ${failed} failed`);
}

process.exitCode = await main();
