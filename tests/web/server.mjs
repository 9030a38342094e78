// Serves the page, the builds and the test models to a browser on this machine, and nothing else. No COOP, no COEP: the product must
// work without them. The policy forbids eval.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import path from 'node:path';

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm' };
const POLICY = "default-src 'self' data:; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'";

// `folders`: what each first part of a path stands for. Returns { origin, close }.
export async function serve(folders) {
  const server = createServer(async (request, response) => {
    const [, first, ...rest] = decodeURIComponent(new URL(request.url, 'http://localhost').pathname).split('/');
    const folder = folders[first];
    const file = folder && path.join(folder, ...rest);
    try {
      if (!file || !file.startsWith(folder + path.sep)) throw new Error('outside');
      const body = await readFile(file);
      const type = TYPES[path.extname(file)] ?? 'application/octet-stream';
      response.writeHead(200, { 'content-type': type, 'content-security-policy': POLICY, 'cache-control': 'no-store' });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}
