// The test page's own server: another origin than the one under test, so that every media request is cross-origin.
import {createReadStream} from 'node:fs';
import {createServer} from 'node:http';
import {dirname, extname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const library = (...parts) => join(here, 'node_modules', ...parts);

const FILES = {
  '/': join(here, 'page', 'harness.html'),
  '/harness.js': join(here, 'page', 'harness.js'),
  '/harness.css': join(here, 'page', 'harness.css'),
  '/hls.js': library('hls.js', 'dist', 'hls.min.js'),
  '/shaka.js': library('shaka-player', 'dist', 'shaka-player.compiled.js'),
  '/dash.js': library('dashjs', 'dist', 'modern', 'umd', 'dash.all.min.js'),
};

export const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Listens on a port of the loopback address, a free one unless it is named: {origin, close()}. */
export async function serve(port = 0) {
  return listen((request, response) => {
    const {pathname, searchParams} = new URL(request.url, 'http://localhost');
    if (pathname === '/frame') {
      const page = `<!doctype html><title>frame</title><iframe id="frame" width="854" height="480" allow="autoplay; fullscreen; encrypted-media" src="${searchParams.get('src').replaceAll('&', '&amp;').replaceAll('"', '&quot;')}"></iframe>`;
      response.writeHead(200, {'content-type': TYPES['.html']}).end(page);
      return;
    }
    const file = FILES[pathname];
    if (!file) {
      response.writeHead(pathname === '/favicon.ico' ? 204 : 404).end();
      return;
    }
    response.writeHead(200, {'content-type': TYPES[extname(file)]});
    createReadStream(file).on('error', () => response.destroy()).pipe(response);
  }, port);
}

/** Serves `handler` on a loopback port, a free one unless it is named. */
export async function listen(handler, port = 0) {
  const server = createServer(handler);
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}
