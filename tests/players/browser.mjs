// Headless Chromium, and what it says over the wire while a page is open.
import {chromium} from 'playwright-core';

const FLAGS = [
  '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-dev-shm-usage',
];

/** Starts a browser. `autoplay` is 'allowed', or 'blocked' as in a browser nobody has touched yet. */
export async function launch({executable, autoplay = 'allowed'}) {
  const policy = autoplay === 'allowed' ? 'no-user-gesture-required' : 'document-user-activation-required';
  return chromium.launch({executablePath: executable, headless: true, chromiumSandbox: false,
    args: [...FLAGS, `--autoplay-policy=${policy}`]});
}

/** Records every request of `page`: `done` in order of completion, and what failed. */
export function record(page) {
  const log = {requests: [], done: [], failures: [], console: []};
  page.on('request', (request) => log.requests.push(request.url()));
  page.on('requestfinished', async (request) => {
    const entry = {url: request.url(), range: request.headers().range?.replace(/^bytes=/, '') ?? null, status: 0};
    log.done.push(entry);
    const response = await request.response().catch(() => null);
    entry.status = response?.status() ?? 0;
    if (entry.status >= 400) log.failures.push(`${entry.status} for ${entry.url}`);
  });
  page.on('requestfailed', (request) => {
    const reason = request.failure()?.errorText ?? 'failed';
    // A player gives up a request when it changes its mind; that is not the origin's failure.
    if (!/ERR_ABORTED|NS_BINDING_ABORTED/.test(reason)) log.failures.push(`${reason} for ${request.url()}`);
  });
  page.on('pageerror', (error) => log.failures.push(`script error: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error' && log.console.length < 50) log.console.push(message.text());
  });
  return log;
}

/**
 * Asks `probe` again and again until it answers something true, which is returned; throws after `deadline_s`, saying
 * what was awaited and what `describe` says of the last state.
 */
export async function until(what, deadline_s, probe, describe = () => '') {
  const deadline_ms = performance.now() + deadline_s * 1000;
  for (;;) {
    const answer = await probe();
    if (answer) return answer;
    if (performance.now() > deadline_ms) {
      const last = await describe();
      throw new Error(`${what}: not within ${deadline_s} s${last ? ` (${last})` : ''}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 80));
  }
}

/** Steps of what must not play. */
export const NO_FRAME = 'no frame';
export const CLOSED = 'closed';

/**
 * Runs `jobs`, `count` of them at any time. Each gives a result or a list of results, which `report` is told as they come; all
 * are returned in the order of the jobs.
 *
 * A job that failed beside others runs once more, alone, and the second time counts: a busy machine makes players stumble
 * that play well. What must not play gets no second time.
 */
export async function atOnce(count, jobs, report) {
  const waiting = [...jobs.entries()];
  const results = [];
  const one = async ([index, job]) => {
    results[index] = [await job()].flat();
    for (const result of results[index]) report(result);
  };
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) await one(next);
  };
  await Promise.all(Array.from({length: count}, work));
  const stumbled = (result) => result.steps.some(({ok, name}) => !ok && ![NO_FRAME, CLOSED].includes(name));
  const again = [...jobs.entries()].filter(([index]) => results[index].some(stumbled));
  for (const entry of again) {
    const {player, form} = results[entry[0]][0];
    console.log(`\nonce more, alone: ${player}  ${form}`);
    await one(entry);
  }
  return results.flat();
}
