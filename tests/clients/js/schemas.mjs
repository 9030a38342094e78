// JSON schemas of what a server answers, made from the types that the clients' packages ship. They are made once for each set of versions
// and kept in node_modules/.cache: reading types takes seconds.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const cache = join(root, "node_modules/.cache/schemas");

/** Roots: our name, and the type in its package. */
const ROOTS = {
  Message: ["@anthropic-ai/sdk/resources/messages/messages", "Message"],
  MessageEvent: ["@anthropic-ai/sdk/resources/messages/messages", "RawMessageStreamEvent"],
  Count: ["@anthropic-ai/sdk/resources/messages/messages", "MessageTokensCount"],
  Model: ["@anthropic-ai/sdk/resources/models", "ModelInfo"],
  BetaMessage: ["@anthropic-ai/sdk/resources/beta/messages/messages", "BetaMessage"],
  BetaMessageEvent: ["@anthropic-ai/sdk/resources/beta/messages/messages", "BetaRawMessageStreamEvent"],
  BetaCount: ["@anthropic-ai/sdk/resources/beta/messages/messages", "BetaMessageTokensCount"],
  Error: ["@anthropic-ai/sdk/resources/shared", "ErrorResponse"],
  Chat: ["openai/resources/chat/completions", "ChatCompletion"],
  ChatChunk: ["openai/resources/chat/completions", "ChatCompletionChunk"],
  Response: ["openai/resources/responses/responses", "Response"],
  ResponseEvent: ["openai/resources/responses/responses", "ResponseStreamEvent"],
  Completion: ["openai/resources/completions", "Completion"],
  Embeddings: ["openai/resources/embeddings", "CreateEmbeddingResponse"],
  Moderations: ["openai/resources/moderations", "ModerationCreateResponse"],
  OpenAiModel: ["openai/resources/models", "Model"],
};

function key() {
  const hash = createHash("sha256").update(readFileSync(fileURLToPath(import.meta.url)));
  for (const name of ["@anthropic-ai/sdk", "openai", "ts-json-schema-generator", "typescript"]) {
    hash.update(JSON.parse(readFileSync(join(root, "node_modules", name, "package.json"), "utf8")).version);
  }
  return hash.digest("hex").slice(0, 16);
}

async function make(file) {
  const { createGenerator } = await import("ts-json-schema-generator");
  const entry = join(cache, "entry.ts");
  const config = join(cache, "tsconfig.json");
  const lines = Object.entries(ROOTS).map(
    ([ours, [path, type]]) => `import * as of${ours} from "${path}";\nexport type Root${ours} = of${ours}.${type};\n`,
  );
  writeFileSync(entry, lines.join(""));
  const compilerOptions = {
    module: "nodenext",
    moduleResolution: "nodenext",
    target: "es2022",
    strict: true,
    skipLibCheck: true,
    types: [],
  };
  writeFileSync(config, JSON.stringify({ compilerOptions, files: [entry] }));
  // Members that the types don't name are wrong too: a client may trip over them, and they are mistyped more often than meant.
  const generator = createGenerator({
    path: entry,
    tsconfig: config,
    skipTypeCheck: true,
    additionalProperties: false,
    expose: "all",
    jsDoc: "none",
  });
  // Each root has its own definitions: two packages may give one name to different types.
  const made = Object.fromEntries(Object.keys(ROOTS).map((ours) => [ours, generator.createSchema(`Root${ours}`)]));
  writeFileSync(`${file}.part`, JSON.stringify(made));
  renameSync(`${file}.part`, file);
}

/** The schemas by our names. Suites run beside each other: one makes them, and the others wait. */
export async function schemas() {
  const file = join(cache, `${key()}.json`);
  const lock = `${file}.lock`;
  mkdirSync(cache, { recursive: true });
  while (!existsSync(file)) {
    try {
      mkdirSync(lock);
    } catch {
      // Whoever died with it has not touched it for minutes.
      const since = statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
      if (Date.now() - since > 180_000) rmdirSync(lock);
      await new Promise((done) => setTimeout(done, 100));
      continue;
    }
    try {
      if (!existsSync(file)) await make(file);
    } finally {
      rmdirSync(lock);
    }
  }
  return JSON.parse(readFileSync(file, "utf8"));
}
