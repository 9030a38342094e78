// The Vercel AI SDK, as it is and as it was, over each provider that speaks with the server. Its own schemas are stricter than the vendors' types.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createAnthropic as createAnthropic3 } from "@ai-sdk/anthropic-3";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAI as createOpenAI3 } from "@ai-sdk/openai-3";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { createOpenAICompatible as createOpenAICompatible2 } from "@ai-sdk/openai-compatible-2";
import * as seven from "ai";
import * as six from "ai-6";
import { z } from "zod";

import { embedded, scripted, stop } from "./server.mjs";
import { allHeld, validated } from "./validated.mjs";

let server;
let real;
before(async () => {
  [server, real] = await Promise.all([scripted(), embedded()]);
});
after(stop);
after(allHeld);

const VERSIONS = [
  ["6", six, createAnthropic3, createOpenAI3, createOpenAICompatible2],
  ["7", seven, createAnthropic, createOpenAI, createOpenAICompatible],
];

for (const [version, ai, anthropic, openai, compatible] of VERSIONS) {
  const { generateObject, generateText, Output, stepCountIs, streamObject, streamText, tool } = ai;
  const settings = (of) => ({ baseURL: `${of.url}/v1`, apiKey: "any", fetch: validated });

  /** The providers by name, each with a model. */
  const models = (name, of = server) => [
    ["responses", openai(settings(of))(name)],
    ["chat", openai(settings(of)).chat(name)],
    [
      "completions of others",
      compatible({ name: "firecrest", includeUsage: true, supportsStructuredOutputs: true, ...settings(of) })(name),
    ],
    ["messages", anthropic(settings(of))(name)],
  ];

  const get_weather = () =>
    tool({
      description: "The weather of a place",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => `Sunny in ${city}`,
    });

  describe(`the Vercel AI SDK ${version}`, () => {
    test("texts and streams", async () => {
      for (const [name, model] of models("hello")) {
        const whole = await generateText({ model, prompt: "Hi", maxRetries: 0 });
        assert.equal(whole.text, "Hello there, friend.", name);
        assert.equal(whole.finishReason, "stop");
        assert.ok(whole.usage.inputTokens > 0 && whole.usage.outputTokens > 0, name);
        const stream = streamText({ model, prompt: "Hi", maxRetries: 0 });
        let text = "";
        for await (const piece of stream.textStream) text += piece;
        assert.equal(text, "Hello there, friend.", name);
        assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens, name);
      }
    });

    test("a tool is called and answered, whole and streamed", async () => {
      for (const [name, model] of models("weather")) {
        const params = { model, prompt: "Weather?", tools: { get_weather: get_weather() }, stopWhen: stepCountIs(3), maxRetries: 0 };
        const { text, steps } = await generateText(params);
        assert.equal(steps.length, 2, name);
        assert.equal(text, "It is sunny.", name);
        const stream = streamText(params);
        assert.equal(await stream.text, "It is sunny.", name);
        assert.equal((await stream.steps).length, 2, name);
      }
    });

    test("an edit loop of three steps", async () => {
      for (const [name, model] of models("editor")) {
        let file = "the quick brown fx";
        const tools = {
          read_file: tool({ inputSchema: z.object({ path: z.string() }), execute: async () => file }),
          replace: tool({
            inputSchema: z.object({ path: z.string(), old: z.string(), new: z.string() }),
            execute: async (input) => ((file = file.replace(input.old, input.new)), "done"),
          }),
        };
        const stream = streamText({ model, prompt: "Mend a.txt", tools, stopWhen: stepCountIs(5), maxRetries: 0 });
        assert.equal(await stream.text, "Mended.", name);
        assert.equal((await stream.steps).length, 3, name);
        assert.equal(file, "the quick brown fox", name);
      }
    });

    test("a tool that is chosen is called once", async () => {
      for (const toolChoice of [{ type: "tool", toolName: "get_weather" }, "required"]) {
        for (const [name, model] of models("repeats")) {
          let ran = 0;
          const counted = tool({ inputSchema: z.object({ city: z.string() }), execute: async () => `${++ran}` });
          const params = {
            model,
            prompt: "Weather?",
            tools: { get_weather: counted },
            toolChoice,
            stopWhen: stepCountIs(1),
            maxRetries: 0,
          };
          const { toolCalls, finishReason } = await generateText(params);
          assert.deepEqual([ran, toolCalls.length, finishReason], [1, 1, "tool-calls"], name);
          const streamed = streamText(params);
          assert.deepEqual([(await streamed.toolCalls).length, await streamed.finishReason, ran], [1, "tool-calls", 2], name);
        }
      }
    });

    test("a real model that must call a tool calls it once", async () => {
      for (const [name, model] of models("firecrest-chat", real)) {
        const pet = tool({ inputSchema: z.object({ kind: z.enum(["cat", "dog"]), big: z.boolean() }).strict() });
        const params = {
          model,
          prompt: "A pet.",
          tools: { pet },
          toolChoice: { type: "tool", toolName: "pet" },
          maxOutputTokens: 150,
          maxRetries: 0,
        };
        const whole = await generateText(params);
        const streamed = streamText(params);
        for (const calls of [whole.toolCalls, await streamed.toolCalls]) assert.equal(calls.length, 1, name);
        assert.equal(whole.finishReason, "tool-calls", name);
        assert.equal(await streamed.finishReason, "tool-calls", name);
      }
    });

    test("objects", async () => {
      const schema = z.object({ name: z.string(), age: z.number() });
      for (const [name, model] of models("json")) {
        const { output } = await generateText({ model, prompt: "Who?", output: Output.object({ schema }), maxRetries: 0 });
        assert.deepEqual(output, { name: "Ada", age: 36 }, name);
        const { object } = await generateObject({ model, prompt: "Who?", schema, maxRetries: 0 });
        assert.deepEqual(object, { name: "Ada", age: 36 }, name);
      }
    });

    test("objects come as they are made", async () => {
      const schema = z.object({ people: z.array(z.object({ name: z.string(), age: z.number() })) });
      // Over Messages the SDK asks for a call of a tool that it names `json`.
      for (const [name, model] of [...models("people").slice(0, 3), models("json-people")[3]]) {
        const sizes = new Set();
        const stream = streamObject({ model, prompt: "Who?", schema, maxRetries: 0 });
        for await (const part of stream.partialObjectStream) sizes.add(part.people?.length ?? 0);
        assert.equal((await stream.object).people.length, 4, name);
        assert.ok(
          [1, 2, 3, 4].every((size) => sizes.has(size)),
          `${name}: ${[...sizes]}`,
        );
        const text = streamText({ model, prompt: "Who?", output: Output.object({ schema }), maxRetries: 0 });
        let partials = 0;
        for await (const _ of text.partialOutputStream) partials += 1;
        assert.ok(partials >= 4, `${name}: ${partials}`);
      }
    });

    test("a real model's object is what its schema says", async () => {
      // Nothing of this says that there are no other members, and so it is with most schemas that libraries make.
      const schema = z.object({ friend: z.boolean(), mood: z.enum(["glad", "sad"]) });
      for (const [name, model] of models("firecrest-chat", real)) {
        const { object } = await generateObject({ model, prompt: "Who are you?", schema, maxOutputTokens: 160, maxRetries: 0 });
        assert.deepEqual(Object.keys(object).sort(), ["friend", "mood"], name);
      }
    });

    test("thoughts come back with the history", async () => {
      const providerOptions = { anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } } };
      const params = { model: anthropic(settings(server))("thinks"), maxOutputTokens: 4096, providerOptions, maxRetries: 0 };
      const first = [{ role: "user", content: "Hi" }];
      for (const answer of [await generateText({ ...params, messages: first }), streamText({ ...params, messages: first })]) {
        assert.equal((await answer.reasoningText).trim(), "They greet me.");
        assert.equal((await answer.text).trim(), "Hello.");
        const { messages: said } = await answer.response;
        const again = await generateText({ ...params, messages: [...first, ...said, { role: "user", content: "And?" }] });
        assert.equal(again.text.trim(), "Hello.");
        // A thought without a signature is left out, with a warning.
        assert.deepEqual(again.warnings ?? [], []);
      }
      // Thoughts in chats are not in the vendor's types, but this provider reads them.
      const others = compatible({ name: "firecrest", ...settings(server), fetch })("thinks");
      const { reasoningText } = await generateText({ model: others, prompt: "Hi", maxRetries: 0 });
      assert.equal(reasoningText.trim(), "They greet me.");
    });

    test("what must not be said is told as filtered", async () => {
      for (const [name, model] of models("leaks")) {
        const { finishReason, text } = await generateText({ model, prompt: "Hi", maxRetries: 0 });
        assert.equal(finishReason, "content-filter", name);
        assert.ok(!text.includes("PRIVATE KEY"));
        const streamed = streamText({ model, prompt: "Hi", maxRetries: 0 });
        assert.ok(!(await streamed.text).includes("PRIVATE KEY"));
        assert.equal(await streamed.finishReason, "content-filter", name);
      }
    });

    test("errors are told as they are", async () => {
      for (const [name, model] of models("nobody")) {
        await assert.rejects(generateText({ model, prompt: "Hi", maxRetries: 0 }), (error) => {
          assert.equal(error.statusCode, 404, name);
          assert.match(error.message, /nobody/, name);
          return true;
        });
      }
    });
  });
}
