// openai, the Vercel AI SDK with both providers, and @openai/agents.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { Agent, OpenAIProvider, Runner, setTracingDisabled, tool as agentTool } from "@openai/agents";
import { generateText, Output, stepCountIs, streamText, tool as aiTool } from "ai";
import OpenAI from "openai";
import { z } from "zod";

import { scripted, stop } from "./server.mjs";
import { allHeld, validated } from "./validated.mjs";

let server;
let client;
before(async () => {
  server = await scripted();
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0, fetch: validated });
});
after(stop);
after(allHeld);

const messages = [{ role: "user", content: "Hi" }];
const weather = {
  name: "get_weather",
  description: "The weather of a place",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

describe("openai", () => {
  test("a chat completion", async () => {
    const { data, response } = await client.chat.completions.create({ model: "hello", messages }).withResponse();
    assert.equal(data.choices[0].message.content, "Hello there, friend.");
    assert.equal(data.choices[0].finish_reason, "stop");
    assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
    assert.ok(response.headers.get("x-request-id"));
  });

  test("a stream says the same", async () => {
    const stream = client.chat.completions.stream({ model: "hello", messages, stream_options: { include_usage: true } });
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].message.content, "Hello there, friend.");
    assert.ok(final.usage.completion_tokens > 0);
  });

  test("a call of a tool, whole and streamed", async () => {
    const params = { model: "weather", messages, tools: [{ type: "function", function: weather }] };
    const whole = await client.chat.completions.create(params);
    const streamed = await client.chat.completions.stream(params).finalChatCompletion();
    for (const completion of [whole, streamed]) {
      assert.equal(completion.choices[0].finish_reason, "tool_calls");
      const [call] = completion.choices[0].message.tool_calls;
      assert.equal(call.function.name, "get_weather");
      assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris" });
    }
  });

  test("several answers", async () => {
    const { choices } = await client.chat.completions.create({ model: "hello", messages, n: 3 });
    assert.deepEqual(
      choices.map((choice) => choice.index),
      [0, 1, 2],
    );
  });

  test("responses, whole and streamed", async () => {
    const params = { model: "hello", input: "Hi" };
    const whole = await client.responses.create(params);
    assert.equal(whole.output_text, "Hello there, friend.");
    assert.equal(whole.status, "completed");
    const stream = client.responses.stream(params);
    const final = await stream.finalResponse();
    assert.equal(final.output_text, "Hello there, friend.");
  });

  test("moderations", async () => {
    const { results } = await client.moderations.create({ input: ["a nice day", "another"] });
    assert.equal(results.length, 2);
    assert.equal(results[0].flagged, false);
    assert.equal(Object.keys(results[0].categories).length, 13);
  });

  test("models", async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.ok(ids.includes("hello"));
  });

  test("errors are the client's own", async () => {
    await assert.rejects(client.chat.completions.create({ model: "hello", messages: [{ role: "user", content: 3 }] }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "messages[0].content");
      return true;
    });
    await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), OpenAI.NotFoundError);
  });

  test("what must not be said is filtered", async () => {
    const whole = await client.chat.completions.create({ model: "leaks", messages });
    assert.equal(whole.choices[0].finish_reason, "content_filter");
    let streamed = "";
    let finish;
    for await (const chunk of await client.chat.completions.create({ model: "leaks", messages, stream: true })) {
      streamed += chunk.choices[0]?.delta?.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
    }
    assert.equal(finish, "content_filter");
    assert.ok(!streamed.includes("PRIVATE KEY"));
  });
});

describe("the Vercel AI SDK", () => {
  const providers = () => [
    ["openai responses", createOpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", fetch: validated })("hello")],
    ["openai chat", createOpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", fetch: validated }).chat("hello")],
    ["anthropic", createAnthropic({ baseURL: `${server.url}/v1`, apiKey: "any", fetch: validated })("hello")],
  ];

  test("texts and streams", async () => {
    for (const [name, model] of providers()) {
      const { text } = await generateText({ model, prompt: "Hi", maxRetries: 0 });
      assert.equal(text, "Hello there, friend.", name);
      let streamed = "";
      for await (const piece of streamText({ model, prompt: "Hi", maxRetries: 0 }).textStream) streamed += piece;
      assert.equal(streamed, "Hello there, friend.", name);
    }
  });

  test("a tool is called and answered", async () => {
    const models = [
      createOpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", fetch: validated })("weather"),
      createAnthropic({ baseURL: `${server.url}/v1`, apiKey: "any", fetch: validated })("weather"),
    ];
    for (const model of models) {
      const get_weather = aiTool({
        description: weather.description,
        inputSchema: z.object({ city: z.string() }),
        execute: async ({ city }) => `Sunny in ${city}`,
      });
      const { text, steps } = await generateText({
        model,
        prompt: "Weather?",
        tools: { get_weather },
        stopWhen: stepCountIs(3),
        maxRetries: 0,
      });
      assert.equal(steps.length, 2);
      assert.equal(text, "It is sunny.");
    }
  });
});

describe("the Vercel AI SDK, further", () => {
  const openaiProvider = () => createOpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", fetch: validated });
  const anthropicProvider = () => createAnthropic({ baseURL: `${server.url}/v1`, apiKey: "any", fetch: validated });

  test("objects", async () => {
    const schema = z.object({ name: z.string(), age: z.number() });
    for (const model of [openaiProvider()("json"), openaiProvider().chat("json"), anthropicProvider()("json")]) {
      const { output } = await generateText({ model, prompt: "Who?", output: Output.object({ schema }), maxRetries: 0 });
      assert.deepEqual(output, { name: "Ada", age: 36 });
      const streamed = streamText({ model, prompt: "Who?", output: Output.object({ schema }), maxRetries: 0 });
      assert.deepEqual(await streamed.output, { name: "Ada", age: 36 });
    }
  });

  test("thoughts come back with the history", async () => {
    const providerOptions = { anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } } };
    const params = { model: anthropicProvider()("thinks"), maxOutputTokens: 4096, providerOptions, maxRetries: 0 };
    const first = [{ role: "user", content: "Hi" }];
    for (const answer of [await generateText({ ...params, messages: first }), streamText({ ...params, messages: first })]) {
      assert.equal((await answer.reasoningText).trim(), "They greet me.");
      assert.equal((await answer.text).trim(), "Hello.");
      const { messages: said } = await answer.response;
      const again = await generateText({ ...params, messages: [...first, ...said, { role: "user", content: "And?" }] });
      assert.equal(again.text.trim(), "Hello.");
      // A thought without a signature is left out, with a warning.
      assert.deepEqual(again.warnings, []);
    }
  });

  test("what must not be said is told as filtered", async () => {
    for (const model of [openaiProvider()("leaks"), openaiProvider().chat("leaks"), anthropicProvider()("leaks")]) {
      const { finishReason, text } = await generateText({ model, prompt: "Hi", maxRetries: 0 });
      assert.equal(finishReason, "content-filter");
      assert.ok(!text.includes("PRIVATE KEY"));
      const streamed = streamText({ model, prompt: "Hi", maxRetries: 0 });
      assert.ok(!(await streamed.text).includes("PRIVATE KEY"));
      assert.equal(await streamed.finishReason, "content-filter");
    }
  });
});

describe("@openai/agents", () => {
  test("finishes an edit loop of three steps", async () => {
    setTracingDisabled(true);
    for (const useResponses of [true, false]) {
      let file = "the quick brown fx";
      const agent = new Agent({
        name: "editor",
        model: "editor",
        instructions: "Mend files.",
        tools: [
          agentTool({ name: "read_file", description: "Reads", parameters: z.object({ path: z.string() }), execute: async () => file }),
          agentTool({
            name: "replace",
            description: "Replaces",
            parameters: z.object({ path: z.string(), old: z.string(), new: z.string() }),
            execute: async (input) => ((file = file.replace(input.old, input.new)), "done"),
          }),
        ],
      });
      const runner = new Runner({ modelProvider: new OpenAIProvider({ openAIClient: client, useResponses }) });
      const result = await runner.run(agent, "Mend a.txt");
      assert.equal(file, "the quick brown fox");
      assert.equal(result.finalOutput, "Mended.");
    }
  });
});
