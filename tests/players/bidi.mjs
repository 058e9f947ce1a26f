// Firefox over WebDriver BiDi (https://w3c.github.io/webdriver-bidi/), which it speaks itself: no driver beside it.
//
// Pages have as much of the face of Chromium's, which playwright gives, as the cases use.
import {spawn} from 'node:child_process';
import {once} from 'node:events';
import {mkdtemp, rm, writeFile} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {createInterface} from 'node:readline';
import WebSocket from 'ws';

const START_S = 60;
const END_S = 10;
const COMMAND_S = 60;
const EVENTS = ['network.beforeRequestSent', 'network.responseCompleted', 'network.fetchError', 'log.entryAdded'];

/** Starts a headless Firefox with a fresh profile of these preferences: {version, newContext(), close()}. */
export async function launchFirefox({executable, preferences}) {
  const profile = await mkdtemp(join(tmpdir(), 'firefox-'));
  const lines = Object.entries(preferences).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`);
  await writeFile(join(profile, 'user.js'), lines.join(''));
  const program = spawn(executable, ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port=0'],
    {stdio: ['ignore', 'ignore', 'pipe'], env: {...process.env, MOZ_CRASHREPORTER_DISABLE: '1'}});
  const ended = once(program, 'exit');
  const end = async () => {
    await Promise.race([ended, after(END_S)]);
    if (program.exitCode === null && program.signalCode === null) program.kill('SIGKILL');
    await ended.catch(() => null);
    await rm(profile, {recursive: true, force: true, maxRetries: 5});
  };
  try {
    const address = await within(START_S, `${executable} says where it listens`, listening(program, ended));
    const connection = await within(START_S, `${executable} opens a session`, Connection.open(`${address}/session`));
    const {capabilities} = await connection.send('session.new', {capabilities: {}});
    await connection.send('session.subscribe', {events: EVENTS});
    return new Browser(connection, capabilities.browserVersion, end);
  } catch (error) {
    program.kill('SIGKILL');
    await end();
    throw error;
  }
}

async function listening(program, ended) {
  const said = createInterface(program.stderr);
  const found = new Promise((resolve) => said.on('line', (line) => {
    const address = /WebDriver BiDi listening on (ws:\S+)/.exec(line)?.[1];
    if (address) resolve(address);
  }));
  return Promise.race([found, ended.then(([code]) => { throw new Error(`it ended with ${code}`); })]);
}

const after = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000).unref());

async function within(seconds, what, promise) {
  return Promise.race([promise, after(seconds).then(() => { throw new Error(`${what}: not within ${seconds} s`); })]);
}

class Connection {
  static async open(address) {
    const socket = new WebSocket(address, {maxPayload: 64 << 20});
    await once(socket, 'open');
    return new Connection(socket);
  }

  constructor(socket) {
    this.socket = socket;
    this.pending = new Map();
    this.listeners = new Set();
    this.count = 0;
    socket.on('message', (data) => this.receive(JSON.parse(data)));
    socket.on('close', () => {
      for (const {reject} of this.pending.values()) reject(new Error('the browser is gone'));
      this.pending.clear();
    });
  }

  receive(message) {
    if (message.type === 'event') {
      for (const listener of this.listeners) listener(message.method, message.params);
      return;
    }
    const waiting = this.pending.get(message.id);
    this.pending.delete(message.id);
    if (message.type === 'success') waiting?.resolve(message.result);
    else waiting?.reject(new Error(`${waiting.method}: ${message.error}: ${message.message}`));
  }

  async send(method, params) {
    this.count += 1;
    const id = this.count;
    const answer = new Promise((resolve, reject) => this.pending.set(id, {method, resolve, reject}));
    this.socket.send(JSON.stringify({id, method, params}));
    return within(COMMAND_S, method, answer);
  }
}

class Browser {
  constructor(connection, version, end) {
    Object.assign(this, {connection, version, end});
  }

  async newContext({viewport}) {
    const {userContext} = await this.connection.send('browser.createUserContext', {});
    return {
      newPage: () => Page.open(this.connection, userContext, viewport),
      close: () => this.connection.send('browser.removeUserContext', {userContext}),
    };
  }

  async close() {
    await this.connection.send('browser.close', {}).catch(() => null);
    await this.end();
  }
}

class Page {
  static async open(connection, userContext, viewport) {
    // A window of its own: a tab behind another shows no frames.
    const {context} = await connection.send('browsingContext.create', {type: 'window', userContext});
    await connection.send('browsingContext.setViewport', {context, viewport});
    return new Page(connection, context);
  }

  constructor(connection, context) {
    Object.assign(this, {connection, context, handlers: {}, reroute: null});
    connection.listeners.add((method, params) => {
      if (params.context === this.context || params.source?.context === this.context) this.told(method, params);
    });
  }

  on(event, handler) {
    this.handlers[event] = handler;
  }

  told(method, params) {
    const tell = (event, what) => this.handlers[event]?.(what);
    if (method === 'log.entryAdded') {
      if (params.type === 'javascript') tell('pageerror', {message: params.text});
      else tell('console', {type: () => params.level, text: () => params.text});
      return;
    }
    const request = new Request(params);
    // The browser's own question whether the page may ask; Chromium's pages do not hear of it either.
    if (params.request.method === 'OPTIONS') {
      if (params.isBlocked) this.pass(request, params.request.request);
    } else if (method === 'network.responseCompleted') tell('requestfinished', request);
    else if (method === 'network.fetchError') tell('requestfailed', request);
    else {
      tell('request', request);
      if (params.isBlocked) this.pass(request, params.request.request);
    }
  }

  /** Lets a request that was held go on, to another address where `route` says so. */
  pass(request, id) {
    const go = (change = {}) => this.connection.send('network.continueRequest', {request: id, ...change}).catch(() => null);
    if (this.reroute?.matches(new URL(request.url()))) this.reroute.handle({request: () => request, continue: go});
    else go();
  }

  async route(matches, handle) {
    this.reroute = {matches, handle};
    await this.connection.send('network.addIntercept', {phases: ['beforeRequestSent'], contexts: [this.context]});
  }

  async goto(url) {
    await this.connection.send('browsingContext.navigate', {context: this.context, url, wait: 'complete'});
  }

  async call(functionDeclaration, ...values) {
    const answer = await this.connection.send('script.callFunction', {functionDeclaration, awaitPromise: true,
      target: {context: this.context}, arguments: values.map((value) => ({type: 'string', value}))});
    if (answer.type === 'exception') throw new Error(answer.exceptionDetails.text.replace(/^Error: /, ''));
    return answer.result;
  }

  /** Runs `work(argument)` in the page; what goes in and out is JSON. */
  async evaluate(work, argument = null) {
    const {value} = await this.call(`async (text) => JSON.stringify(await (${work})(JSON.parse(text)))`, JSON.stringify(argument));
    return value === undefined ? undefined : JSON.parse(value);
  }

  locator(selector) {
    return {screenshot: async () => {
      const {sharedId} = await this.call('(selector) => document.querySelector(selector)', selector);
      const {data} = await this.connection.send('browsingContext.captureScreenshot',
        {context: this.context, clip: {type: 'element', element: {sharedId}}});
      return Buffer.from(data, 'base64');
    }};
  }
}

class Request {
  constructor({request, response, errorText}) {
    Object.assign(this, {sent: request, answer: response, errorText});
  }

  url() {
    return this.sent.url;
  }

  headers() {
    return Object.fromEntries(this.sent.headers.map(({name, value}) => [name.toLowerCase(), value.value]));
  }

  async response() {
    return this.answer && {status: () => this.answer.status};
  }

  failure() {
    return {errorText: this.errorText};
  }
}
