// Builds the web face twice, for plain and for relaxed SIMD, into tests/web/build/<name>/.
//
//   node tests/web/build.mjs          WASM_BINDGEN names the CLI, else it is taken from the path
//
// A browser that has relaxed SIMD loads that one; page/capabilities.js decides at run time.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import path from 'node:path';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.join(here, '../..');
const target = process.env.CARGO_TARGET_DIR ? path.resolve(root, process.env.CARGO_TARGET_DIR) : path.join(root, 'target');
const bindgen = process.env.WASM_BINDGEN ?? 'wasm-bindgen';

const BUILDS = { simd128: '+simd128', relaxed: '+simd128,+relaxed-simd' };

function run(program, args, env = {}) {
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } });
  if (error) throw new Error(`${program} could not be started: ${error.message}`);
  if (status !== 0) process.exit(1);
}

for (const [name, features] of Object.entries(BUILDS)) {
  const began = Date.now();
  run('cargo', ['build', '--profile', 'web', '--package', 'firecrest-web', '--target', 'wasm32-unknown-unknown'], {
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS: `-C target-feature=${features}`,
  });
  // Both builds leave their module at the same place, so each is bound before the next is built.
  const module = path.join(target, 'wasm32-unknown-unknown/web/firecrest_web.wasm');
  run(bindgen, ['--target', 'web', '--no-typescript', '--out-dir', path.join(here, 'build', name), module]);
  console.log(`web build ${name}: ${((Date.now() - began) / 1000).toFixed(0)} s`);
}
