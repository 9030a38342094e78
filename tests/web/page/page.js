// What a test asks of the page: load a model in a worker, generate, cancel and measure.

import { bestBuild } from './capabilities.js';
import { randomLlama } from './gguf.js';

async function bytesOf(model) {
  if (model.random) return randomLlama(model.random);
  const response = await fetch(model.url);
  if (!response.ok) throw new Error(`${model.url}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

class Session {
  #worker = new Worker('/page/worker.js', { type: 'module' });
  #heard = () => {};

  constructor() {
    this.#worker.onmessage = ({ data }) => this.#heard(data);
    this.#worker.onerror = (event) => this.#heard({ kind: 'error', message: `worker: ${event.message}` });
  }

  // Posts a message and hands every event to `until`, whose first answer other than undefined is the result.
  #exchange(message, until) {
    return new Promise((resolve, reject) => {
      this.#heard = (event) => {
        if (event.kind === 'error') return reject(new Error(`${event.code ?? ''} ${event.message}\n${event.stack ?? ''}`));
        const result = until(event);
        if (result !== undefined) resolve(result);
      };
      this.#worker.postMessage(message);
    });
  }

  async load({ build, model, as = 'array', options }) {
    const bytes = await bytesOf(model);
    const data = as === 'blob' ? new Blob([bytes]) : bytes;
    const message = { kind: 'load', build: build ?? bestBuild(), files: [['model.gguf', data]], options };
    return this.#exchange(message, (event) => (event.kind === 'loaded' ? event : undefined));
  }

  generate(ask) {
    const tokens = [];
    let text = '';
    return this.#exchange({ kind: 'submit', ask }, (event) => {
      if (event.kind === 'token') tokens.push(event.id);
      if (event.kind === 'text') text += event.text;
      return event.kind === 'done' ? { tokens, text, done: event } : undefined;
    });
  }

  // Cancels once `after` tokens are here. The time from posting `cancel` to hearing `done`, in milliseconds.
  cancel(ask, after) {
    let request, posted;
    let tokens = 0;
    return this.#exchange({ kind: 'submit', ask }, (event) => {
      if (event.kind === 'submitted') request = event.request;
      if (event.kind === 'token') tokens += 1;
      if (event.kind === 'token' && tokens === after) {
        posted = performance.now();
        this.#worker.postMessage({ kind: 'cancel', request });
      }
      return event.kind === 'done' ? { latency: performance.now() - posted, tokens, reason: event.reason } : undefined;
    });
  }

  // What WebGPU was asked for so far.
  async seen() {
    return (await this.#exchange({ kind: 'seen' }, (event) => (event.kind === 'seen' ? event : undefined))).seen;
  }

  close() {
    this.#worker.terminate();
  }
}

window.bestBuild = bestBuild;
window.withSession = async (setup, steps) => {
  const session = new Session();
  try {
    const loaded = await session.load(setup);
    const results = [];
    for (const [verb, ...rest] of steps) results.push(await session[verb](...rest));
    return { loaded, results, seen: await session.seen() };
  } finally {
    session.close();
  }
};
