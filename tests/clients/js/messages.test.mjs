// @anthropic-ai/sdk, as it is and as it was before the version of 2026-10-21.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import Before from "@anthropic-ai/sdk-before";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { z } from "zod";

import { running, scripted, stop } from "./server.mjs";
import { allHeld, validated } from "./validated.mjs";

let server;
before(async () => {
  server = await scripted();
});
after(stop);
after(allHeld);

const weather = {
  name: "get_weather",
  description: "The weather of a place",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const ask = { model: "hello", max_tokens: 64, messages: [{ role: "user", content: "Hi" }] };

for (const [name, Client] of [
  ["1.14", Anthropic],
  ["0.137", Before],
]) {
  describe(`@anthropic-ai/sdk ${name}`, () => {
    let client;
    before(() => {
      client = new Client({ baseURL: server.url, apiKey: "any", maxRetries: 0, fetch: validated });
    });

    test("a message", async () => {
      const { data, response } = await client.messages.create(ask).withResponse();
      assert.deepEqual(data.content, [{ type: "text", text: "Hello there, friend." }]);
      assert.equal(data.stop_reason, "end_turn");
      assert.equal(data.stop_details, null);
      assert.ok(data.usage.input_tokens > 0 && data.usage.output_tokens > 0);
      assert.equal(response.headers.get("request-id"), data._request_id);
      assert.match(data.id, /^msg_/);
    });

    test("a stream says the same", async () => {
      const whole = await client.messages.create(ask);
      const stream = client.messages.stream(ask);
      let text = "";
      stream.on("text", (piece) => (text += piece));
      const final = await stream.finalMessage();
      assert.equal(text, whole.content[0].text);
      assert.deepEqual(final.content, whole.content);
      assert.deepEqual(final.usage.output_tokens, whole.usage.output_tokens);
    });

    test("thoughts", async () => {
      const stream = client.messages.stream({
        ...ask,
        model: "thinks",
        max_tokens: 4096,
        thinking: { type: "enabled", budget_tokens: 1024 },
      });
      const { content } = await stream.finalMessage();
      assert.deepEqual(
        content.map((block) => block.type),
        ["thinking", "text"],
      );
      assert.equal(content[0].thinking.trim(), "They greet me.");
      assert.ok(content[0].signature.length > 0);
    });

    test("a call of a tool, streamed", async () => {
      const stream = client.messages.stream({ ...ask, model: "weather", tools: [weather] });
      const { content, stop_reason } = await stream.finalMessage();
      assert.equal(stop_reason, "tool_use");
      assert.deepEqual(content.at(-1).input, { city: "Paris" });
      assert.match(content.at(-1).id, /^toolu_/);
    });

    test("a tool that is named is called once, and none is called twice alike where one must be", async () => {
      for (const [tool_choice, count] of [
        [{ type: "tool", name: "get_weather" }, 1],
        [{ type: "any" }, 1],
        [{ type: "auto" }, 3],
      ]) {
        const params = { ...ask, model: "repeats", tools: [weather], tool_choice };
        for (const message of [await client.messages.create(params), await client.messages.stream(params).finalMessage()]) {
          assert.equal(message.stop_reason, "tool_use");
          assert.equal(message.content.filter((block) => block.type === "tool_use").length, count, tool_choice.type);
        }
      }
    });

    test("tokens are counted", async () => {
      const { input_tokens } = await client.messages.countTokens({ model: ask.model, messages: ask.messages });
      const { usage } = await client.messages.create(ask);
      assert.equal(input_tokens, usage.input_tokens);
    });

    test("models", async () => {
      const ids = [];
      for await (const model of client.models.list({ limit: 2 })) ids.push(model.id);
      assert.ok(ids.includes("hello") && ids.length > 2);
      assert.equal((await client.models.retrieve("hello")).type, "model");
      await assert.rejects(client.models.retrieve("nobody"), Client.NotFoundError);
    });

    test("errors are the client's own", async () => {
      const wrong = { ...ask, messages: [{ role: "user", content: [{ type: "text", text: 3 }] }] };
      await assert.rejects(client.messages.create(wrong), (error) => {
        assert.ok(error instanceof Client.BadRequestError);
        assert.match(error.message, /messages\.0\.content\.0\.text/);
        assert.ok(error.requestID);
        return true;
      });
      await assert.rejects(client.messages.create({ ...ask, model: "nobody" }), Client.NotFoundError);
      await assert.rejects(client.messages.create({ ...ask, max_tokens: undefined }), Client.BadRequestError);
    });

    test("a stream that is left ends the answer", async () => {
      const stream = await client.messages.create({ ...ask, model: "endless", max_tokens: 8192, stream: true });
      let events = 0;
      for await (const _ of stream) if (++events === 20) break;
      await running(server, 0);
    });

    test("what must not be said is refused", async () => {
      const whole = await client.messages.create({ ...ask, model: "leaks" });
      assert.equal(whole.stop_reason, "refusal");
      assert.deepEqual(whole.content, []);
      assert.equal(whole.stop_details?.type, "refusal");
      const stream = client.messages.stream({ ...ask, model: "leaks" });
      const final = await stream.finalMessage();
      assert.equal(final.stop_reason, "refusal");
      assert.ok(!JSON.stringify(final).includes("PRIVATE KEY"));
    });
  });
}

describe("the tool runner", () => {
  test("finishes an edit loop of three steps", async () => {
    const client = new Anthropic({ baseURL: server.url, apiKey: "any", maxRetries: 0, fetch: validated });
    let file = "the quick brown fx";
    const log = [];
    const tools = [
      betaZodTool({
        name: "read_file",
        description: "Reads a file",
        inputSchema: z.object({ path: z.string() }),
        run: ({ path }) => (log.push(`read ${path}`), file),
      }),
      betaZodTool({
        name: "replace",
        description: "Replaces a text in a file",
        inputSchema: z.object({ path: z.string(), old: z.string(), new: z.string() }),
        run: (input) => (log.push(`replace ${input.old}`), (file = file.replace(input.old, input.new)), "done"),
      }),
    ];
    for (const stream of [false, true]) {
      file = "the quick brown fx";
      const runner = client.beta.messages.toolRunner({
        model: "editor",
        max_tokens: 512,
        tools,
        messages: [{ role: "user", content: "Mend a.txt" }],
        stream,
      });
      const final = await runner.runUntilDone();
      assert.equal(file, "the quick brown fox");
      assert.equal(final.stop_reason, "end_turn");
    }
    assert.deepEqual(log, ["read a.txt", "replace fx", "read a.txt", "replace fx"]);
  });

  test("does not run a tool whose arguments were refused", async () => {
    const client = new Anthropic({ baseURL: server.url, apiKey: "any", maxRetries: 0, fetch: validated });
    let ran = 0;
    const tool = betaZodTool({ name: "save", description: "Saves", inputSchema: z.object({}).passthrough(), run: () => `${++ran}` });
    const runner = client.beta.messages.toolRunner({
      model: "leaks-in-a-call",
      max_tokens: 512,
      tools: [tool],
      messages: [{ role: "user", content: "Save it" }],
      // It would be called for ever.
      max_iterations: 3,
      stream: true,
    });
    const final = await runner.runUntilDone();
    assert.equal(final.stop_reason, "refusal");
    assert.equal(ran, 0);
  });
});
