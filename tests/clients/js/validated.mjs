// A `fetch` that holds every answer of the server to the types of the clients' packages: whole bodies, each event of a stream, and the
// order of events, headers and framing that clients rely on but types don't tell.
import assert from "node:assert/strict";

import Ajv from "ajv";
import formats from "ajv-formats";

import { schemas } from "./schemas.mjs";

const wrong = [];
let held = 0;
const checks = await compile();

async function compile() {
  const made = await schemas();
  const compiled = {};
  for (const [name, schema] of Object.entries(made)) {
    mend(name, schema);
    const ajv = new Ajv({ strict: false, allErrors: false, verbose: false });
    formats(ajv);
    // Compiled when first used: the large ones take a while.
    let check;
    compiled[name] = (value) => ((check ??= ajv.compile(schema)), check(value) ? null : explain(ajv, schema, value, check.errors));
  }
  return compiled;
}

/** Where a type says what the client adds itself, not what travels. */
function mend(name, schema) {
  const each = (visit) => Object.values(schema.definitions ?? {}).forEach(visit);
  if (name.startsWith("Response")) {
    // The client makes it from `output`.
    each((type) => type.required && (type.required = type.required.filter((member) => member !== "output_text")));
    // Up to 7.57 the type of this event requires both; the newest has neither. A member more breaks nobody.
    each((type) => {
      if (type.properties?.type?.const !== "response.function_call_arguments.done") return;
      for (const member of ["name", "call_id"]) type.properties[member] ??= { type: "string" };
    });
    // The types leave these out where there is nothing to say; the hosted service's own examples of responses that have begun say `null`.
    each((type) => {
      if (!type.properties?.parallel_tool_calls || !type.properties.output) return;
      for (const member of ["usage", "user"]) {
        if (type.properties[member]) type.properties[member] = { anyOf: [type.properties[member], { type: "null" }] };
      }
    });
  }
  if (/^(Beta)?Message/.test(name)) {
    // The one member of the Messages API that is left out although its type names it: other clients take it to be an array or nothing.
    each(
      (type) =>
        type.properties?.type?.const === "text" &&
        type.required &&
        (type.required = type.required.filter((member) => member !== "citations")),
    );
  }
  if (name === "Error") {
    // Error objects are told without what the client's own error classes read from them.
    const details = {
      type: "object",
      properties: { error_code: { type: "string" }, unsupported: { type: "array", items: { type: "string" } } },
      additionalProperties: false,
    };
    each((type) => type.properties?.message && type.properties?.type && (type.properties.details = details));
  }
  if (name === "Completion") {
    // Whole answers and chunks have one type here, and a chunk that is not the last has no reason yet.
    each(
      (type) =>
        type.properties?.finish_reason && (type.properties.finish_reason = { anyOf: [type.properties.finish_reason, { type: "null" }] }),
    );
  }
  if (name === "Embeddings") {
    // The types tell floats only; with `encoding_format: "base64"` a string travels.
    each((type) => type.properties?.embedding && (type.properties.embedding = { anyOf: [type.properties.embedding, { type: "string" }] }));
  }
}

/** The errors that matter: of a union decided by `type`, those of the branch that was meant. */
function explain(ajv, schema, value, errors) {
  let deepest = errors.filter((error) => !["anyOf", "const", "enum"].includes(error.keyword));
  if (deepest.length === 0) deepest = errors;
  const depth = Math.max(...deepest.map((error) => error.instancePath.split("/").length));
  const told = deepest.filter((error) => error.instancePath.split("/").length === depth);
  return told
    .slice(0, 6)
    .map((error) => `${error.instancePath || "/"} ${error.message} ${JSON.stringify(error.params)} (${error.schemaPath})`)
    .join("\n    ");
}

function hold(name, value, where) {
  held += 1;
  const why = checks[name](value);
  if (why) report(`${where}: not a ${name}:\n    ${why}\n    ${JSON.stringify(value).slice(0, 2000)}`);
}

function report(what) {
  wrong.push(what);
}

const POST = {
  "/v1/messages": ["Message", "MessageEvent"],
  "/v1/messages/count_tokens": ["Count"],
  "/v1/chat/completions": ["Chat", "ChatChunk"],
  "/v1/responses": ["Response", "ResponseEvent"],
  "/v1/completions": ["Completion", "Completion"],
  "/v1/embeddings": ["Embeddings"],
  "/v1/moderations": ["Moderations"],
};

/** The names of an answer's types, by its request. */
function kinds(method, url, headers) {
  const messages = ["anthropic-version", "x-api-key", "anthropic-beta"].some((name) => headers.has(name));
  if (method === "GET" && url.pathname.startsWith("/v1/models")) return { whole: messages ? "Model" : "OpenAiModel", messages };
  const [whole, event] = (method === "POST" && POST[url.pathname]) || [];
  const anthropic = url.pathname.startsWith("/v1/messages");
  const beta = anthropic && (headers.has("anthropic-beta") || url.searchParams.get("beta") === "true");
  const named = (name) => name && (beta ? `Beta${name}` : name);
  return { whole: named(whole), event: named(event), messages: anthropic };
}

/** `fetch`, held to the types. */
export async function validated(input, init) {
  const request = input instanceof Request ? input : undefined;
  const url = new URL(request?.url ?? input);
  const method = (init?.method ?? request?.method ?? "GET").toUpperCase();
  const headers = new Headers(init?.headers ?? request?.headers);
  const response = await fetch(input, init);
  const { whole, event, messages } = kinds(method, url, headers);
  const where = `${method} ${url.pathname}${url.search} ${response.status}`;
  const id = response.headers.get(messages ? "request-id" : "x-request-id");
  if (!id) report(`${where}: no header with the request's id`);
  if (!whole) return response;
  const type = response.headers.get("content-type") ?? "";
  if (response.ok && type.startsWith("text/event-stream")) {
    if (!event) report(`${where}: a stream that nobody asked for`);
    const watch = new Watch(event ?? whole, where, messages);
    const body = response.body.pipeThrough(
      new TransformStream({ transform: (chunk, out) => (watch.push(chunk), out.enqueue(chunk)), flush: () => watch.end() }),
    );
    return new Response(body, { status: response.status, headers: response.headers });
  }
  if (!type.startsWith("application/json")) report(`${where}: content-type ${type}`);
  const text = await response.text();
  const value = JSON.parse(text);
  if (!response.ok) error(value, messages, id, where);
  else if (Array.isArray(value.data) && url.pathname === "/v1/models") value.data.forEach((model) => hold(whole, model, where));
  else hold(whole, value, where);
  return new Response(text, { status: response.status, headers: response.headers });
}

function error(value, messages, id, where) {
  if (messages) {
    hold("Error", value, where);
    if (value.request_id !== id) report(`${where}: request_id ${value.request_id}, and ${id} in the header`);
    return;
  }
  held += 1;
  const { message, type, param, code } = value.error ?? {};
  const fits =
    typeof message === "string" && typeof type === "string" && [param, code].every((each) => each === null || typeof each === "string");
  if (!fits || Object.keys(value).join() !== "error" || Object.keys(value.error).length !== 4)
    report(`${where}: not an error's envelope: ${JSON.stringify(value)}`);
}

/** The events of one stream. */
class Watch {
  constructor(name, where, messages) {
    Object.assign(this, {
      name,
      where,
      messages,
      decoder: new TextDecoder("utf-8", { fatal: true }),
      buffer: "",
      events: 0,
      sequence: 0,
      over: false,
    });
  }

  push(chunk) {
    this.buffer += this.decoder.decode(chunk, { stream: true });
    let end;
    while ((end = this.buffer.indexOf("\n\n")) >= 0) {
      this.frame(this.buffer.slice(0, end));
      this.buffer = this.buffer.slice(end + 2);
    }
  }

  frame(frame) {
    const lines = frame.split("\n").filter((line) => line && !line.startsWith(":"));
    if (lines.length === 0) return;
    const name = lines.find((line) => line.startsWith("event: "))?.slice(7);
    const data = lines
      .filter((line) => line.startsWith("data: "))
      .map((line) => line.slice(6))
      .join("\n");
    if (this.over) report(`${this.where}: goes on behind its end: ${frame}`);
    if (data === "[DONE]") {
      if (this.messages || this.name === "ResponseEvent") report(`${this.where}: [DONE]`);
      this.over = true;
      return;
    }
    const value = JSON.parse(data);
    this.events += 1;
    if (this.messages) this.message(name, value);
    else if (this.name === "ResponseEvent") this.response(name, value);
    else if (value.error) error(value, false, null, this.where);
    else hold(this.name, value, this.where);
  }

  message(name, value) {
    if (name !== value.type) report(`${this.where}: event ${name} holds a ${value.type}`);
    if (name === "ping") return;
    if (name === "error") hold("Error", value, this.where);
    else hold(this.name, value, this.where);
    this.over = name === "message_stop" || name === "error";
    const order = { message_start: this.open === undefined, content_block_start: this.open === null && value.index === this.index };
    const inside = this.open === value.index && this.open !== null;
    Object.assign(order, {
      content_block_delta: inside,
      content_block_stop: inside,
      message_delta: this.open === null,
      message_stop: this.told,
    });
    if (order[name] === false) report(`${this.where}: ${JSON.stringify(value)} out of order`);
    if (name === "message_start") [this.open, this.index] = [null, 0];
    if (name === "content_block_start") this.open = value.index;
    if (name === "content_block_stop") [this.open, this.index] = [null, this.index + 1];
    if (name === "message_delta") this.told = true;
  }

  response(name, value) {
    if (name !== value.type) report(`${this.where}: event ${name} holds a ${value.type}`);
    if (value.sequence_number !== this.sequence) report(`${this.where}: event ${this.sequence} says it is ${value.sequence_number}`);
    this.sequence += 1;
    hold(this.name, value, this.where);
    this.over = ["response.completed", "response.incomplete", "response.failed", "error"].includes(name);
  }

  end() {
    if (this.buffer.trim()) report(`${this.where}: ends in the middle of a frame: ${this.buffer}`);
    if (!this.over) report(`${this.where}: has no end`);
  }
}

/** To be called when a suite is over: fails with all that was wrong, each once. */
export function allHeld() {
  const told = [...new Map(wrong.map((what) => [what.split("\n", 2).join(), what])).values()];
  assert.equal(told.length, 0, `${wrong.length} answers are not what the clients' types say:\n${told.slice(0, 20).join("\n")}`);
  assert.ok(held > 0, "no answer came through `validated`");
}
