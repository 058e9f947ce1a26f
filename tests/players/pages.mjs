// The player pages: opens them as a viewer does and looks at what a viewer sees.
import {mkdir} from 'node:fs/promises';
import {join} from 'node:path';
import {atOnce, launch, record, until} from './browser.mjs';

const DESKTOP = {width: 1280, height: 860};
const PHONE = {width: 390, height: 844};
// The controls choose their touch layout by the browser's name.
const PHONE_BROWSER = 'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36';

const AT_ONCE = 2;

/**
 * Runs every page check, or those of the names `only`, and never throws; results have the shape of `play`'s and are given to
 * `report` as they come.
 */
export async function pages({base, media, shots, executable, harness, only = null, report = () => {}}) {
  if (shots) await mkdir(shots, {recursive: true});
  const browser = await launch({executable});
  const strict = await launch({executable, autoplay: 'blocked'});
  const checks = [
    ['every form plays', playsForms], ['menus', hasMenus], ['form selector', switchesForm],
    ['fault of the library', startsAfresh], ['thumbnails', showsThumbnails], ['keyboard', obeysKeys],
    ['start second and button', startsOnClick], ['failure is told', tellsFailure], ['phone width', fitsPhone],
    ['unknown title', knowsNot], ['embed', embeds], ['embed in a foreign page', embedsAbroad], ['autoplay blocked', showsButton],
  ];
  const jobs = checks.filter(([name]) => only?.includes(name) ?? true).map(([name, check]) => () =>
    new Visit({browser: check === showsButton ? strict : browser, base, media, shots, harness}).run(name, check));
  try {
    return await atOnce(AT_ONCE, jobs, report);
  } finally {
    await browser.close();
    await strict.close();
  }
}

class Visit {
  constructor({browser, base, media, shots, harness}) {
    Object.assign(this, {browser, base, media, shots, harness, contexts: [], logs: []});
  }

  async run(name, check) {
    const began_ms = performance.now();
    const step = {name: 'page', ok: true, detail: ''};
    try {
      step.detail = await check(this) ?? '';
      await this.quiet();
    } catch (error) {
      step.ok = false;
      step.detail = String(error?.message ?? error).split('\n')[0];
    } finally {
      await Promise.all(this.contexts.map((context) => context.close()));
    }
    step.took_s = (performance.now() - began_ms) / 1000;
    return {player: name, form: 'page', ok: step.ok, took_s: step.took_s, steps: [step], facts: {}};
  }

  /** Opens a path of the origin; the page's policy violations are collected as they happen. */
  async open(path, {viewport = DESKTOP, mobile = false, prepare = async () => {}} = {}) {
    const context = await this.browser.newContext({viewport, isMobile: mobile, hasTouch: mobile, locale: 'en-GB',
      userAgent: mobile ? PHONE_BROWSER : undefined});
    this.contexts.push(context);
    await context.addInitScript(() => {
      window.violations = [];
      document.addEventListener('securitypolicyviolation', (event) =>
        window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
    });
    const page = await context.newPage();
    const log = record(page);
    this.logs.push({page, log});
    await prepare(page);
    const response = await page.goto(new URL(path, this.base).href);
    if (new URL(page.url()).origin === new URL(this.base).origin) await this.checkAnswer(path, response);
    return page;
  }

  /** The promises of the answer itself: filled in, typed, and under a policy that allows no inline code. */
  async checkAnswer(path, response) {
    const headers = response.headers();
    const policy = headers['content-security-policy'] ?? '';
    const promises = [
      [response.status() === 200, `answered ${response.status()}`],
      [/^text\/html\b/.test(headers['content-type'] ?? ''), `content-type is ${headers['content-type']}`],
      [headers['x-content-type-options'] === 'nosniff', 'no x-content-type-options: nosniff'],
      [/default-src/.test(policy), 'no content-security-policy with a default-src'],
      [!/unsafe-/.test(policy), `the policy allows unsafe code: ${policy}`],
      [!(await response.text()).includes('{{'), 'a placeholder is not filled in'],
    ];
    const broken = promises.find(([kept]) => !kept);
    if (broken) throw new Error(`${path}: ${broken[1]}`);
  }

  /** Nothing may have failed, left the origin or been refused by the policy. */
  async quiet({failures_expected = false} = {}) {
    for (const {page, log} of this.logs) {
      const origin = new URL(this.base).origin;
      const abroad = log.requests.filter((url) => /^(https?|wss?):/.test(url) &&
        ![origin, new URL(this.harness).origin].includes(new URL(url).origin));
      if (abroad.length > 0) throw new Error(`asked another host: ${abroad[0]}`);
      const violations = [];
      for (const frame of page.frames()) violations.push(...await frame.evaluate(() => window.violations ?? []));
      if (violations.length > 0) throw new Error(`against its own policy: ${violations[0]}`);
      if (failures_expected) continue;
      if (log.failures.length > 0) throw new Error(log.failures[0]);
      if (log.console.length > 0) throw new Error(`console: ${log.console[0]}`);
    }
    this.logs = [];
  }

  async shot(page, name) {
    if (this.shots) await page.screenshot({path: join(this.shots, `${name}.png`)});
  }
}

/** What the page's own handle says. */
function state(page) {
  return page.evaluate(() => {
    const {video, player, form, forms, error} = window.headwater ?? {};
    return {
      time_s: video?.currentTime ?? 0,
      duration_s: video?.duration ?? 0,
      paused: video?.paused ?? true,
      muted: video?.muted,
      loop: video?.loop,
      width: video?.videoWidth ?? 0,
      ready: video?.readyState ?? 0,
      form, forms, error,
      audio_count: new Set(player?.getAudioTracks().map(({language}) => language)).size,
      video_count: player?.getVideoTracks().length ?? 0,
      text_count: player?.getTextTracks().length ?? 0,
      button: document.getElementById('start')?.offsetParent !== null,
    };
  });
}

async function awaited(page, what, accept, deadline_s = 15) {
  let last = null;
  return until(what, deadline_s, async () => {
    last = await state(page);
    if (last.error) throw new Error(`${what}: the page says: ${last.error.title}: ${last.error.reason} ${last.error.code}`);
    return accept(last) ? last : null;
  }, () => JSON.stringify(last));
}

async function moving(page, by_s = 1) {
  const {time_s} = await state(page);
  return awaited(page, `play on for ${by_s} s`, (now) => !now.paused && now.time_s >= time_s + by_s);
}

async function playsForms(visit) {
  const page = await visit.open(`/v/${visit.media}?autoplay=1&mute=1`);
  const {forms} = await moving(page);
  await visit.shot(page, 'page');
  for (const form of forms) {
    const other = await visit.open(`/v/${visit.media}?autoplay=1&mute=1&form=${form}`);
    const now = await moving(other);
    if (now.form !== form) throw new Error(`asked for ${form}, plays ${now.form}`);
    await other.context().close();
    visit.logs.pop();
  }
  return forms.join(', ');
}

async function hasMenus(visit) {
  const page = await visit.open(`/v/${visit.media}?autoplay=1&mute=1`);
  const {audio_count, video_count, text_count} = await moving(page);
  const wake = () => page.mouse.move(400 + Math.random() * 40, 300);
  const openMenu = async () => {
    await wake();
    await page.locator('.shaka-overflow-menu-button').click({timeout: 5000});
  };
  const entries = [
    ['quality', '.shaka-resolution-button', '.shaka-resolutions', video_count > 1, video_count],
    ['language', '.shaka-language-button', '.shaka-audio-languages', audio_count > 1, audio_count],
    ['subtitles', '.shaka-overflow-menu .shaka-caption-button', '.shaka-text-languages', text_count > 0, text_count],
    ['speed', '.shaka-playbackrate-button', '.shaka-playback-rates', true, 4],
  ];
  const seen = [];
  await openMenu();
  await visit.shot(page, 'page-menu');
  await openMenu();
  for (const [name, opener, menu, expected, choice_count] of entries) {
    if (!expected) continue;
    await openMenu();
    await page.locator(opener).first().click({timeout: 5000}).catch(() => { throw new Error(`the menu has no entry for ${name}`); });
    const choices = page.locator(`${menu} button[aria-checked], ${menu} button.shaka-playback-rate-preset-button, ${menu} button`);
    await until(`${name} menu offers ${choice_count}`, 5, async () => await choices.count() >= choice_count, async () => `offers ${await choices.count()}`);
    await visit.shot(page, `page-menu-${name}`);
    seen.push(name);
    await page.keyboard.press('Escape');
  }
  if (text_count > 0) {
    await page.evaluate(() => window.headwater.player.selectTextTrack(window.headwater.player.getTextTracks()[0]));
    await until('a subtitle is shown', 20, () => page.evaluate(() => document.querySelector('.shaka-text-container')?.textContent.trim()));
    await visit.shot(page, 'page-subtitles');
  }
  return seen.join(', ');
}

/** The poster before the start, and a picture above the seek bar in every form, cut from a sheet of the right size. */
async function showsThumbnails(visit) {
  const poster = await visit.open(`/v/${visit.media}`);
  await awaited(poster, 'first frame without playing', (now) => now.ready >= 2);
  const {forms} = await state(poster);
  if (!await poster.evaluate(() => window.headwater.video.poster)) return 'none';
  await until('the poster is there', 5, () => poster.evaluate(async () => {
    const image = new Image();
    image.src = window.headwater.video.poster;
    await image.decode();
    return image.naturalWidth >= 320;
  }));
  const seen = [];
  for (const form of forms) {
    const page = await visit.open(`/v/${visit.media}?autoplay=1&mute=1&form=${form}`);
    await moving(page);
    const told = await page.evaluate(async () => {
      const {player, video} = window.headwater;
      const [track] = player.getImageTracks();
      if (!track) return {fault: 'the player sees no image track'};
      const wanted_s = video.duration * 0.7;
      const thumbnail = await player.getThumbnails(track.id, wanted_s);
      if (!thumbnail) return {fault: `no thumbnail at ${wanted_s} s`};
      const image = new Image();
      image.src = thumbnail.uris[0];
      await image.decode();
      const {startTime, duration, positionX, positionY, width, height, imageWidth, imageHeight} = thumbnail;
      const faults = [
        [startTime <= wanted_s + 0.001 && startTime + duration > wanted_s, `from ${startTime} s for ${duration} s, not at ${wanted_s} s`],
        [image.naturalWidth === imageWidth && image.naturalHeight === imageHeight, `a sheet of ${image.naturalWidth}×${image.naturalHeight}, not ${imageWidth}×${imageHeight}`],
        [positionX + width <= imageWidth && positionY + height <= imageHeight, 'outside its sheet'],
        [Math.abs(width / height - video.videoWidth / video.videoHeight) < 0.05, `${width}×${height} is of another shape than the film`],
      ];
      const fault = faults.find(([kept]) => !kept);
      return {fault: fault?.[1], size: `${width}×${height}`};
    });
    if (told.fault) throw new Error(`${form}: ${told.fault}`);
    const bar = await page.locator('.shaka-seek-bar-container').boundingBox();
    await page.mouse.move(bar.x + bar.width / 2, bar.y - 40);
    await page.mouse.move(bar.x + bar.width * 0.7, bar.y + bar.height / 2, {steps: 4});
    await until(`${form}: a picture above the seek bar`, 10, () => page.evaluate(() => {
      const image = document.querySelector('#shaka-player-ui-thumbnail-image, .shaka-player-ui-thumbnail-image, [class*="thumbnail"] img');
      return image?.complete && image.naturalWidth > 0 && image.offsetParent !== null;
    }));
    await visit.shot(page, `page-thumbnail-${form}`);
    seen.push(`${form} ${told.size}`);
    await page.context().close();
    visit.logs.pop();
  }
  return seen.join(', ');
}

async function switchesForm(visit) {
  const page = await visit.open(`/v/${visit.media}?autoplay=1&mute=1&t=5`);
  const before = await moving(page);
  if (before.time_s < 5) throw new Error(`t=5 started at ${before.time_s.toFixed(1)} s`);
  if (before.forms.length < 2) return 'one form only';
  const other = before.forms.find((form) => form !== before.form);
  await page.locator(`.form[data-form="${other}"]`).click();
  const after = await awaited(page, `${other} plays on`, (now) => now.form === other && !now.paused && now.width > 0 && now.time_s > before.time_s + 0.3);
  if (after.time_s > before.time_s + 10) throw new Error(`went from ${before.time_s.toFixed(1)} s to ${after.time_s.toFixed(1)} s`);
  if (!page.url().includes(`form=${other}`)) throw new Error('the address does not name the form');
  return `${before.form} → ${other} at ${before.time_s.toFixed(1)} s`;
}

/** A fault within the library is overcome once, and told if it comes again. */
async function startsAfresh(visit) {
  const page = await visit.open(`/v/${visit.media}?autoplay=1&mute=1&t=5`);
  const before = await moving(page);
  if (before.forms.length < 2) return 'one form only';
  const faulty = (count) => page.evaluate((count) => {
    const {player} = window.headwater;
    const load = player.load.bind(player);
    player.load = (...words) => count-- > 0 ? Promise.reject(new TypeError('made by a test')) : load(...words);
  }, count);
  const [other, third = before.form] = before.forms.filter((form) => form !== before.form);
  await faulty(1);
  await page.locator(`.form[data-form="${other}"]`).click();
  await awaited(page, `${other} plays on`, (now) => now.form === other && !now.error && !now.paused && now.time_s > before.time_s + 0.3);
  await faulty(2);
  await page.locator(`.form[data-form="${third}"]`).click();
  const reason = page.locator('#error-reason');
  await reason.waitFor({state: 'visible', timeout: 20_000});
  if (await reason.textContent() !== 'made by a test') throw new Error(`the reason is: ${await reason.textContent()}`);
}

async function obeysKeys(visit) {
  const page = await visit.open(`/v/${visit.media}?autoplay=1&mute=1`);
  await moving(page);
  await page.keyboard.press('k');
  await awaited(page, 'k pauses', (now) => now.paused);
  const {time_s} = await state(page);
  await page.keyboard.press('ArrowRight');
  await awaited(page, 'arrow goes forward', (now) => now.time_s > time_s + 3);
  await page.keyboard.press('m');
  await awaited(page, 'm turns the sound on', (now) => !now.muted);
  await page.keyboard.press('f');
  await until('f fills the screen', 5, () => page.evaluate(() => document.fullscreenElement?.id === 'player'));
  await page.keyboard.press('f');
  await until('f leaves the full screen', 5, () => page.evaluate(() => document.fullscreenElement === null));
  await page.keyboard.press('k');
  await moving(page);
}

async function startsOnClick(visit) {
  const page = await visit.open(`/v/${visit.media}?t=7`);
  const idle = await awaited(page, 'first frame without playing', (now) => now.ready >= 2 && now.button && now.paused);
  if (Math.abs(idle.time_s - 7) > 1) throw new Error(`t=7 stands at ${idle.time_s.toFixed(1)} s`);
  await until('the clock shows 0:07', 5, () => page.evaluate(() => document.querySelector('.shaka-current-time')?.textContent.includes('0:07')));
  await visit.shot(page, 'page-start');
  await page.locator('#start').click();
  const now = await moving(page);
  if (now.button) throw new Error('the start button stays');
}

async function tellsFailure(visit) {
  const prepare = (page) => page.route(/\/vod\/.*\.(m3u8|mpd)/, (route) => route.fulfill({status: 404}));
  const page = await visit.open(`/v/${visit.media}?autoplay=1&mute=1`, {prepare});
  const reason = page.locator('#error-reason');
  await reason.waitFor({state: 'visible', timeout: 20_000});
  const text = await reason.textContent();
  await visit.shot(page, 'page-error');
  if (!text.includes('404')) throw new Error(`the reason does not name the status: ${text}`);
  await page.unroute(/\/vod\/.*\.(m3u8|mpd)/);
  await page.locator('#retry').click();
  await until('plays after "Try again"', 15, async () => {
    const now = await state(page);
    return !now.error && !now.paused && now.time_s > 0.5;
  });
  await visit.quiet({failures_expected: true});
  return text;
}

async function fitsPhone(visit) {
  const page = await visit.open(`/v/${visit.media}?mute=1`, {viewport: PHONE, mobile: true});
  await awaited(page, 'the start button', (now) => now.button && now.ready >= 2);
  await visit.shot(page, 'phone');
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (overflow > 0) throw new Error(`${overflow} px wider than the screen`);
  await page.locator('#start').tap();
  await moving(page);
  await page.touchscreen.tap(195, 60);
  await page.locator('.shaka-overflow-menu-button').tap({timeout: 5000});
  await visit.shot(page, 'phone-menu');
  await page.setViewportSize({width: PHONE.height, height: PHONE.width});
  await visit.shot(page, 'phone-landscape');
}

async function knowsNot(visit) {
  for (const path of ['/v/no-such-title', '/embed/no-such-title', '/player/no-such-version/no-such-file.js']) {
    const {status} = await fetch(new URL(path, visit.base), {signal: AbortSignal.timeout(10_000)});
    if (status !== 404) throw new Error(`${path} answered ${status}, not 404`);
  }
}

async function embeds(visit) {
  const page = await visit.open(`/embed/${visit.media}?autoplay=1&loop=1&mute=1`, {viewport: {width: 854, height: 480}});
  const now = await moving(page);
  if (!now.muted || !now.loop) throw new Error(`muted ${now.muted}, loop ${now.loop}`);
  await visit.shot(page, 'embed');
  await page.evaluate(() => { const {video} = window.headwater; video.currentTime = video.duration - 1; });
  await awaited(page, 'starts again after the end', (later) => later.time_s < later.duration_s / 2 && later.time_s > 0.3 && !later.paused, 20);
}

async function embedsAbroad(visit) {
  const source = `${visit.base}/embed/${visit.media}?autoplay=1&mute=1`;
  const page = await visit.open(`${visit.harness}/frame?src=${encodeURIComponent(source)}`);
  const frame = await until('the frame opens', 10, () => page.frames().find((candidate) => candidate.url().startsWith(visit.base)));
  await until('plays in the frame', 15, () => frame.evaluate(() => window.headwater?.video.currentTime > 1));
}

async function showsButton(visit) {
  // Looking into a page counts as the viewer's gesture, so the page must say by itself that it was refused.
  let refused = false;
  const prepare = async (page) => {
    page.on('console', (message) => { refused ||= message.text() === 'play: NotAllowedError'; });
    await page.addInitScript(() => {
      const play = HTMLMediaElement.prototype.play;
      HTMLMediaElement.prototype.play = function (...nothing) {
        const outcome = play.apply(this, nothing);
        outcome.catch((error) => console.debug(`play: ${error.name}`));
        return outcome;
      };
    });
  };
  const page = await visit.open(`/embed/${visit.media}?autoplay=1`, {prepare});
  await until('the browser refuses to play', 15, () => refused);
  await awaited(page, 'the start button', (now) => now.button && now.paused && now.ready >= 2);
  await visit.shot(page, 'embed-blocked');
  await page.locator('#start').click();
  await moving(page);
}
