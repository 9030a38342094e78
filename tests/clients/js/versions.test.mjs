// On an older Node npm installs older clients without a word: what runs here is what package.json says.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const read = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));

test("the clients are those that are pinned", () => {
  assert.ok(Number(process.versions.node.split(".")[0]) >= 22, process.version);
  for (const [name, pinned] of Object.entries(read("../package.json").devDependencies)) {
    assert.equal(read(`../node_modules/${name}/package.json`).version, pinned.split("@").at(-1), name);
  }
});
