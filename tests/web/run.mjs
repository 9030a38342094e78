// Runs the engine in a bare page in headless Chromium: wasm CPU in both builds, WebGPU on SwiftShader with and without subgroups.
//
//   node tests/web/build.mjs && node tests/web/run.mjs [--only WORDS]
//
// FIRECREST_SHARED or ../shared/data holds stories260K; CHROMIUM names the browser.

import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { serve } from './server.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.join(here, '../..');
const only = process.argv.includes('--only') ? process.argv[process.argv.indexOf('--only') + 1] : '';

// SwiftShader's WebGPU, and nothing that talks to the outside.
const FLAGS = [
  '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan', '--no-sandbox',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run', '--disable-quic',
];
// The longest that a caller may wait for `cancel` to be answered, in milliseconds.
const CANCEL_LIMIT = 100;
// Models whose steps take some milliseconds, so that 64 tokens last long enough to be cancelled among them. SwiftShader has fewer
// multiply-adds a second by far; a step that was submitted to a GPU can't be called back, so `cancel` is answered after it.
const BUSY = { width: 512, layers: 8, heads: 8, kvHeads: 4, feedForward: 1536, vocab: 4096, context: 512 };
const BUSY_FOR_SWIFTSHADER = { ...BUSY, width: 128, layers: 2, heads: 4, kvHeads: 2, feedForward: 384, vocab: 512 };
// A case that takes longer hangs. SwiftShader compiles for CPUs what others compile for GPUs: minutes on a busy machine.
const CASE_LIMIT = 900_000;

const counts = { passed: 0, failed: 0, skipped: 0 };

// Says loudly that something was not tested. With CI=true that is a failure.
function skip(what, reason) {
  const line = `SKIPPED ${what}: ${reason}`;
  console.error(line);
  if (process.env.FIRECREST_SKIPS) appendFileSync(process.env.FIRECREST_SKIPS, `${line}\n`);
  counts.skipped += 1;
  if (process.env.CI === 'true') counts.failed += 1;
}

function finish() {
  console.log(`web: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  process.exit(counts.failed ? 1 : 0);
}

function check(condition, message) {
  if (!condition) throw new Error(message);
}

function checkTokens(got, wanted) {
  const at = wanted.findIndex((id, i) => got[i] !== id);
  check(at < 0, `token ${at} is ${got[at]}, not ${wanted[at]}; got ${got.length} of ${wanted.length}: ${got.join(' ')}`);
  check(got.length === wanted.length, `${got.length} tokens, not ${wanted.length}`);
}

const chromiumPath = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((p) => p && existsSync(p));
const shared = [process.env.FIRECREST_SHARED, path.join(root, '../shared/data'), path.join(root, '../../shared/data')].find((p) => p && existsSync(p));
const playwright = await import('playwright-core').catch(() => null);

if (!playwright) skip('the page', 'playwright-core is not installed: npm ci in tests/web');
else if (!chromiumPath) skip('the page', 'chromium is not installed: cargo xtask setup, or name one in CHROMIUM');
else if (!['simd128', 'relaxed'].every((b) => existsSync(path.join(here, 'build', b, 'firecrest_web_bg.wasm')))) {
  skip('the page', 'the web face is not built: node tests/web/build.mjs (it needs wasm-bindgen and the wasm32 target)');
}
if (counts.skipped) finish();

const models = shared && path.join(shared, 'models');
const server = await serve({ page: path.join(here, 'page'), build: path.join(here, 'build'), ...(models && { models }) });
const browser = await playwright.chromium.launch({ executablePath: chromiumPath, args: FLAGS });
const page = await browser.newPage();
page.on('console', (message) => console.log(`  page: ${message.text()}`));
page.on('pageerror', (error) => console.log(`  page error: ${error.stack}`));
await page.goto(`${server.origin}/page/index.html`);
await page.waitForFunction(() => window.withSession);

async function run(name, test) {
  if (!name.includes(only)) return;
  const began = Date.now();
  let timer;
  try {
    const hang = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`no end after ${CASE_LIMIT / 1000} s`)), CASE_LIMIT); });
    const note = await Promise.race([test(), hang]);
    counts.passed += 1;
    console.log(`ok      ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)${note ? `: ${note}` : ''}`);
  } catch (error) {
    counts.failed += 1;
    console.log(`FAILED  ${name}: ${error.message}`);
  } finally {
    clearTimeout(timer);
  }
}

const session = (setup, steps) => page.evaluate(([setup, steps]) => window.withSession(setup, steps), [setup, steps]);

const BACKENDS = {
  'wasm CPU, simd128': { build: 'simd128', options: { backend: 'cpu' } },
  'wasm CPU, relaxed SIMD': { build: 'relaxed', options: { backend: 'cpu' } },
  // Not timed, so that the preferred rung runs and not the one that happens to be faster on SwiftShader.
  'WebGPU with subgroups': { options: { backend: 'gpu', accept_software: true, benchmark: false } },
  'WebGPU without subgroups': { options: { backend: 'gpu', accept_software: true, benchmark: false, subgroups: false } },
};

// What WebGPU was really asked for.
function checkSubgroups(name, seen) {
  if (!name.startsWith('WebGPU')) return;
  check(seen.modules > 0, 'no shader module was made: this did not run on the GPU');
  const wanted = name === 'WebGPU with subgroups';
  check(seen.subgroupDevices > 0 === wanted, `${seen.subgroupDevices} devices have subgroups`);
  check(seen.subgroupModules > 0 === wanted, `${seen.subgroupModules} of ${seen.modules} shader modules use subgroups`);
}

const story = models && JSON.parse(readFileSync(path.join(models, 'stories260K.expected.json')));
for (const [name, setup] of Object.entries(BACKENDS)) {
  if (!story) {
    skip(`stories260K, ${name}`, 'the shared test data is absent: set FIRECREST_SHARED to its folder');
    continue;
  }
  const model = { url: '/models/stories260K.gguf' };
  await run(`stories260K, ${name}`, async () => {
    const asks = story.cases.flatMap(({ prompt, prompt_ids: ids, greedy_ids: all }) => {
      const rest = { max_tokens: all.length - ids.length, ignore_eos: true, temperature: 0 };
      return [{ prompt: ids, ...rest }, { prompt, ...rest }];
    });
    const as = name.includes('simd128') ? 'array' : 'blob';
    const { loaded, results, seen } = await session({ ...setup, model, as }, asks.map((ask) => ['generate', ask]));
    results.forEach(({ tokens, text, done }, i) => {
      const { prompt, prompt_ids: ids, greedy_ids: all, greedy_text: whole } = story.cases[i >> 1];
      check(done.reason === 'max_tokens', `ended by ${done.reason} ${done.message ?? ''}`);
      checkTokens(tokens, all.slice(ids.length));
      // A continuation keeps the space that parts it from its prompt; a text's own first space is not part of it.
      const told = (prompt + text).trimStart();
      check(told === whole, `the text is ${JSON.stringify(told)}, not ${JSON.stringify(whole)}`);
    });
    checkSubgroups(name, seen);
    return `${loaded.description.adapter}, ${loaded.description.rung}`;
  });
}

// Whatever comes first to a fresh worker gets what it gets after others: steps that leave nothing to read, and prompts of several steps, among them.
for (const name of ['wasm CPU, simd128', 'wasm CPU, relaxed SIMD']) {
  if (!story) break;
  await run(`from cold, ${name}`, async () => {
    const ids = (length) => Array.from({ length }, (_, at) => 3 + (at * 31) % 500);
    const rest = { ignore_eos: true, temperature: 0 };
    const asks = [
      ...[65, 128, 129, 300].map((length) => ({ prompt: ids(length), max_tokens: 4, ...rest })),
      ...[1, 64, 129].map((length) => ({ prompt: ids(length), max_tokens: 0, ...rest })),
    ];
    const setup = { ...BACKENDS[name], model: { url: '/models/stories260K.gguf' } };
    const generate = (some) => session(setup, some.map((ask) => ['generate', ask]));
    const warm = (await generate([{ prompt: [1], max_tokens: 2, ...rest }, ...asks])).results.slice(1);
    warm.forEach(({ tokens, done }, at) => {
      check(done.reason === 'max_tokens', `ask ${at} ended by ${done.reason} ${done.message ?? ''}`);
      check(tokens.length === asks[at].max_tokens, `ask ${at}: ${tokens.length} tokens`);
    });
    for (const [at, ask] of asks.entries()) {
      const { results: [first] } = await generate([ask]);
      check(first.done.reason === 'max_tokens', `ask ${at} as the first ended by ${first.done.reason} ${first.done.message ?? ''}`);
      checkTokens(first.tokens, warm[at].tokens);
    }
    return `${asks.length} asks`;
  });
}

// Compiling a grammar engine for wasm proves nothing: it reads clocks there.
for (const name of ['wasm CPU, simd128', 'WebGPU with subgroups']) {
  if (!story) break;
  await run(`structured output, ${name}`, async () => {
    const schema = {
      type: 'object', required: ['name', 'age'], additionalProperties: false,
      properties: { name: { type: 'string', maxLength: 12 }, age: { type: 'integer', minimum: 0, maximum: 120 } },
    };
    const ask = { prompt: [1], max_tokens: 200, temperature: 1, grammar: { json_schema: schema } };
    const model = { url: '/models/stories260K.gguf' };
    const prose = { prompt: [1], max_tokens: 60, temperature: 0, grammar: { regex: '#[0-9]{3}#' }, grammar_trigger: ' was' };
    const refused = { prompt: [1], grammar: { json_schema: { type: 'object', properties: { a: { type: 'thing' } } } } };
    const { results } = await session({ ...BACKENDS[name], model }, [
      ...[1, 2, 3].map((seed) => ['generate', { ...ask, seed }]), ['generate', prose], ['generate', refused],
    ]);
    for (const { text, done } of results.slice(0, 3)) {
      check(['grammar_complete', 'end_of_generation'].includes(done.reason), `ended by ${done.reason} ${done.message ?? ''}: ${text}`);
      const person = JSON.parse(text);
      check(typeof person.name === 'string' && Number.isInteger(person.age) && person.age <= 120, `not what was asked for: ${text}`);
    }
    check(/ was#[0-9]{3}#/.test(results[3].text), `no number behind the trigger: ${results[3].text}`);
    check(results[4].done.reason === 'failed' && results[4].done.message.includes('#/properties/a/type'), JSON.stringify(results[4].done));
    return results[0].text;
  });
}

// A device that draws tokens itself is never waited for, but where a grammar must know what came before.
await run('no wait for the host, WebGPU with subgroups', async () => {
  const rest = { prompt: [1], max_tokens: 24, ignore_eos: true, speculation: false };
  const asks = [
    { ...rest, temperature: 0 },
    { ...rest, temperature: 1.5, top_p: 0.95, seed: 3 },
    { ...rest, repeat_penalty: 1.3, frequency_penalty: 0.5, top_k: 30, typical_p: 0.9, min_p: 0.01, seed: 4 },
    { ...rest, grammar: { regex: '([a-z]+ ){6}end' }, seed: 5 },
  ];
  const { results } = await session({ ...BACKENDS['WebGPU with subgroups'], model: story ? { url: '/models/stories260K.gguf' } : { random: BUSY_FOR_SWIFTSHADER } },
    (story ? asks : asks.slice(0, 3)).map((ask) => ['generate', ask]));
  const waits = results.map(({ done }) => {
    check(done.reason !== 'failed', done.message);
    return done.usage.host_waits;
  });
  check(waits.slice(0, 3).every((w) => w === 0), `submissions waited for the host: ${waits}`);
  if (story) {
    const tokens = results[3].done.usage.generated_tokens;
    check(waits[3] > 0 && waits[3] <= tokens, `${waits[3]} waits for ${tokens} tokens of a grammar`);
  }
  return `${waits.join(', ')} waits`;
});

for (const [name, setup] of Object.entries(BACKENDS)) {
  await run(`cancel among 64 tokens, ${name}`, async () => {
    const ask = { prompt: [1, 2, 3, 4, 5, 6, 7, 8], max_tokens: 64, ignore_eos: true, temperature: 0 };
    const cancels = [2, 5, 9, 14, 20].map((after) => ['cancel', ask, after]);
    const random = setup.options.backend === 'gpu' ? BUSY_FOR_SWIFTSHADER : BUSY;
    const { results } = await session({ ...setup, model: { random } }, [['generate', ask], ...cancels]);
    check(results[0].tokens.length === 64, `${results[0].tokens.length} of 64 tokens, ended by ${results[0].done.reason}`);
    const latencies = results.slice(1).map(({ reason, tokens, latency }) => {
      check(reason === 'cancelled', `ended by ${reason} after ${tokens} tokens`);
      check(tokens < 64, 'all 64 tokens were generated although the request was cancelled');
      return latency;
    });
    const said = latencies.map((l) => l.toFixed(1)).join(', ');
    check(Math.max(...latencies) <= CANCEL_LIMIT, `cancel took ${said} ms; the limit is ${CANCEL_LIMIT} ms`);
    return `${said} ms`;
  });
}

await run('what is wrong with a request is said, and others go on', async () => {
  const { results } = await session({ ...BACKENDS['wasm CPU, simd128'], model: { random: BUSY } }, [
    ['generate', { prompt: [] }],
    ['generate', { prompt: [1], temperature: -1 }],
    ['generate', { prompt: 'text, but the file has no tokenizer' }],
    ['generate', { prompt: [1, 2], max_tokens: 3, ignore_eos: true }],
  ]);
  for (const { done } of results.slice(0, 3)) {
    check(done.reason === 'failed' && done.code === 'request' && done.message, `a request was to be refused: ${JSON.stringify(done)}`);
  }
  check(results[3].tokens.length === 3, 'the good request did not run');
});

await browser.close();
server.close();
finish();
