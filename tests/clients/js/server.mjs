// Starts a server for a suite, and tells where it is. FIRECREST_SCRIPTED and FIRECREST are programs that were built before.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const started = [];

async function start(variable, args) {
  const program = process.env[variable];
  if (!program) throw new Error(`${variable} does not name a program: build it, and set the variable`);
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, RUST_LOG: "warn" } });
  started.push(child);
  const said = [];
  for await (const line of createInterface({ input: variable === "FIRECREST" ? child.stderr : child.stdout })) {
    said.push(line);
    const url = /listening on (http:\S+)/.exec(line)?.[1];
    if (url) {
      // What it says later must not fill the pipe.
      child.stderr.resume();
      child.stdout.resume();
      return { url, child };
    }
  }
  throw new Error(`${program} ended before it listened:\n${said.join("\n")}`);
}

/** Scripts in place of models: see runtime/native/examples/scripted_server.rs. */
export const scripted = (...args) => start("FIRECREST_SCRIPTED", args);

/** The model that ships. */
export const embedded = () => start("FIRECREST", ["serve", "--no-auth", "--model", "embedded", "--port", "0", "--store", ":memory:"]);

/** Waits until so many answers run. */
export async function running(server, count) {
  const now = async () => Number(/^firecrest_running(?:\{[^}]*\})? (\d+)/m.exec(await (await fetch(`${server.url}/metrics`)).text())?.[1]);
  const until = Date.now() + 10_000;
  for (let seen; (seen = await now()) !== count;) {
    if (Date.now() > until) throw new Error(`${seen} answers run, and not ${count}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** To be called when a suite is over. */
export async function stop() {
  for (const child of started.splice(0)) {
    if (child.exitCode !== null) continue;
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  }
}
