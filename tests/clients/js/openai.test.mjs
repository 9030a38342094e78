// openai and @openai/agents.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Agent, OpenAIProvider, Runner, setTracingDisabled, tool as agentTool } from "@openai/agents";
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

  test("a tool that is named is called once, and none is called twice alike where one must be", async () => {
    const tools = [{ type: "function", function: weather }];
    const named = { type: "function", function: { name: "get_weather" } };
    for (const [tool_choice, count] of [
      [named, 1],
      ["required", 1],
      ["auto", 3],
    ]) {
      const params = { model: "repeats", messages, tools, tool_choice };
      const whole = await client.chat.completions.create(params);
      const streamed = await client.chat.completions.stream(params).finalChatCompletion();
      for (const { choices } of [whole, streamed]) {
        assert.equal(choices[0].finish_reason, "tool_calls");
        assert.equal(choices[0].message.tool_calls.length, count, JSON.stringify(tool_choice));
      }
      const asked = {
        model: "repeats",
        input: "Weather?",
        tools: [{ type: "function", ...weather }],
        tool_choice: tool_choice === named ? { type: "function", name: "get_weather" } : tool_choice,
      };
      const response = await client.responses.create(asked);
      const final = await client.responses.stream(asked).finalResponse();
      for (const { output, status } of [response, final]) {
        assert.equal(status, "completed");
        assert.equal(output.filter((item) => item.type === "function_call").length, count);
      }
    }
  });

  test("tools of other types are left out, and told", async () => {
    const hosted = [{ type: "local_shell" }, { type: "custom", name: "apply_patch" }, { type: "web_search" }];
    const params = { model: "weather", input: "Weather?", tools: [...hosted, { type: "function", ...weather }] };
    const { data, response } = await client.responses.create(params).withResponse();
    assert.equal(data.output[0].name, "get_weather");
    assert.equal(response.headers.get("firecrest-ignored-fields"), "tools.0.type, tools.1.type, tools.2.type");
    const chat = {
      model: "weather",
      messages,
      tools: [
        { type: "custom", custom: { name: "c" } },
        { type: "function", function: weather },
      ],
    };
    const { choices } = await client.chat.completions.create(chat);
    assert.equal(choices[0].message.tool_calls[0].function.name, "get_weather");
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
    await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, "model_not_found");
      return true;
    });
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
