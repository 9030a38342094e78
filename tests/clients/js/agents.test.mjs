// Coding agents as people install them, headless, over scripts: three steps with tools, and nothing is let through to any other host.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, afterEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { scripted, stop } from "./server.mjs";

const bin = fileURLToPath(new URL("../node_modules/.bin/", import.meta.url));

let server;
/** Stands before the server and notes what was answered to what: an agent that is refused may ask again in another way, and nobody would see it. */
let front;
const answered = [];
let outside;
/** What was asked of other hosts: a proxy for them that lets nothing through. */
const asked = [];
before(async () => {
  server = await scripted();
  const { hostname, port } = new URL(server.url);
  front = createHttpServer((from, to) => {
    const body = [];
    from.on("data", (piece) => body.push(piece));
    const asks = request({ hostname, port, path: from.url, method: from.method, headers: from.headers }, (answer) => {
      const said = Buffer.concat(body).toString();
      answered.push({ path: from.url, status: answer.statusCode, ignored: answer.headers["firecrest-ignored-fields"], said });
      to.writeHead(answer.statusCode, answer.headers);
      answer.pipe(to);
    });
    asks.on("error", () => to.destroy());
    from.pipe(asks);
  });
  await new Promise((done) => front.listen(0, "127.0.0.1", done));
  outside = createServer((socket) =>
    socket.once("data", (data) => (asked.push(`${data}`.split("\r\n", 1)[0]), socket.destroy())).on("error", () => {}),
  );
  await new Promise((done) => outside.listen(0, "127.0.0.1", done));
});
after(stop);
after(() => outside.close());
after(() => front.close());

let folder;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "firecrest-agent-"));
  writeFileSync(join(folder, "a.txt"), "the quick brown fx\n");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Runs an agent in the folder, which is its home as well. What it printed, a JSON value a line. */
async function run(program, args, environment) {
  const proxy = `http://127.0.0.1:${outside.address().port}`;
  const own = {
    PATH: process.env.PATH,
    HOME: folder,
    TMPDIR: folder,
    HTTP_PROXY: proxy,
    HTTPS_PROXY: proxy,
    NO_PROXY: "127.0.0.1,localhost",
  };
  const child = spawn(join(bin, program), args, { cwd: folder, env: { ...own, ...environment }, stdio: ["ignore", "pipe", "pipe"] });
  // A fuse.
  const timer = setTimeout(() => child.kill("SIGKILL"), 150_000);
  let [out, err] = ["", ""];
  child.stdout.on("data", (data) => (out += data));
  child.stderr.on("data", (data) => (err += data));
  const code = await new Promise((done) => child.once("close", done));
  clearTimeout(timer);
  assert.equal(code, 0, `${out}\n${err}`);
  return out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

describe("coding agents", () => {
  test("claude-code", async () => {
    const lines = await run(
      "claude",
      ["-p", "Mend a.txt", "--model", "claude-code", "--output-format", "stream-json", "--verbose", "--allowedTools", "Bash"],
      {
        ANTHROPIC_BASE_URL: `http://127.0.0.1:${front.address().port}`,
        ANTHROPIC_API_KEY: "any",
        ANTHROPIC_DEFAULT_HAIKU_MODEL: "hello",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
        DISABLE_AUTOUPDATER: "1",
        DISABLE_ERROR_REPORTING: "1",
        DISABLE_TELEMETRY: "1",
      },
    );
    assert.deepEqual(asked, []);
    const result = lines.find((line) => line.type === "result");
    assert.equal(result.is_error, false, JSON.stringify(result));
    assert.equal(result.result, "Mended.");
    const used = lines
      .flatMap((line) => (line.type === "assistant" ? line.message.content : []))
      .filter((block) => block.type === "tool_use");
    assert.deepEqual(
      used.map((block) => block.name),
      ["Bash", "Bash", "Bash"],
    );
    assert.equal(readFileSync(join(folder, "a.txt"), "utf8"), "the quick brown fox\n");
    // Each request is served as it was first sent: tools whose loading it defers are shown, and listed.
    const messages = answered.filter(({ path }) => path.startsWith("/v1/messages"));
    assert.ok(messages.length >= 4, `${messages.length}`);
    assert.deepEqual(
      messages.filter(({ status }) => status >= 400),
      [],
    );
    const deferring = messages.filter(({ said }) => said.includes('"defer_loading":true'));
    assert.ok(deferring.length > 0);
    assert.ok(
      deferring.every(({ ignored }) => /tools\.\d+\.defer_loading/.test(ignored)),
      JSON.stringify(deferring.map(({ ignored }) => ignored)),
    );
  });

  // It asks a package registry for the types of its plugins, whatever its settings say, and goes on without them.
  test("opencode", async () => {
    const models = Object.fromEntries(["opencode", "hello"].map((name) => [name, { name, tool_call: true }]));
    const options = { baseURL: `${server.url}/v1`, apiKey: "any" };
    const config = {
      autoupdate: false,
      share: "disabled",
      enabled_providers: ["firecrest"],
      model: "firecrest/opencode",
      small_model: "firecrest/hello",
      permission: { edit: "allow", bash: "allow" },
      provider: { firecrest: { npm: "@ai-sdk/openai-compatible", name: "Firecrest", options, models } },
    };
    const lines = await run("opencode", ["run", "--format", "json", "Mend a.txt"], {
      OPENCODE_CONFIG_CONTENT: JSON.stringify(config),
      OPENCODE_DISABLE_AUTOUPDATE: "1",
      OPENCODE_DISABLE_DEFAULT_PLUGINS: "1",
      OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
      OPENCODE_DISABLE_MODELS_FETCH: "1",
    });
    const used = lines.filter((line) => line.type === "tool_use").map(({ part }) => [part.tool, part.state.status]);
    assert.deepEqual(used, [
      ["read", "completed"],
      ["edit", "completed"],
      ["bash", "completed"],
    ]);
    assert.equal(lines.filter((line) => line.type === "text").at(-1).part.text, "Mended.");
    assert.equal(readFileSync(join(folder, "a.txt"), "utf8"), "the quick brown fox\n");
  });
});
