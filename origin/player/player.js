// The player: joins the page's markup to shaka-player and its controls.
//
// A plain script without inline code, so that `script-src 'self'` is enough. Every address it asks for comes from the
// markup's data attributes; it asks no other host.
'use strict';

(() => {
  // The ways one title can be asked for, in order of preference.
  const FORMS = [
    {name: 'hls', label: 'HLS', attribute: 'hls'},
    {name: 'ts', label: 'HLS-TS', attribute: 'ts'},
    {name: 'dash', label: 'DASH', attribute: 'dash'},
  ];

  // Before the first play only this much is fetched: enough for a first frame and an instant start.
  const BUFFER_BEFORE_START_S = 4;
  const BUFFER_S = 30;

  const query = new URLSearchParams(location.search);
  const root = document.getElementById('player');
  const video = document.getElementById('video');
  const startButton = document.getElementById('start');
  const errorBox = document.getElementById('error');
  const isPage = document.body.classList.contains('page');

  const sources = FORMS
      .map((form) => ({...form, url: root.dataset[form.attribute]}))
      .filter((form) => form.url);

  /** What tests and the console may look at. */
  const headwater = {
    player: null,
    ui: null,
    video,
    id: root.dataset.id,
    forms: sources.map((source) => source.name),
    form: null,
    error: null,
    load,
    ready: null,
  };
  window.headwater = headwater;

  // Counts loads, so that an answer to an abandoned one is not taken for the current one's.
  let generation = 0;
  let started = false;
  let wanted = false;
  // Where the current load was to begin, in seconds.
  let beginning_s = 0;
  // Whether the library's own faults have been answered once already since somebody chose what to play.
  let afresh = false;

  headwater.ready = main();

  async function main() {
    video.loop = flag('loop');
    video.muted = flag('mute');
    wireStart();
    wireTools();
    if (!window.shaka) {
      fail('The player could not be loaded', 'This server does not have the player library installed.', '');
      return;
    }
    shaka.polyfill.installAll();
    if (!shaka.Player.isBrowserSupported()) {
      fail('This browser cannot play the video', 'It has neither Media Source Extensions nor HLS of its own.', '');
      return;
    }
    if (sources.length === 0) {
      fail('Nothing to play', 'This title has no playable source.', '');
      return;
    }
    await build();
    wanted = flag('autoplay');
    await load(firstForm(), startSecond());
  }

  async function build() {
    // The controls show the element's title above the video; the page has its own heading instead.
    if (!isPage) video.title = root.dataset.title;
    const player = new shaka.Player();
    headwater.player = player;
    if (root.dataset.license) {
      player.configure({drm: {servers: {'org.w3.clearkey': new URL(root.dataset.license, location.href).href}}});
    }
    // Bound before attaching: a failure to attach is reported here too.
    player.addEventListener('error', (event) => onFailure(event.detail));
    // Before attaching, or subtitles would be left to the browser's own rendering.
    player.setVideoContainer(root);
    await player.attach(video);
    const ui = new shaka.ui.Overlay(player, root, video);
    headwater.ui = ui;
    ui.configure(controls(ui));
    player.configure(playback());
    for (const event of ['adaptation', 'variantchanged', 'trackschanged', 'loaded']) {
      player.addEventListener(event, showFacts);
    }
  }

  function controls(ui) {
    const small = ui.isMobile();
    return {
      controlPanelElements: small ?
        ['mute', 'time_and_duration', 'spacer', 'captions', 'overflow_menu', 'fullscreen'] :
        ['play_pause', 'mute_volume', 'time_and_duration', 'spacer', 'captions', 'overflow_menu',
          'picture_in_picture', 'fullscreen'],
      topControlPanelElements: isPage ? [] : ['content_title', 'spacer'],
      overflowMenuButtons: ['quality', 'language', 'captions', 'playback_rate', 'loop'],
      contextMenuElements: ['loop', 'statistics'],
      playbackRates: [0.5, 0.75, 1, 1.25, 1.5, 2],
      playbackRateSliderMin: 0.5,
      playbackRateSliderMax: 2,
      seekBarColors: {
        base: 'rgba(255, 255, 255, 0.22)',
        buffered: 'rgba(255, 255, 255, 0.38)',
        played: '#4cc2ff',
      },
      volumeBarColors: {base: 'rgba(255, 255, 255, 0.3)', level: '#ffffff'},
      enableKeyboardPlaybackControlsInWindow: true,
      trackLabelFormat: shaka.ui.Overlay.TrackLabelFormat.LABEL_OR_LANGUAGE,
      textTrackLabelFormat: shaka.ui.Overlay.TrackLabelFormat.LABEL_OR_LANGUAGE,
      // The window of its own that this opens needs inline styles, which the page's policy refuses.
      documentPictureInPicture: {enabled: false},
      castReceiverAppId: '',
      castSenderUrl: '',
    };
  }

  function playback() {
    return {
      mediaSource: {transmuxWorkerUrl: `${root.dataset.assetBase}/shaka-player.transmuxer-worker.js`},
      streaming: {bufferingGoal: BUFFER_BEFORE_START_S, rebufferingGoal: 0.5, bufferBehind: 30},
      manifest: {retryParameters: {maxAttempts: 3}},
    };
  }

  /** Plays the named form from `at_s`; the position and the choice of languages survive a change of form. */
  async function load(name, at_s) {
    const source = sources.find((candidate) => candidate.name === name);
    if (!source) {
      fail('Nothing to play', `This title has no source called "${name}".`, '');
      return;
    }
    const player = headwater.player;
    const mine = ++generation;
    beginning_s = at_s;
    clearError();
    keepLanguages(player);
    headwater.form = name;
    showForms();
    if (wanted || !video.paused) {
      wanted = true;
    } else {
      startButton.hidden = started;
    }
    try {
      await player.load(source.url, at_s > 0 ? at_s : null);
    } catch (error) {
      if (mine === generation) await onFailure(error);
      return;
    }
    if (mine !== generation) return;
    nameTitle();
    showFacts();
    if (wanted) await play();
  }

  async function play() {
    wanted = true;
    const mine = generation;
    if (!headwater.player || !video.readyState && !headwater.player.getAssetUri()) return;
    try {
      await video.play();
    } catch (error) {
      // Another load came in between (AbortError) and starts what is wanted itself.
      if (mine !== generation) return;
      // The browser wants a gesture first (NotAllowedError), or somebody paused (AbortError).
      wanted = false;
      if (error.name === 'NotAllowedError') startButton.hidden = false;
    }
  }

  function wireStart() {
    startButton.addEventListener('click', () => {
      play();
      root.focus({preventScroll: true});
    });
    video.addEventListener('play', () => {
      started = true;
      wanted = false;
      startButton.hidden = true;
      if (headwater.player) headwater.player.configure('streaming.bufferingGoal', BUFFER_S);
    });
    video.addEventListener('resize', showFacts);
    video.addEventListener('error', () => {
      // With no player above it nobody else reports the element's own failure.
      if (!headwater.player && video.error) fail('The video could not be played', video.error.message, '');
    });
    document.getElementById('retry').addEventListener('click', () => {
      if (!headwater.player) {
        location.reload();
        return;
      }
      wanted = true;
      afresh = false;
      load(headwater.form, video.currentTime || startSecond());
    });
  }

  // ---- what the page shows around the video ----

  function wireTools() {
    const forms = document.getElementById('forms');
    if (!forms) return;
    for (const source of sources) {
      const button = document.createElement('button');
      button.type = 'button';
      button.className = 'form';
      button.textContent = source.label;
      button.dataset.form = source.name;
      button.setAttribute('role', 'radio');
      button.addEventListener('click', () => choose(source.name));
      forms.append(button);
    }
    forms.hidden = sources.length < 2;
    forms.addEventListener('keydown', (event) => {
      const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const at = sources.findIndex((source) => source.name === headwater.form);
      const next = sources[(at + step + sources.length) % sources.length];
      choose(next.name);
      forms.querySelector(`[data-form="${next.name}"]`).focus();
    });
    copies('copy-link', () => here('/v/'));
    copies('copy-embed', () =>
      `<iframe src="${here('/embed/')}" width="854" height="480" frameborder="0" ` +
      'allow="autoplay; fullscreen; encrypted-media; picture-in-picture" allowfullscreen></iframe>');
  }

  function choose(name) {
    if (name === headwater.form || !headwater.player) return;
    const address = new URL(location.href);
    address.searchParams.set('form', name);
    history.replaceState(null, '', address);
    afresh = false;
    load(name, video.currentTime);
  }

  function showForms() {
    for (const button of document.querySelectorAll('.form')) {
      const chosen = button.dataset.form === headwater.form;
      button.setAttribute('aria-checked', String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
  }

  function copies(id, text) {
    const button = document.getElementById(id);
    const label = button.textContent;
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(text());
        button.textContent = 'Copied';
      } catch (error) {
        button.textContent = 'Copying was refused';
      }
      setTimeout(() => { button.textContent = label; }, 1600);
    });
  }

  function here(prefix) {
    return new URL(prefix + encodeURIComponent(headwater.id), location.href).href;
  }

  function showFacts() {
    const line = document.getElementById('facts');
    if (!line || !headwater.player) return;
    const playing = headwater.player.getVariantTracks().find((track) => track.active);
    if (!playing) {
      line.textContent = '';
      return;
    }
    const facts = [];
    if (playing.width && playing.height) facts.push(`${playing.width} × ${playing.height}`);
    if (playing.frameRate) facts.push(`${Math.round(playing.frameRate * 100) / 100} fps`);
    if (playing.bandwidth) facts.push(bitrate(playing.bandwidth));
    for (const codec of [playing.videoCodec, playing.audioCodec]) {
      if (codec) facts.push(codecName(codec));
    }
    line.textContent = facts.join('  ·  ');
  }

  function bitrate(bps) {
    return bps >= 1e6 ? `${(bps / 1e6).toFixed(1)} Mb/s` : `${Math.round(bps / 1e3)} kb/s`;
  }

  function codecName(codec) {
    const names = [
      [/^avc[13]/, 'H.264'], [/^(hvc1|hev1)/, 'H.265'], [/^dv(h1|he|a1|av)/, 'Dolby Vision'], [/^av01/, 'AV1'],
      [/^vp0?9/, 'VP9'], [/^vp0?8/, 'VP8'], [/^mp4a\.(6b|69|40\.34)/i, 'MP3'], [/^mp4a/, 'AAC'], [/^ec-3/, 'E-AC-3'],
      [/^ac-3/, 'AC-3'], [/^ac-4/, 'AC-4'], [/^opus/i, 'Opus'], [/^flac/i, 'FLAC'],
    ];
    const named = names.find(([pattern]) => pattern.test(codec));
    return named ? named[1] : codec;
  }

  function nameTitle() {
    if (!isPage && 'mediaSession' in navigator && root.dataset.title) {
      navigator.mediaSession.metadata = new MediaMetadata({title: root.dataset.title});
    }
  }

  // ---- what the query asks for ----

  function flag(name) {
    return query.get(name) === '1';
  }

  /** The start second; anything that is not a plain positive number means the start. */
  function startSecond() {
    const text = query.get('t') || '';
    return /^\d{1,6}(\.\d{1,3})?$/.test(text) ? Number(text) : 0;
  }

  function firstForm() {
    const asked = query.get('form');
    return sources.some((source) => source.name === asked) ? asked : sources[0].name;
  }

  function keepLanguages(player) {
    const audio = player.getAudioTracks().find((track) => track.active);
    if (audio) player.configure({preferredAudio: [{language: audio.language}]});
    const text = player.getTextTracks().find((track) => track.active);
    if (player.getAssetUri()) player.configure({preferredText: text ? [{language: text.language}] : []});
  }

  // ---- failure ----

  /**
   * What has no code is a fault within the library: its streams of before are sometimes still at work while it loads the
   * next. It is made to let go of everything and loads again, once.
   */
  async function onFailure(error) {
    if (error instanceof Error && error.code === undefined && !afresh) {
      afresh = true;
      const mine = generation;
      console.info(`The player starts afresh after: ${error.message}`);
      const at_s = video.currentTime || beginning_s;
      wanted ||= !video.paused;
      await headwater.player.unload();
      if (mine === generation) await load(headwater.form, at_s);
      return;
    }
    onError(error);
  }

  function onError(error) {
    const codes = shaka.util.Error.Code;
    if (!error || error.code === codes.LOAD_INTERRUPTED || error.code === codes.OPERATION_ABORTED) return;
    if (error.severity === shaka.util.Error.Severity.RECOVERABLE) return;
    const name = Object.keys(codes).find((key) => codes[key] === error.code) || 'UNKNOWN';
    fail('The video could not be played', reason(error, codes), error.code ? `${name} (${error.code})` : '');
  }

  function reason(error, codes) {
    const data = error.data || [];
    switch (error.code) {
      case codes.BAD_HTTP_STATUS: return statusReason(Number(data[1]), String(data[0]));
      case codes.HTTP_ERROR: return `The server could not be reached for ${path(data[0])}.`;
      case codes.TIMEOUT: return `The server took too long to answer for ${path(data[0])}.`;
      case codes.VIDEO_ERROR: return `The browser could not decode the video. ${data[2] || ''}`.trim();
      case codes.CONTENT_UNSUPPORTED_BY_BROWSER:
      case codes.NO_VARIANTS:
        return 'This browser supports none of the codecs of this title.';
      case codes.HLS_VARIABLE_NOT_FOUND:
      case codes.HLS_PLAYLIST_HEADER_MISSING:
      case codes.DASH_INVALID_XML:
      case codes.UNABLE_TO_GUESS_MANIFEST_TYPE:
        return 'The manifest could not be understood.';
      default: break;
    }
    const categories = {
      1: 'The network failed.',
      2: 'The subtitles could not be read.',
      3: 'The media could not be read.',
      4: 'The manifest could not be understood.',
      5: 'The stream could not be continued.',
      6: 'The video is protected and its key could not be used.',
    };
    return categories[error.category] || error.message || 'The cause is not known.';
  }

  function statusReason(status, uri) {
    if (status === 401 || status === 403) return `The server refused access (${status}); the link may have expired.`;
    if (status === 404 || status === 410) return `The server does not have ${path(uri)} (${status}).`;
    if (status === 429) return 'The server received too many requests (429); wait a moment.';
    return `The server answered ${status} for ${path(uri)}.`;
  }

  function path(uri) {
    try {
      return new URL(uri, location.href).pathname;
    } catch (error) {
      return 'an address';
    }
  }

  function fail(title, text, code) {
    headwater.error = {title, reason: text, code};
    document.getElementById('error-title').textContent = title;
    document.getElementById('error-reason').textContent = text;
    document.getElementById('error-code').textContent = code;
    startButton.hidden = true;
    errorBox.hidden = false;
    root.classList.add('failed');
  }

  function clearError() {
    headwater.error = null;
    errorBox.hidden = true;
    root.classList.remove('failed');
  }
})();
