// The players behind one face: open, what there is, what is active, pick, what went wrong.
//
// Runs in the browser. Ids of tracks are each player's own and only compared with one another.
'use strict';

window.harness = (() => {
  const failures = [];
  const warnings = [];
  let adapter = null;
  let waiting_count = 0;
  let shown_count = 0;
  const shown_by_height = {};
  let held = false;

  // What each track has in its buffer, in the order in which the player made them: [type, source, buffer].
  const buffers = [];
  const {addSourceBuffer} = MediaSource.prototype;
  MediaSource.prototype.addSourceBuffer = function (type) {
    const buffer = addSourceBuffer.call(this, type);
    buffers.push([type, this, buffer]);
    return buffer;
  };

  const video = () => document.getElementById('video');
  const fail = (text) => { if (failures.length < 50) failures.push(text); };
  const warn = (text) => { if (warnings.length < 50) warnings.push(text); };

  /**
   * `license` is the Clear Key licence server, for a protected title; or, for shaka-player, a licence service that takes a wish
   * in JSON: {url, headers, wish}.
   */
  async function open(name, library, url, license = null) {
    await script(library);
    const element = video();
    element.addEventListener('waiting', () => { waiting_count += 1; });
    element.addEventListener('error', () =>
      fail(`video element: code ${element.error?.code}: ${element.error?.message}`));
    countShown(element);
    adapter = {'hls.js': hlsJs, 'shaka': shakaPlayer, 'dash.js': dashJs}[name](element, license);
    await adapter.open(url);
    // A player may pause the element while it sets up; playing is part of what is tested, its outcome is awaited outside.
    start(element);
    return {video: adapter.videos(), audio: adapter.audios(), text: adapter.texts()};
  }

  /** Counts what reaches the screen: a frame that could not be deciphered never does. */
  function countShown(element) {
    element.requestVideoFrameCallback((_, {height}) => {
      shown_count += 1;
      shown_by_height[height] = (shown_by_height[height] ?? 0) + 1;
      countShown(element);
    });
  }

  function script(src) {
    return new Promise((resolve, reject) => {
      const element = document.createElement('script');
      element.src = src;
      element.onload = resolve;
      element.onerror = () => reject(new Error(`cannot load ${src}`));
      document.head.append(element);
    });
  }

  function state() {
    const element = video();
    const frames = element.getVideoPlaybackQuality();
    const buffered = ranges(element.buffered);
    return {
      time_s: element.currentTime,
      duration_s: element.duration,
      paused: element.paused,
      seeking: element.seeking,
      ended: element.ended,
      ready: element.readyState,
      width: element.videoWidth,
      height: element.videoHeight,
      frame_count: frames.totalVideoFrames,
      dropped_count: frames.droppedVideoFrames,
      shown_count,
      shown_by_height,
      // Only Chromium says how much sound went through its decoder.
      heard_byte_count: element.webkitAudioDecodedByteCount ?? null,
      waiting_count,
      buffered,
      // A buffer that was taken out of its source has no ranges any more.
      tracks: buffers.filter(([, source, buffer]) => [...source.sourceBuffers].includes(buffer))
        .map(([type, , buffer]) => ({type, buffered: ranges(buffer.buffered)})),
      active: adapter ? adapter.active() : {},
      cues: adapter ? adapter.cues().slice(0, 500) : [],
      shown: adapter ? adapter.shown() : '',
      failures,
      warnings,
    };
  }

  function ranges(list) {
    return Array.from({length: list.length}, (_, index) => [list.start(index), list.end(index)]);
  }

  function seek(time_s) {
    const element = video();
    element.currentTime = time_s;
    if (element.paused) start(element);
  }

  function start(element) {
    held = false;
    element.play().catch((error) => {
      // What `hold` interrupts had not begun yet.
      if (!held || error.name !== 'AbortError') fail(`play() was refused: ${error.name}: ${error.message}`);
    });
  }

  /** Stops at a time; `seek` goes on from there or elsewhere. */
  function hold(time_s) {
    const element = video();
    held = true;
    element.pause();
    element.currentTime = time_s;
  }

  // ---- text that the browser itself renders ----

  const rendered = (element) => [...element.textTracks].filter((track) =>
    track.mode === 'showing' && (track.kind === 'subtitles' || track.kind === 'captions'));
  const cueTimes = (tracks) => tracks.flatMap((track) => [...track.cues ?? []].map((cue) => [cue.startTime, cue.endTime]));
  const cueText = (tracks) => tracks.flatMap((track) => [...track.activeCues ?? []].map((cue) => cue.text ?? '')).join('\n');

  // ---- hls.js ----

  function hlsJs(element, license) {
    const eme = license ? {emeEnabled: true, drmSystems: {'org.w3.clearkey': {licenseUrl: license}}} : {};
    const hls = new Hls({maxBufferLength: 16, maxMaxBufferLength: 24, capLevelToPlayerSize: false, ...eme});
    // What hls.js reports without harm: it waited for data, stepped over a gap, or gave up a request of its own.
    const harmless = new Set(['bufferStalledError', 'bufferNudgeOnStall', 'bufferSeekOverHole', 'bufferFullError', 'aborted']);
    hls.on(Hls.Events.ERROR, (_, data) => {
      const where = data.frag ? ` ${data.frag.url}` : data.url ? ` ${data.url}` : '';
      const text = `${data.type}/${data.details}${data.fatal ? ' (fatal)' : ''}${where} ${data.error?.message ?? data.reason ?? ''}`.trim();
      if (!data.fatal && harmless.has(data.details)) warn(text); else fail(text);
    });
    return {
      open: (url) => new Promise((resolve, reject) => {
        hls.on(Hls.Events.MANIFEST_PARSED, () => resolve());
        hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) reject(new Error(data.details)); });
        hls.loadSource(url);
        hls.attachMedia(element);
      }),
      videos: () => hls.levels.map((level, id) =>
        ({id, width: level.width, height: level.height, bandwidth_bps: level.bitrate})),
      audios: () => hls.audioTracks.map((track) => ({id: track.id, language: track.lang ?? '', label: track.name})),
      texts: () => hls.subtitleTracks.map((track) => ({id: track.id, language: track.lang ?? '', label: track.name})),
      active: () => ({video: hls.currentLevel, audio: hls.audioTrack, text: hls.subtitleTrack}),
      pickVideo: (id) => { hls.currentLevel = id; },
      pickAudio: (id) => { hls.audioTrack = id; },
      pickText: (id) => { hls.subtitleDisplay = true; hls.subtitleTrack = id; },
      cues: () => cueTimes(rendered(element)),
      shown: () => cueText(rendered(element)),
    };
  }

  // ---- shaka-player ----

  function shakaPlayer(element, license) {
    shaka.polyfill.installAll();
    const player = new shaka.Player();
    const container = document.getElementById('container');
    const cues = [];
    class Displayer extends shaka.text.UITextDisplayer {
      append(list) {
        for (const cue of list) cues.push([cue.startTime, cue.endTime]);
        super.append(list);
      }
    }
    const names = (code) => Object.keys(shaka.util.Error.Code).find((key) => shaka.util.Error.Code[key] === code);
    const describe = (error) => `${names(error.code) ?? error.message} (${error.code}) ${JSON.stringify(error.data ?? [], (key, value) => value instanceof ArrayBuffer ? `${value.byteLength} bytes` : value).slice(0, 300)}`;
    player.addEventListener('error', (event) => fail(describe(event.detail)));
    // A retried request is no event of the player, but it is a failure of the origin.
    player.getNetworkingEngine()?.addEventListener('retry', (event) => fail(`retried: ${event.error ? describe(event.error) : ''}`));
    const variant = () => player.getVariantTracks().find((track) => track.active);
    const videoId = (track) => `${track.width}x${track.height}@${track.bandwidth}`;
    const audioId = (track) => JSON.stringify([track.language, track.label, track.channelsCount, track.codecs, track.roles]);
    return {
      open: async (url) => {
        await player.attach(element);
        player.setVideoContainer(container);
        player.configure({
          streaming: {bufferingGoal: 16, bufferBehind: 20},
          textDisplayFactory: (owner) => new Displayer(owner),
        });
        if (license) player.configure({drm: {servers: {'org.w3.clearkey': license.url ?? license}}});
        if (license?.wish) askInJson(player.getNetworkingEngine(), license);
        try {
          await player.load(url);
        } catch (error) {
          fail(describe(error));
          throw new Error(describe(error));
        }
      },
      videos: () => player.getVideoTracks().map((track) =>
        ({id: videoId(track), width: track.width, height: track.height, bandwidth_bps: track.bandwidth})),
      audios: () => player.getAudioTracks().map((track) =>
        ({id: audioId(track), language: track.language, label: track.label ?? ''})),
      texts: () => player.getTextTracks().map((track) =>
        ({id: track.id, language: track.language, label: track.label ?? ''})),
      active: () => {
        const shown = player.getVideoTracks().find((track) => track.active);
        const heard = player.getAudioTracks().find((track) => track.active);
        const text = player.getTextTracks().find((track) => track.active);
        return {video: shown && videoId(shown), audio: heard && audioId(heard), text: text?.id, variant: variant()?.id};
      },
      pickVideo: (id) => {
        player.configure('abr.enabled', false);
        player.selectVideoTrack(player.getVideoTracks().find((track) => videoId(track) === id), true);
      },
      pickAudio: (id) => player.selectAudioTrack(player.getAudioTracks().find((track) => audioId(track) === id)),
      pickText: (id) => player.selectTextTrack(player.getTextTracks().find((track) => track.id === id)),
      cues: () => cues,
      shown: () => document.querySelector('.shaka-text-container')?.textContent ?? '',
      thumbnail: async (time_s) => {
        const track = player.getImageTracks()[0];
        const found = track && await player.getThumbnails(track.id, time_s);
        return found && {url: found.uris[0], x: found.positionX, y: found.positionY, width: found.width, height: found.height};
      },
    };
  }

  // ---- dash.js ----

  /** Puts what the key module asks for into a wish, and takes what it gets out of the answer. */
  function askInJson(engine, {headers, wish}) {
    const {LICENSE} = shaka.net.NetworkingEngine.RequestType;
    engine.registerRequestFilter((type, request) => {
      if (type !== LICENSE) return;
      const bytes = String.fromCharCode(...new Uint8Array(request.body));
      Object.assign(request.headers, headers, {'Content-Type': 'application/json'});
      request.body = new TextEncoder().encode(JSON.stringify({...wish, license_request_bytes: btoa(bytes)}));
    });
    engine.registerResponseFilter((type, response) => {
      if (type !== LICENSE) return;
      const {license_bytes} = JSON.parse(new TextDecoder().decode(response.data));
      response.data = Uint8Array.from(atob(license_bytes), (char) => char.charCodeAt(0)).buffer;
    });
  }

  function dashJs(element, license) {
    const player = dashjs.MediaPlayer().create();
    const events = dashjs.MediaPlayer.events;
    const captions = document.getElementById('captions');
    player.on(events.ERROR, ({error}) => fail(`${error?.code ?? ''} ${error?.message ?? JSON.stringify(error)}`.trim()));
    player.on(events.PLAYBACK_ERROR, ({error}) => fail(`playback: ${error?.code ?? error}`));
    const representation = () => player.getCurrentRepresentationForType('video');
    const texts = () => player.getTracksFor('text');
    const label = (track) => track.labels?.[0]?.text ?? '';
    return {
      open: (url) => new Promise((resolve, reject) => {
        player.on(events.STREAM_INITIALIZED, () => resolve());
        player.on(events.ERROR, ({error}) => reject(new Error(error?.message ?? 'error')));
        player.initialize();
        player.updateSettings({streaming: {
          buffer: {bufferTimeDefault: 16, bufferTimeAtTopQuality: 16, bufferTimeAtTopQualityLongForm: 16},
          text: {defaultEnabled: false},
        }});
        if (license) player.setProtectionData({'org.w3.clearkey': {serverURL: license}});
        player.attachView(element);
        player.attachTTMLRenderingDiv(captions);
        player.setAutoPlay(true);
        player.attachSource(url);
      }),
      videos: () => player.getRepresentationsByType('video').map((track) =>
        ({id: track.id, width: track.width, height: track.height, bandwidth_bps: track.bandwidth})),
      audios: () => player.getTracksFor('audio').map((track, id) => ({id, language: track.lang ?? '', label: label(track)})),
      texts: () => texts().map((track, id) => ({id, language: track.lang ?? '', label: label(track)})),
      active: () => {
        const audio = player.getCurrentTrackFor('audio');
        return {
          video: representation()?.id,
          audio: audio ? player.getTracksFor('audio').findIndex((track) => track.index === audio.index) : -1,
          text: player.isTextEnabled() ? player.getCurrentTextTrackIndex() : -1,
        };
      },
      pickVideo: (id) => {
        player.updateSettings({streaming: {abr: {autoSwitchBitrate: {video: false}}}});
        player.setRepresentationForTypeById('video', id, true);
      },
      pickAudio: (id) => player.setCurrentTrack(player.getTracksFor('audio')[id]),
      pickText: (id) => {
        player.enableText(true);
        player.setTextTrack(id);
      },
      cues: () => cueTimes(rendered(element)),
      shown: () => cueText(rendered(element)) + captions.textContent,
      thumbnail: (time_s) => new Promise((resolve) => player.provideThumbnail(time_s, resolve)),
    };
  }

  /** The picture of a time as the player gives it: the place on its sheet, and the sheet's size; `null` for none. */
  async function thumbnail(time_s) {
    if (!adapter.thumbnail) return 'unknown to the player';
    const found = await adapter.thumbnail(time_s);
    if (!found) return null;
    const {url, x, y, width, height} = found;
    const sheet = new Image();
    sheet.src = url;
    await sheet.decode();
    return {url, x, y, width, height, sheet: {width: sheet.naturalWidth, height: sheet.naturalHeight}};
  }

  /** Shows the frame of a time and leaves it paused. */
  async function still(time_s) {
    const element = video();
    const wait = (delay_ms) => new Promise((resolve) => setTimeout(resolve, delay_ms));
    element.pause();
    element.currentTime = time_s;
    for (let tries = 0; element.seeking || element.readyState < 2; tries += 1) {
      if (tries > 400) throw new Error(`no frame at ${time_s} s`);
      await wait(25);
    }
    // The frame of before may be on the screen until the next is drawn.
    await wait(200);
  }

  /** The brightness of a few places of a picture file: [32 × 18 numbers of 0 to 255]. */
  async function brightness(url) {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = new OffscreenCanvas(32, 18);
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
    return Array.from({length: data.length / 4}, (_, at) => Math.round((data[4 * at] + data[4 * at + 1] + data[4 * at + 2]) / 3));
  }

  return {
    open, state, seek, hold, thumbnail, still, brightness,
    pick: (kind, id) => adapter[{video: 'pickVideo', audio: 'pickAudio', text: 'pickText'}[kind]](id),
  };
})();
