// The model that ships, through the real engine: what hangs on tokens, grammars and the cache, which no script shows.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import Before from "@anthropic-ai/sdk-before";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { betaZodOutputFormat } from "@anthropic-ai/sdk/helpers/beta/zod";
import Ajv from "ajv";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import { embedded, running, stop } from "./server.mjs";
import { allHeld, validated } from "./validated.mjs";

const model = "firecrest-chat";
const messages = [{ role: "user", content: "Tell me a story about a fox." }];
const ask = { model, max_tokens: 24, messages };
// What the helpers hand on to the server whole: bounds of numbers and lengths they only tell the model.
const Person = z.object({ friend: z.boolean(), mood: z.enum(["glad", "sad"]), pet: z.object({ kind: z.literal("fox") }).nullable() });
const tools = [
  {
    name: "get_weather",
    description: "The weather",
    input_schema: {
      type: "object",
      properties: { unit: { type: "string", enum: ["c", "f"] }, days: { type: "integer", minimum: 1, maximum: 9 } },
      required: ["unit", "days"],
      additionalProperties: false,
    },
  },
  { name: "stop", description: "Stops", input_schema: { type: "object", properties: {}, additionalProperties: false } },
];
const functions = tools.map(({ name, description, input_schema }) => ({
  type: "function",
  function: { name, description, parameters: input_schema, strict: true },
}));

let server;
let anthropic;
let early;
let openai;
before(async () => {
  server = await embedded();
  const options = { apiKey: "any", maxRetries: 0, fetch: validated };
  anthropic = new Anthropic({ baseURL: server.url, ...options });
  early = new Before({ baseURL: server.url, ...options });
  openai = new OpenAI({ baseURL: `${server.url}/v1`, ...options });
});
after(stop);
after(allHeld);

function weather(input) {
  assert.deepEqual(Object.keys(input).sort(), ["days", "unit"]);
  assert.ok(["c", "f"].includes(input.unit));
  assert.ok(Number.isInteger(input.days) && input.days >= 1 && input.days <= 9);
}

describe("messages", () => {
  test("a stream says what a whole answer says", async () => {
    const params = { ...ask, temperature: 0 };
    const whole = await early.messages.create(params);
    const streamed = await early.messages.stream(params).finalMessage();
    assert.equal(whole.content[0].text, streamed.content[0].text);
    assert.ok(whole.content[0].text.length > 0);
    assert.equal(whole.stop_reason, streamed.stop_reason);
    assert.ok(whole.usage.output_tokens > 0 && whole.usage.output_tokens <= 24);
    assert.equal(whole.usage.output_tokens, streamed.usage.output_tokens);
  });

  test("max_tokens ends an answer", async () => {
    const { stop_reason, usage } = await anthropic.messages.create({ ...ask, max_tokens: 3 });
    assert.equal(stop_reason, "max_tokens");
    assert.equal(usage.output_tokens, 3);
  });

  test("a stop sequence ends an answer, and is not part of it", async () => {
    const params = { ...ask, temperature: 0, max_tokens: 48 };
    const { content } = await early.messages.create(params);
    const word = content[0].text.split(" ")[4];
    const stopped = await early.messages.create({ ...params, stop_sequences: ["never this", word] });
    assert.equal(stopped.stop_reason, "stop_sequence");
    assert.equal(stopped.stop_sequence, word);
    assert.equal(stopped.content[0]?.text ?? "", content[0].text.slice(0, content[0].text.indexOf(word)));
    const streamed = await early.messages.stream({ ...params, stop_sequences: [word] }).finalMessage();
    assert.deepEqual(streamed.content, stopped.content);
  });

  test("tokens are counted as they are charged", async () => {
    for (const params of [
      { model, messages },
      { model, messages, system: "Be brief." },
      { model, messages, tools },
    ]) {
      const { input_tokens } = await anthropic.messages.countTokens(params);
      const { usage } = await anthropic.messages.create({ ...params, max_tokens: 1 });
      assert.equal(input_tokens, usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens);
    }
  });

  test("an answer of a schema", async () => {
    const params = { ...ask, max_tokens: 160, messages: [{ role: "user", content: "Who are you?" }] };
    const parsed = await anthropic.messages.parse({ ...params, output_config: { format: zodOutputFormat(Person) } });
    assert.equal(parsed.stop_reason, "end_turn");
    Person.parse(parsed.parsed_output);
    const streamed = await anthropic.messages.stream({ ...params, output_config: { format: zodOutputFormat(Person) } }).finalMessage();
    Person.parse(JSON.parse(streamed.content[0].text));
    const beta = await anthropic.beta.messages.parse({ ...params, output_config: { format: betaZodOutputFormat(Person) } });
    Person.parse(beta.parsed_output);
  });

  test("a tool that must be called is called", async () => {
    for (const stream of [false, true]) {
      const say = async (tool_choice) => {
        const params = { ...ask, max_tokens: 128, tools, tool_choice };
        return stream ? anthropic.messages.stream(params).finalMessage() : anthropic.messages.create(params);
      };
      const named = await say({ type: "tool", name: "get_weather" });
      assert.equal(named.stop_reason, "tool_use");
      assert.deepEqual(
        named.content.map((block) => block.type),
        ["tool_use"],
      );
      weather(named.content[0].input);
      // One call: so small a model may go on calling until its tokens are used up.
      const any = await say({ type: "any", disable_parallel_tool_use: true });
      assert.equal(any.stop_reason, "tool_use");
      const [{ type, name, input }, ...more] = any.content;
      assert.deepEqual([type, more], ["tool_use", []]);
      if (name === "get_weather") weather(input);
      else assert.deepEqual([name, input], ["stop", {}]);
    }
  });

  test("a begun answer goes on", async () => {
    const begun = [...messages, { role: "assistant", content: "Once upon a time" }];
    const { content } = await anthropic.messages.create({ ...ask, messages: begun });
    assert.ok(content[0].text.length > 0 && !content[0].text.includes("<|"));
  });

  test("a prompt is kept where it is marked, and read again", async () => {
    const story = `Remember this. ${"The fox walked over the hill and looked at the moon. ".repeat(12)}`;
    const system = [{ type: "text", text: story, cache_control: { type: "ephemeral" } }];
    const kept = await anthropic.messages.create({ ...ask, system, max_tokens: 0 });
    assert.deepEqual(kept.content, []);
    assert.equal(kept.usage.output_tokens, 0);
    assert.ok(kept.usage.cache_creation_input_tokens > 0, JSON.stringify(kept.usage));
    const { usage } = await anthropic.messages.create({ ...ask, system, messages: [{ role: "user", content: "And then?" }] });
    assert.ok(usage.cache_read_input_tokens > 0, JSON.stringify(usage));
    const { input_tokens } = await anthropic.messages.countTokens({ model, system, messages: [{ role: "user", content: "And then?" }] });
    assert.equal(input_tokens, usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens);
  });

  test("a prompt that is too long is refused", async () => {
    const long = { ...ask, messages: [{ role: "user", content: "a fox and a hen ".repeat(2000) }] };
    await assert.rejects(anthropic.messages.create(long), (error) => {
      assert.ok(error instanceof Anthropic.BadRequestError);
      assert.match(error.message, /prompt is too long: \d+ tokens > \d+ maximum/);
      return true;
    });
    const asked = { model, messages: long.messages };
    await assert.rejects(openai.chat.completions.create(asked), (error) => {
      assert.equal(error.code, "context_length_exceeded");
      return true;
    });
    await assert.rejects(openai.embeddings.create({ model, input: long.messages[0].content }), (error) => {
      assert.equal(error.code, "context_length_exceeded");
      return true;
    });
  });

  test("a stream that is left ends the answer", async () => {
    const stream = anthropic.messages.stream({ ...ask, max_tokens: 900 });
    let events = 0;
    await assert.rejects(async () => {
      for await (const _ of stream) if (++events === 4) stream.abort();
    }, Anthropic.APIUserAbortError);
    await running(server, 0);
  });
});

describe("openai", () => {
  test("a seed says the same twice, whole and streamed", async () => {
    const params = { model, messages, seed: 7, temperature: 1, max_completion_tokens: 24 };
    const [first, second] = [await openai.chat.completions.create(params), await openai.chat.completions.create(params)];
    const streamed = await openai.chat.completions.stream(params).finalChatCompletion();
    const said = (completion) => completion.choices[0].message.content;
    assert.ok(said(first).length > 0);
    assert.equal(said(first), said(second));
    assert.equal(said(first), said(streamed));
    const others = await Promise.all([1, 2, 3, 4].map((seed) => openai.chat.completions.create({ ...params, seed })));
    assert.ok(others.some((other) => said(other) !== said(first)));
  });

  test("logprobs fit the text", async () => {
    const params = { model, messages, logprobs: true, top_logprobs: 3, temperature: 0, max_completion_tokens: 12 };
    const whole = await openai.chat.completions.create(params);
    const [{ message, logprobs }] = whole.choices;
    assert.equal(logprobs.content.map((token) => token.token).join(""), message.content);
    const bytes = Buffer.from(logprobs.content.flatMap((token) => token.bytes));
    assert.equal(bytes.toString(), message.content);
    for (const token of logprobs.content) {
      assert.ok(token.logprob <= 0 && token.top_logprobs.length === 3);
      // Greedy: what was drawn is the most probable.
      assert.equal(token.top_logprobs[0].token, token.token);
      assert.ok(Math.abs(token.top_logprobs[0].logprob - token.logprob) < 1e-6);
      assert.ok(token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob);
    }
    const streamed = [];
    for await (const chunk of await openai.chat.completions.create({ ...params, stream: true }))
      streamed.push(...(chunk.choices[0]?.logprobs?.content ?? []));
    assert.deepEqual(streamed, logprobs.content);
  });

  test("several answers", async () => {
    const { choices, usage } = await openai.chat.completions.create({
      model,
      messages,
      n: 3,
      temperature: 1.5,
      seed: 3,
      max_completion_tokens: 16,
    });
    assert.deepEqual(
      choices.map((choice) => choice.index),
      [0, 1, 2],
    );
    assert.ok(new Set(choices.map((choice) => choice.message.content)).size > 1);
    assert.ok(usage.completion_tokens > 16 && usage.completion_tokens <= 48);
    const seen = new Set();
    for await (const chunk of await openai.chat.completions.create({ model, messages, n: 2, max_completion_tokens: 4, stream: true })) {
      for (const choice of chunk.choices) if (choice.finish_reason) seen.add(choice.index);
    }
    assert.deepEqual([...seen].sort(), [0, 1]);
  });

  test("a stop and a limit end an answer", async () => {
    const params = { model, messages, temperature: 0, max_completion_tokens: 32 };
    const { choices } = await openai.chat.completions.create(params);
    const word = choices[0].message.content.split(" ")[3];
    const stopped = await openai.chat.completions.create({ ...params, stop: word });
    assert.equal(stopped.choices[0].finish_reason, "stop");
    assert.ok(!stopped.choices[0].message.content.includes(word));
    const short = await openai.chat.completions.create({ ...params, max_completion_tokens: 2 });
    assert.equal(short.choices[0].finish_reason, "length");
    assert.equal(short.usage.completion_tokens, 2);
  });

  test("an answer of a schema, in chats and responses", async () => {
    const params = { model, messages: [{ role: "user", content: "Who are you?" }], max_completion_tokens: 160 };
    const parsed = await openai.chat.completions.parse({ ...params, response_format: zodResponseFormat(Person, "person") });
    Person.parse(parsed.choices[0].message.parsed);
    const streamed = await openai.chat.completions
      .stream({ ...params, response_format: zodResponseFormat(Person, "person") })
      .finalChatCompletion();
    Person.parse(streamed.choices[0].message.parsed);
    const response = await openai.responses.parse({
      model,
      input: "Who are you?",
      max_output_tokens: 160,
      text: { format: zodTextFormat(Person, "person") },
    });
    Person.parse(response.output_parsed);
    const bounded = {
      type: "object",
      properties: {
        name: { type: "string", minLength: 1, maxLength: 8 },
        code: { type: "string", pattern: "^[A-Z]{2}-[0-9]{3}$" },
        age: { type: "integer", minimum: 0, maximum: 120 },
        likes: { type: "array", items: { enum: ["foxes", "hens", 3] }, minItems: 1, maxItems: 3 },
        other: { anyOf: [{ type: "null" }, { $ref: "#/$defs/place" }] },
      },
      required: ["name", "code", "age", "likes", "other"],
      additionalProperties: false,
      $defs: { place: { type: "object", properties: { north: { type: "boolean" } }, required: ["north"], additionalProperties: false } },
    };
    const fits = new Ajv({ strict: false }).compile(bounded);
    for (const seed of [1, 2, 3]) {
      const format = { type: "json_schema", json_schema: { name: "bounded", schema: bounded, strict: true } };
      const { choices } = await openai.chat.completions.create({ ...params, seed, temperature: 1.5, response_format: format });
      assert.equal(choices[0].finish_reason, "stop");
      assert.ok(fits(JSON.parse(choices[0].message.content)), choices[0].message.content);
    }
    const any = await openai.chat.completions.create({
      ...params,
      response_format: { type: "json_object" },
      seed: 1,
      max_completion_tokens: 300,
    });
    if (any.choices[0].finish_reason === "stop") assert.equal(typeof JSON.parse(any.choices[0].message.content), "object");
  });

  test("a tool that must be called is called", async () => {
    for (const tool_choice of ["required", { type: "function", function: { name: "get_weather" } }]) {
      const params = { model, messages, tools: functions, tool_choice, seed: 5, max_completion_tokens: 128 };
      // So small a model may call all that it has in every way.
      if (tool_choice === "required") params.parallel_tool_calls = false;
      const whole = await openai.chat.completions.create(params);
      const streamed = await openai.chat.completions.stream(params).finalChatCompletion();
      for (const { choices } of [whole, streamed]) {
        assert.equal(choices[0].finish_reason, "tool_calls");
        assert.equal(choices[0].message.tool_calls.length, 1);
        for (const { function: called } of choices[0].message.tool_calls) {
          if (tool_choice !== "required") assert.equal(called.name, "get_weather");
          const input = JSON.parse(called.arguments);
          if (called.name === "get_weather") weather(input);
          else assert.deepEqual(input, {});
        }
      }
    }
    const response = await openai.responses.create({
      model,
      input: "Weather?",
      tools: functions.map(({ function: f }) => ({ type: "function", ...f })),
      tool_choice: { type: "function", name: "get_weather" },
      max_output_tokens: 128,
    });
    const call = response.output.find((item) => item.type === "function_call");
    assert.equal(call.name, "get_weather");
    weather(JSON.parse(call.arguments));
  });

  test("responses, whole and streamed", async () => {
    const params = { model, input: "Tell me a story.", temperature: 0, max_output_tokens: 24 };
    const whole = await openai.responses.create(params);
    const streamed = await openai.responses.stream(params).finalResponse();
    assert.ok(whole.output_text.length > 0);
    assert.equal(whole.output_text, streamed.output_text);
    assert.equal(whole.usage.output_tokens, streamed.usage.output_tokens);
    assert.equal(whole.status, whole.incomplete_details ? "incomplete" : "completed");
  });

  test("completions of raw prompts", async () => {
    const { choices, usage } = await openai.completions.create({
      model,
      prompt: ["Once upon a time", "There was a"],
      max_tokens: 8,
      temperature: 0,
      logprobs: 2,
    });
    assert.deepEqual(
      choices.map((choice) => choice.index),
      [0, 1],
    );
    assert.ok(choices.every((choice) => choice.text.length > 0));
    assert.equal(choices[0].logprobs.tokens.join(""), choices[0].text);
    assert.ok(usage.completion_tokens > 0);
    let streamed = "";
    for await (const chunk of await openai.completions.create({
      model,
      prompt: "Once upon a time",
      max_tokens: 8,
      temperature: 0,
      stream: true,
    }))
      streamed += chunk.choices[0]?.text ?? "";
    assert.equal(streamed, choices[0].text);
  });

  test("vectors are the same as floats and as base64", async () => {
    const input = ["a fox", "a hen", "the moon over the hill"];
    const floats = await openai.embeddings.create({ model, input, encoding_format: "float" });
    const coded = await openai.embeddings.create({ model, input, encoding_format: "base64" });
    // The client asks for base64 by itself, and decodes it.
    const decoded = await openai.embeddings.create({ model, input });
    assert.equal(floats.data.length, 3);
    assert.ok(floats.usage.prompt_tokens > 0);
    floats.data.forEach(({ embedding, index }, at) => {
      assert.equal(index, at);
      const bytes = Buffer.from(coded.data[at].embedding, "base64");
      const read = Array.from(new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)));
      assert.equal(read.length, embedding.length);
      assert.deepEqual(embedding.map(Math.fround), read);
      assert.deepEqual(decoded.data[at].embedding, read);
      assert.ok(Math.abs(Math.hypot(...embedding) - 1) < 1e-3);
    });
  });

  test("a stream that is left ends the answer", async () => {
    const stream = await openai.chat.completions.create({ model, messages, max_completion_tokens: 900, stream: true });
    for await (const _ of stream) break;
    await running(server, 0);
  });
});
