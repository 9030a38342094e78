// Made from the types in runtime/contract: change those, then run
// `cargo run -p firecrest-contract --features schema --example reference`.
//
// Bodies of requests and responses. Members and types of blocks that are not named here may be sent too: they are refused with their path, or
// dropped and listed in `firecrest-ignored-fields`.

/** The `role` of an answer. */
export type AssistantTag = "assistant";

/** Bytes in the body. */
export type Base64Source = {
    /** `image/png`, `application/pdf` and the like. */
    media_type: string;
    /** In base64. */
    data: string;
};

/** More of a block. */
export type BlockDelta = {
    /** Its place in the answer. */
    index: number;
    /** What is new. */
    delta: Delta;
};

export type BlockParam = TextParam & {
    type: "text";
} | ImageParam & {
    type: "image";
} | DocumentParam & {
    type: "document";
} | SearchResultParam & {
    type: "search_result";
} | ThinkingParam & {
    type: "thinking";
} | RedactedThinkingParam & {
    type: "redacted_thinking";
} | ToolUseParam & {
    type: "tool_use";
} | ToolResultParam & {
    type: "tool_result";
};

/** A block begins. */
export type BlockStart = {
    /** Its place in the answer, from 0 without gaps. */
    index: number;
    /** The block, with nothing in it yet. */
    content_block: ContentBlock;
};

/** A block ends. */
export type BlockStop = {
    /** Its place in the answer. */
    index: number;
};

/** A breakpoint: the prompt up to here is worth keeping. */
export type CacheControl = {
    /** The only kind there is. */
    type: CacheKind;
    /** How long after its last use; `5m` where unsaid. */
    ttl?: TtlParam;
};

/** What was written to the cache, by how long it is kept. */
export type CacheCreation = {
    /** An hour. */
    ephemeral_1h_input_tokens: number;
    /** Five minutes. */
    ephemeral_5m_input_tokens: number;
};

/** Kinds of breakpoints. */
export type CacheKind = "ephemeral";

/** Why the prompt cache missed. */
export type CacheMiss = {
    type: "model_changed";
    /** Tokens that were computed again. */
    cache_missed_input_tokens: number;
} | {
    type: "system_changed";
    /** Tokens that were computed again. */
    cache_missed_input_tokens: number;
} | {
    type: "tools_changed";
    /** Tokens that were computed again. */
    cache_missed_input_tokens: number;
} | {
    type: "messages_changed";
    /** Tokens that were computed again. */
    cache_missed_input_tokens: number;
} | {
    type: "previous_message_not_found";
} | {
    type: "unavailable";
};

export type Caller = Direct & {
    type: "direct";
};

export type CallerParam = DirectCaller & {
    type: "direct";
};

/** A choice among some of the tools. */
export type ChatAllowedChoice = {
    /** The choice. */
    allowed_tools: ChatAllowedTools;
};

/** Some of the tools. The others are left out of the prompt. */
export type ChatAllowedTools = {
    /** `auto` or `required`. */
    mode: ChatMode;
    /** Which. */
    tools: ChatChoiceOf[];
};

/** What the model said. */
export type ChatAssistantMessage = {
    /** Its text; none where it only called tools. */
    content?: ChatContent | null;
    /** What it thought, as an answer's `reasoning_content` had it. Not OpenAI's. */
    reasoning_content?: string | null;
    /** What it said instead of an answer. */
    refusal?: string | null;
    /** Tools that it called. */
    tool_calls?: ChatCall[] | null;
    /** A function that it called, before there were tools. */
    function_call?: ChatCalled | null;
    /** Who of several it is. */
    name?: string | null;
    /** What it spoke. */
    audio?: unknown;
    /** Sources that an answer of OpenAI's named. */
    annotations?: unknown[] | null;
};

export type ChatCall = ChatFunctionCall & {
    type: "function";
};

/** Which function was called, and with what. */
export type ChatCalled = {
    /** The function. */
    name: string;
    /** The JSON text of an object; empty text is the empty object. */
    arguments: string;
};

/** One answer. */
export type ChatChoice = {
    /** Which, from 0. */
    index: number;
    /** What was said. */
    message: ChatReply;
    /** Of the text's tokens, where asked for. */
    logprobs: ChatLogprobs | null;
    /** `stop`, `length`, `tool_calls` or `content_filter`. */
    finish_reason: string;
};

export type ChatChoiceOf = ChatNamedChoice & {
    type: "function";
} | ChatAllowedChoice & {
    type: "allowed_tools";
};

/** A piece of an answer. */
export type ChatChunk = {
    /** `chatcmpl-…`, the same in all of them. */
    id: string;
    /** Always `chat.completion.chunk`. */
    object: string;
    /** Seconds since 1970. */
    created: number;
    /** The model that answers. */
    model: string;
    /** One; none in the chunk with the usage. */
    choices: ChatChunkChoice[];
    /** `null` but in the last, where asked for; else left out. */
    usage?: ChatUsage | null;
    /** How urgent it is served. */
    service_tier?: string | null;
    /** Tells servers apart. Not given here. */
    system_fingerprint?: string | null;
};

/** A piece of one answer. */
export type ChatChunkChoice = {
    /** Which, from 0. */
    index: number;
    /** What is to be appended. */
    delta: ChatDelta;
    /** Of the piece's tokens, where asked for. */
    logprobs: ChatLogprobs | null;
    /** Why it ended, in its last piece. */
    finish_reason: string | null;
};

/** A whole answer. */
export type ChatCompletion = {
    /** `chatcmpl-…`. */
    id: string;
    /** Always `chat.completion`. */
    object: string;
    /** Seconds since 1970. */
    created: number;
    /** The model that answered. */
    model: string;
    /** As many as were asked for. */
    choices: ChatChoice[];
    /** What it took. */
    usage?: ChatUsage | null;
    /** How urgent it was served. */
    service_tier?: string | null;
    /** Tells servers apart. Not given here. */
    system_fingerprint?: string | null;
};

/** Of what was generated. */
export type ChatCompletionDetails = {
    /** Thought. */
    reasoning_tokens: number;
};

/** What was said. */
export type ChatContent = string | ChatContentPart[];

export type ChatContentPart = ChatTextPart & {
    type: "text";
} | ChatRefusalPart & {
    type: "refusal";
};

/** What is to be appended. */
export type ChatDelta = {
    /** `assistant`, in the first piece. */
    role?: string | null;
    /** To the text. */
    content?: string | null;
    /** To the refusal. */
    refusal?: string | null;
    /** To the thoughts. */
    reasoning_content?: string | null;
    /** To the calls. */
    tool_calls?: ChatDeltaCall[] | null;
};

/** A piece of a call. */
export type ChatDeltaCall = {
    /** Which call of the answer, from 0. */
    index: number;
    /** By which the result names it, in its first piece. */
    id?: string | null;
    /** `function`, in its first piece. */
    type?: string | null;
    /** Which, and with what. */
    function?: ChatDeltaFunction | null;
};

/** A piece of which function to run, and with what. */
export type ChatDeltaFunction = {
    /** The function, in the call's first piece. */
    name?: string | null;
    /** To the arguments. */
    arguments?: string | null;
};

/** Nothing more to say. */
export type ChatEmpty = object;

/** What a function is. */
export type ChatFunction = {
    /** Its name, 1 to 128 of `[a-zA-Z0-9_-]`. */
    name: string;
    /** What it does. */
    description?: string | null;
    /** The JSON Schema of its arguments. Without one it takes none. */
    parameters?: { [member: string]: unknown } | null;
    /** Whether arguments that break the schema must be impossible. */
    strict?: boolean | null;
};

/** A function that was called. */
export type ChatFunctionCall = {
    /** By which its result names it. */
    id: string;
    /** Which, and with what. */
    function: ChatCalled;
};

/** What a function gave back, before there were tools. */
export type ChatFunctionMessage = {
    /** As text, if there is any. */
    content?: string | null;
    /** Which function. */
    name: string;
};

/** A function. */
export type ChatFunctionTool = {
    /** The function. */
    function: ChatFunction;
};

/** Of tokens. */
export type ChatLogprobs = {
    /** Of the text's. */
    content: ChatTokenLogprob[] | null;
    /** Of the refusal's: no model makes one here. */
    refusal: ChatTokenLogprob[] | null;
};

export type ChatMessage = ChatTextMessage & {
    role: "system";
} | ChatTextMessage & {
    role: "developer";
} | ChatTextMessage & {
    role: "user";
} | ChatAssistantMessage & {
    role: "assistant";
} | ChatToolMessage & {
    role: "tool";
} | ChatFunctionMessage & {
    role: "function";
};

/** Whether tools are called. */
export type ChatMode = "none" | "auto" | "required";

/** A name. */
export type ChatNamed = {
    /** As `tools` has it. */
    name: string;
};

/** A function by its name. */
export type ChatNamedChoice = {
    /** Which. */
    function: ChatNamed;
};

/** A schema with its name. */
export type ChatNamedSchema = {
    /** What the caller calls it. */
    name: string;
    /** What it is for. */
    description?: string | null;
    /** The schema; any JSON where it is left out. */
    schema?: { [member: string]: unknown } | null;
    /** Answers keep to the schema whatever this says. */
    strict?: boolean | null;
};

/** Of the prompt. */
export type ChatPromptDetails = {
    /** Known already. */
    cached_tokens: number;
    /** Kept from now on. */
    cache_write_tokens: number;
};

/** What the model said instead of an answer. */
export type ChatRefusalPart = {
    /** As text. */
    refusal: string;
};

/** What was said. */
export type ChatReply = {
    /** Always `assistant`. */
    role: string;
    /** The text; `null` where there is none. */
    content: string | null;
    /** What was said instead of an answer. */
    refusal: string | null;
    /** What the model thought. Not OpenAI's, but what other servers of open models say. */
    reasoning_content?: string | null;
    /** Tools to run. */
    tool_calls?: ChatReplyCall[] | null;
};

/** A tool to run. */
export type ChatReplyCall = {
    /** By which the result names it. */
    id: string;
    /** Always `function`. */
    type: string;
    /** Which, and with what. */
    function: ChatReplyFunction;
};

/** Which function to run, and with what. */
export type ChatReplyFunction = {
    /** The function. */
    name: string;
    /** The JSON text of an object. */
    arguments: string;
};

/** What is sent. */
export type ChatRequest = {
    /** The conversation so far. */
    messages: ChatMessage[];
    /** The model. */
    model: string;
    /** How spoken answers sound. */
    audio?: unknown;
    /** From −2 to 2: less of a token the more often it came. */
    frequency_penalty?: number | null;
    /** Before there was `tool_choice`. */
    function_call?: unknown;
    /** Before there were `tools`. */
    functions?: unknown;
    /** By token id, from −100 to 100. */
    logit_bias?: { [member: string]: unknown } | null;
    /** Whether each token's logarithm of probability is told. */
    logprobs?: boolean | null;
    /** Tokens of each answer at most, thoughts included. */
    max_completion_tokens?: number | null;
    /** The same, by its old name. */
    max_tokens?: number | null;
    /** Notes for stored completions. None are stored here. */
    metadata?: { [member: string]: unknown } | null;
    /** `["text"]`; audio can't be made here. */
    modalities?: string[] | null;
    /** Moderation by the upstream. */
    moderation?: unknown;
    /** Answers, 1 to 128. */
    n?: number | null;
    /** Whether one answer may hold several calls; true by default. */
    parallel_tool_calls?: boolean | null;
    /** Text that the answer will likely hold. */
    prediction?: unknown;
    /** From −2 to 2: less of a token once it came. */
    presence_penalty?: number | null;
    /** Which prompts begin alike. Known prefixes are found by themselves here. */
    prompt_cache_key?: string | null;
    /** How the upstream's prompt cache works. */
    prompt_cache_options?: unknown;
    /** How long the upstream keeps prompts. */
    prompt_cache_retention?: OpenAiRetention | null;
    /** How much the model thinks first. */
    reasoning_effort?: OpenAiEffort | null;
    /** What the answer must be. */
    response_format?: ChatResponseFormat | null;
    /** Who the caller asks for. */
    safety_identifier?: string | null;
    /** Same seed, same answer. */
    seed?: number | null;
    /** How urgent it is. */
    service_tier?: OpenAiTier | null;
    /** Texts that end an answer, 64 at most. */
    stop?: OpenAiStop | null;
    /** Whether the upstream keeps the completion. None are kept here. */
    store?: boolean | null;
    /** Whether the answer is sent as it comes. */
    stream?: boolean | null;
    /** How. */
    stream_options?: OpenAiStreamOptions | null;
    /** From 0 (always the most probable token) to 2. */
    temperature?: number | null;
    /** Which tools must be called. */
    tool_choice?: ChatToolChoice | null;
    /** Tools that may be called. */
    tools?: ChatTool[] | null;
    /** Not OpenAI's: the k most probable tokens. */
    top_k?: number | null;
    /** With `logprobs`: of so many most probable tokens at each place, 0 to 20. */
    top_logprobs?: number | null;
    /** From 0 to 1: nucleus. */
    top_p?: number | null;
    /** Who the caller asks for, by its old name. */
    user?: string | null;
    /** How long answers are. */
    verbosity?: OpenAiVerbosity | null;
    /** A search of the web before the answer. */
    web_search_options?: unknown;
};

export type ChatResponseFormat = ChatEmpty & {
    type: "text";
} | ChatEmpty & {
    type: "json_object";
} | ChatSchemaFormat & {
    type: "json_schema";
};

/** JSON of a schema. */
export type ChatSchemaFormat = {
    /** The schema and its name. */
    json_schema: ChatNamedSchema;
};

/** What the system's, the developer's or the user's side said. */
export type ChatTextMessage = {
    /** Its text. */
    content: ChatContent;
    /** Who of several it is. */
    name?: string | null;
};

/** Text. */
export type ChatTextPart = {
    /** The text. */
    text: string;
    /** The prompt up to here is worth keeping. */
    prompt_cache_breakpoint?: OpenAiCacheBreakpoint | null;
};

/** Of a token. */
export type ChatTokenLogprob = {
    /** As text, with U+FFFD where its bytes are no text. */
    token: string;
    /** Natural logarithm of its probability. */
    logprob: number;
    /** Its bytes: not always whole characters. */
    bytes: number[] | null;
    /** The most probable ones there, best first. */
    top_logprobs: ChatTopLogprob[];
};

export type ChatTool = ChatFunctionTool & {
    type: "function";
};

/** Which tools must be called. */
export type ChatToolChoice = ChatMode | ChatChoiceOf;

/** What a tool gave back. */
export type ChatToolMessage = {
    /** As text. */
    content: ChatContent;
    /** Of which call. */
    tool_call_id: string;
};

/** Of a token that might have been. */
export type ChatTopLogprob = {
    /** As text. */
    token: string;
    /** Natural logarithm of its probability. */
    logprob: number;
    /** Its bytes. */
    bytes: number[] | null;
};

/** What it took, in tokens. */
export type ChatUsage = {
    /** Of the prompt, known ones included. */
    prompt_tokens: number;
    /** Generated, over all answers, thoughts included. */
    completion_tokens: number;
    /** Both. */
    total_tokens: number;
    /** Of the prompt. */
    prompt_tokens_details: ChatPromptDetails;
    /** Of what was generated. */
    completion_tokens_details: ChatCompletionDetails;
};

/** Whether an answer shall cite. */
export type CitationsParam = {
    /** No, where unsaid. */
    enabled?: boolean;
};

/** How long a `system` message stays before the model. */
export type ClearAt = "next_user_message" | "never";

/** Tools that the caller runs, of a name and form that are known. */
export type ClientKind = "bash_20241022" | "bash_20250124" | "text_editor_20241022" | "text_editor_20250124" | "text_editor_20250429" | "text_editor_20250728" | "memory_20250818";

/** A tool that the caller runs, of a name and form that are known. */
export type ClientTool = {
    /** Which. */
    type: ClientKind;
    /** Fixed by its type. */
    name: string;
    /** Whether arguments that break the schema must be impossible. */
    strict?: boolean;
    /** The prompt up to here is worth keeping. */
    cache_control?: CacheControl | null;
    /** Characters of a file that are shown at most: the caller cuts, the model is told. */
    max_characters?: number | null;
    /** Who may call it. */
    allowed_callers?: string[];
    /** It is shown to the model only once a search found it. */
    defer_loading?: boolean;
    /** Arguments as they could be. */
    input_examples?: { [member: string]: unknown }[];
};

/** One answer, or a piece of one. */
export type CompletionsChoice = {
    /** Which: `n` of the first prompt, then `n` of the second, from 0. */
    index: number;
    /** The text. */
    text: string;
    /** Of its tokens, where asked for. */
    logprobs: CompletionsLogprobs | null;
    /** `stop`, `length` or `content_filter`; `null` in a piece that is not the last. */
    finish_reason: string | null;
};

/** What is answered, and each chunk of a stream. */
export type CompletionsCompletion = {
    /** `cmpl-…`. */
    id: string;
    /** Always `text_completion`. */
    object: string;
    /** Seconds since 1970. */
    created: number;
    /** The model that answered. */
    model: string;
    /** Answers: of the first prompt first. */
    choices: CompletionsChoice[];
    /** What it took. */
    usage?: ChatUsage | null;
};

/** Of tokens, in lists side by side. */
export type CompletionsLogprobs = {
    /** Tokens as text. */
    tokens: string[];
    /** Natural logarithms of their probabilities; `null` for the first token of a prompt, which nothing comes before. */
    token_logprobs: (number | null)[];
    /** Of the most probable ones at each place, by their text. */
    top_logprobs: { [member: string]: unknown } | null[] | null;
    /** Where each begins, in characters from the start of the prompt. */
    text_offset: number[];
};

/** What is sent. */
export type CompletionsRequest = {
    /** The model. */
    model: string;
    /** What to go on from: each prompt gets `n` answers. Without one the model begins by itself. */
    prompt?: OpenAiInput | null;
    /** Answers to draw of which the best `n` are given. */
    best_of?: number | null;
    /** Whether answers begin with their prompt, and `logprobs` with those of its tokens (the first has none). */
    echo?: boolean | null;
    /** From −2 to 2: less of a token the more often it came. */
    frequency_penalty?: number | null;
    /** By token id, from −100 to 100. */
    logit_bias?: { [member: string]: unknown } | null;
    /** Each token's logarithm of probability, and of so many most probable ones: 0 to 20. */
    logprobs?: number | null;
    /** Tokens of each answer at most; 16 by default. */
    max_tokens?: number | null;
    /** Answers of each prompt, 1 to 128. */
    n?: number | null;
    /** From −2 to 2: less of a token once it came. */
    presence_penalty?: number | null;
    /** Same seed, same answer. */
    seed?: number | null;
    /** Texts that end an answer, 64 at most. */
    stop?: OpenAiStop | null;
    /** Whether the answer is sent as it comes. */
    stream?: boolean | null;
    /** How. */
    stream_options?: OpenAiStreamOptions | null;
    /** What comes after the answer: it fills the gap. For models that were trained to. */
    suffix?: string | null;
    /** From 0 (always the most probable token) to 2. */
    temperature?: number | null;
    /** Not OpenAI's: the k most probable tokens. */
    top_k?: number | null;
    /** From 0 to 1: nucleus. */
    top_p?: number | null;
    /** Who the caller asks for. */
    user?: string | null;
};

export type ContentBlock = TextBlock & {
    type: "text";
} | ThinkingBlock & {
    type: "thinking";
} | RedactedThinkingBlock & {
    type: "redacted_thinking";
} | ToolUseBlock & {
    type: "tool_use";
};

/** What a message says. */
export type ContentParam = string | BlockParam[];

/** A document that is made of blocks. */
export type ContentSource = {
    /** Its text. */
    content: DocumentContent;
};

/** What may be left out of a long conversation (beta). */
export type ContextManagement = {
    /** How. */
    edits?: unknown[];
};

/** What may be left out of long conversations. */
export type ContextManagementSupport = {
    supported: boolean;
    clear_thinking_20251015: Support | null;
    clear_tool_uses_20250919: Support | null;
    compact_20260112: Support | null;
};

/** `POST /v1/messages/count_tokens`. */
export type CountTokensParams = {
    /** The model's name. */
    model: string;
    /** The conversation. */
    messages: MessageParam[];
    /** Who the model is and what it shall do. */
    system?: SystemParam;
    /** Tools that may be called. */
    tools?: ToolParam[];
    /** Which of them must be. */
    tool_choice?: ToolChoiceParam;
    /** Whether the model thinks first. */
    thinking?: ThinkingConfigParam;
    /** What the answer must be like. */
    output_config?: OutputConfig;
    /** The beta's older name of `output_config.format`. */
    output_format?: OutputFormat | null;
    /** A breakpoint at the last block that can have one. */
    cache_control?: CacheControl | null;
    /** The same as the `anthropic-beta` header. */
    betas?: string[];
    /** How fast. */
    speed?: Speed | null;
    /** Servers whose tools the service shall call (beta). */
    mcp_servers?: unknown[];
    /** What may be left out of a long conversation (beta). */
    context_management?: ContextManagement | null;
    /** Summarises the conversation (beta). */
    compaction?: unknown;
    /** Who pays (beta). */
    billing_policy?: unknown;
};

/** The type of a caller's own tool. */
export type CustomKind = "custom";

/** The caller's own tool. */
export type CustomTool = {
    /** May be left out. */
    type?: CustomKind | null;
    /** Its name, 1 to 128 of `[a-zA-Z0-9_-]`. */
    name: string;
    /** What it does, for the model. */
    description?: string;
    /** The JSON Schema of its arguments, of type `object`. */
    input_schema: { [member: string]: unknown };
    /** Whether arguments that break the schema must be impossible. */
    strict?: boolean;
    /** The prompt up to here is worth keeping. */
    cache_control?: CacheControl | null;
    /** Who may call it. */
    allowed_callers?: string[];
    /** It is shown to the model only once a search found it. */
    defer_loading?: boolean;
    /** Whether its arguments are sent before they are whole. */
    eager_input_streaming?: boolean | null;
    /** Arguments as they could be. */
    input_examples?: { [member: string]: unknown }[];
};

export type Delta = TextDelta & {
    type: "text_delta";
} | InputJsonDelta & {
    type: "input_json_delta";
} | ThinkingDelta & {
    type: "thinking_delta";
} | SignatureDelta & {
    type: "signature_delta";
};

/** What an answer took, all in all. */
export type DeltaUsage = {
    /** Of the prompt, neither read from the cache nor written to it. */
    input_tokens: number | null;
    /** Generated. */
    output_tokens: number;
    /** Of the prompt, written to the cache. */
    cache_creation_input_tokens: number | null;
    /** Of the prompt, read from the cache. */
    cache_read_input_tokens: number | null;
    /** What was generated, by kind. */
    output_tokens_details: OutputTokensDetails | null;
    /** Tools that the service ran: always `null` here. */
    server_tool_use: null;
    /** In the beta's shape only, where it is `null`. */
    fallback_credit?: null;
    /** In the beta's shape only, where it is `null`. */
    iterations?: null;
};

/** Why the prompt cache missed. */
export type Diagnostics = {
    /** `null` where nobody knows yet, which does not happen here. */
    cache_miss_reason: CacheMiss | null;
};

/** Asks why the prompt cache missed. */
export type DiagnosticsParam = {
    /** The answer before this one; `null` where there is none. */
    previous_message_id?: string | null;
};

/** The model itself. */
export type Direct = object;

/** The model itself. */
export type DirectCaller = object;

/** Whether thoughts are shown. */
export type Display = "summarized" | "omitted" | "updates";

export type DocumentBlock = TextParam & {
    type: "text";
} | ImageParam & {
    type: "image";
};

/** What a document is made of. */
export type DocumentContent = string | DocumentBlock[];

/** A document. */
export type DocumentParam = {
    /** Where it is. Who has the files puts the text of one in place of a source of type `file` before the request is lowered. */
    source: DocumentSource;
    /** Its title. */
    title?: string | null;
    /** About it, not part of it. */
    context?: string | null;
    /** Whether the answer shall cite it. */
    citations?: CitationsParam | null;
    /** The prompt up to here is worth keeping. */
    cache_control?: CacheControl | null;
};

export type DocumentSource = PlainTextSource & {
    type: "text";
} | ContentSource & {
    type: "content";
} | Base64Source & {
    type: "base64";
} | UrlSource & {
    type: "url";
} | FileSource & {
    type: "file";
};

/** How much effort goes into an answer. */
export type Effort = "low" | "medium" | "high" | "xhigh" | "max";

/** Which efforts make a difference. */
export type EffortSupport = {
    supported: boolean;
    low: Support;
    medium: Support;
    high: Support;
    xhigh: Support | null;
    max: Support;
};

/** One vector. */
export type Embedding = {
    /** Always `embedding`. */
    object: string;
    /** Of which input. */
    index: number;
    /** The vector. */
    embedding: EmbeddingsVector;
};

/** What it took. */
export type EmbeddingUsage = {
    /** Tokens of all inputs. */
    prompt_tokens: number;
    /** The same: nothing is generated. */
    total_tokens: number;
};

/** What is answered. */
export type Embeddings = {
    /** Always `list`. */
    object: string;
    /** A vector for each input, in its order. */
    data: Embedding[];
    /** The model that made them. */
    model: string;
    /** What it took. */
    usage: EmbeddingUsage;
};

/** How vectors are written. */
export type EmbeddingsEncoding = "float" | "base64";

/** What is sent. */
export type EmbeddingsRequest = {
    /** What becomes vectors: at most 2,048 texts, none of them empty. */
    input: OpenAiInput;
    /** The model. */
    model: string;
    /** Length of the vectors, for models that were trained for it. */
    dimensions?: number | null;
    /** How vectors are written. */
    encoding_format?: EmbeddingsEncoding | null;
    /** Who the caller asks for. */
    user?: string | null;
};

/** A vector as it is written. */
export type EmbeddingsVector = number[] | string;

/** What a body holds instead of an answer, and what an `error` event of a stream holds. */
export type ErrorBody = {
    /** `error`. */
    type: ErrorTag;
    /** What went wrong. */
    error: ErrorObject;
    /** The request that failed, as its `request-id` header says. */
    request_id: string | null;
};

/** What a program can tell errors of one kind apart by. */
export type ErrorDetails = {
    /** A code. */
    error_code?: string | null;
    /** With `thread_unsupported_request`: what of the request can't be had together with a thread. */
    unsupported?: string[] | null;
};

/** It can't go on. */
export type ErrorEvent = {
    /** What went wrong. */
    error: ErrorObject;
    /** The request that failed. */
    request_id: string | null;
};

/** What went wrong. */
export type ErrorObject = {
    /** `invalid_request_error` and the like; an upstream may know others. */
    type: string;
    /** For a person. */
    message: string;
    /** For a program. */
    details?: ErrorDetails | null;
};

/** The `type` of an error's envelope. */
export type ErrorTag = "error";

/** An uploaded file. */
export type FileSource = {
    /** Its id. */
    file_id: string;
};

/** A picture. */
export type ImageParam = {
    /** Where it is. */
    source: ImageSource;
    /** What to do to it first. */
    transformations?: unknown;
    /** The prompt up to here is worth keeping. */
    cache_control?: CacheControl | null;
};

export type ImageSource = Base64Source & {
    type: "base64";
} | UrlSource & {
    type: "url";
} | FileSource & {
    type: "file";
};

/** JSON of a tool's arguments, to append. */
export type InputJsonDelta = {
    /** A piece of an object's text. */
    partial_json: string;
};

/** JSON of a schema. */
export type JsonSchemaFormat = {
    /** The schema. */
    schema: { [member: string]: unknown };
};

/** Whether a model is served, and for how long. */
export type Lifecycle = "active" | "deprecated" | "retired";

/** An answer. */
export type Message = {
    /** `msg_…`. */
    id: string;
    /** `message`. */
    type: MessageTag;
    /** `assistant`. */
    role: AssistantTag;
    /** The model that answered. */
    model: string;
    /** What it said. */
    content: ContentBlock[];
    /** Why it ended; `null` in `message_start`. */
    stop_reason: StopReason | null;
    /** The text that ended it, where `stop_reason` is `stop_sequence`. */
    stop_sequence: string | null;
    /** Why it was refused, where `stop_reason` is `refusal`. */
    stop_details: RefusalDetails | null;
    /** A machine for code: always `null` here. */
    container: null;
    /** Why the prompt cache missed, where the request asked and it did. */
    diagnostics: Diagnostics | null;
    /** What was left out of the conversation. In the beta's shape only, where it is `null`. */
    context_management?: null;
    /** What it took. */
    usage: Usage;
};

/** What changes in an answer at its end. */
export type MessageChange = {
    /** Why it ended. */
    stop_reason: StopReason | null;
    /** The text that ended it. */
    stop_sequence: string | null;
    /** Why it was refused. */
    stop_details: RefusalDetails | null;
    /** Always `null` here. */
    container: null;
};

/** `POST /v1/messages`, in both versions and in the beta shape. */
export type MessageCreateParams = {
    /** The model's name. */
    model: string;
    /**
     * The conversation, at most 100,000 messages. Turns of the same side that follow each other are one. A last one of the assistant is the
     * beginning of the answer.
     */
    messages: MessageParam[];
    /** Tokens of the answer at most. 0 fills the prompt cache and answers nothing. */
    max_tokens: number;
    /** Who the model is and what it shall do. */
    system?: SystemParam;
    /** Tools that may be called. */
    tools?: ToolParam[];
    /** Which of them must be. */
    tool_choice?: ToolChoiceParam;
    /** Whether the model thinks first. */
    thinking?: ThinkingConfigParam;
    /** What the answer must be like. */
    output_config?: OutputConfig;
    /** The beta's older name of `output_config.format`. */
    output_format?: OutputFormat | null;
    /** Texts that end the answer. */
    stop_sequences?: string[];
    /** Whether the answer is sent as it comes. */
    stream?: boolean;
    /** From 0 (the most probable token) to 1. Version 2023-06-01 only. */
    temperature?: number | null;
    /** Nucleus, from 0 to 1. Version 2023-06-01 only. */
    top_p?: number | null;
    /** The k most probable. Version 2023-06-01 only. */
    top_k?: number | null;
    /** About the request. */
    metadata?: Metadata;
    /** How urgent it is. */
    service_tier?: ServiceTierParam;
    /** A breakpoint at the last block that can have one. */
    cache_control?: CacheControl | null;
    /** Asks why the prompt cache missed. */
    diagnostics?: DiagnosticsParam | null;
    /** The conversation is kept by the server (beta). For whoever keeps it: lowering a request does not look at it. */
    thread?: ThreadParam | null;
    /** The same as the `anthropic-beta` header. */
    betas?: string[];
    /** A machine for code and skills. */
    container?: unknown;
    /** Where it is to be computed. */
    inference_geo?: string | null;
    /** How fast. */
    speed?: Speed | null;
    /** Servers whose tools the service shall call (beta). */
    mcp_servers?: unknown[];
    /** What may be left out of a long conversation (beta). */
    context_management?: ContextManagement | null;
    /** Summarises the conversation (beta). */
    compaction?: unknown;
    /** Other models to try when this one refuses (beta). */
    fallbacks?: unknown;
    /** What a refusal gave towards a fallback (beta). */
    fallback_credit_token?: unknown;
    /** Who pays (beta). */
    billing_policy?: unknown;
};

/** Why an answer ended, and what it took. */
export type MessageDelta = {
    /** What changes in the answer. */
    delta: MessageChange;
    /** What was left out of the conversation. In the beta's shape only, where it is `null`. */
    context_management?: null;
    /** What it took, all in all. */
    usage: DeltaUsage;
};

/** What one side said. */
export type MessageParam = {
    /** Who. */
    role: RoleParam;
    /** What. A `system` message of the beta may go without, and holds text only. */
    content?: ContentParam;
    /** How long a `system` message stays before the model (beta). */
    clear_at?: ClearAt | null;
    /** From a `system` message on, what answers must be like (beta). */
    output_config?: { [member: string]: unknown } | null;
};

/** An answer begins. */
export type MessageStart = {
    /** The answer, with no content yet. */
    message: Message;
};

/** The `type` of an answer. */
export type MessageTag = "message";

/** About a request. */
export type Metadata = {
    /** Who the caller asks for: an opaque name, at most 512 characters. */
    user_id?: string | null;
};

/** What a model can do here. */
export type ModelCapabilities = {
    /** Batches. */
    batch: Support;
    /** Citing documents. */
    citations: Support;
    /** Running code on the service's side. */
    code_execution: Support;
    /** Leaving things out of long conversations. */
    context_management: ContextManagementSupport;
    /** `output_config.effort`. */
    effort: EffortSupport;
    /** Pictures. */
    image_input: Support;
    /** PDFs. */
    pdf_input: Support;
    /** Tools that the service runs. */
    server_tools: ServerToolsSupport;
    /** Answers of a schema. */
    structured_outputs: Support;
    /** Thinking. */
    thinking: ThinkingSupport;
    /** Summarising long conversations. In the beta's shape only, where it is `null`. */
    compaction?: null;
};

/** A model. */
export type ModelInfo = {
    /** Its name in requests. */
    id: string;
    /** `model`. */
    type: ModelTag;
    /** For a person. */
    display_name: string;
    /** RFC 3339. */
    created_at: string;
    /** Whether it is served, and for how long. */
    lifecycle: Lifecycle;
    /** The hosted service's own families: always `null` here. */
    line: null;
    /** The longest prompt. */
    max_input_tokens: number | null;
    /** The longest answer. */
    max_tokens: number | null;
    /** RFC 3339. */
    deprecated_at: string | null;
    /** RFC 3339. */
    retires_at: string | null;
    /** What it can do here. */
    capabilities: ModelCapabilities | null;
    /** Models that are tried where it refuses. In the beta's shape only, where it is `null`. */
    allowed_fallback_models?: null;
};

/** A page of models. */
export type ModelPage = {
    /** Models, the newest first. */
    data: ModelInfo[];
    /** Whether there are more behind the last. */
    has_more: boolean;
    /** The first one here. */
    first_id: string | null;
    /** The last one here. */
    last_id: string | null;
};

/** The `type` of a model. */
export type ModelTag = "model";

/** What is answered by `/v1/moderate`. */
export type Moderate = {
    /** `modr-…`. */
    id: string;
    /** Always `moderation`. */
    object: string;
    /** What judged. */
    model: string;
    /** `allow`, `flag` or `block`. */
    decision: string;
    /** The rule that decided; none where it was the scores or nothing was found. */
    rule: string | null;
    /** Whether each of the policy's categories is more than it bears. */
    categories: { [member: string]: unknown };
    /** How much of each, from 0 to 1. */
    scores: { [member: string]: unknown };
};

/** What is sent to `/v1/moderate`: a text, or messages. */
export type ModerateRequest = {
    /** A text. */
    text?: string | null;
    /** Whose text it is: of the `user` (judged as input, the default) or of the `assistant` (judged as output). */
    role?: ModerationsSide | null;
    /** Instead of a text: a conversation, as `/v1/chat/completions` takes it. */
    messages?: ChatMessage[] | null;
    /** The model. Whatever it says, the service's own policy judges. */
    model?: string | null;
};

/** A judgement of one input, in OpenAI's categories. */
export type ModerationResult = {
    /** Whether any of the 13 categories is. What a policy finds that is of none of them, `/v1/moderate` tells. */
    flagged: boolean;
    /** Whether each of the 13 is. */
    categories: { [member: string]: unknown };
    /** How much of each, from 0 to 1. 0 also where the policy does not look for it. */
    category_scores: { [member: string]: unknown };
    /** What each was looked for in: `["text"]`, or nothing where the policy does not look for it. */
    category_applied_input_types: { [member: string]: unknown };
};

/** What is answered by `/v1/moderations`. */
export type Moderations = {
    /** `modr-…`. */
    id: string;
    /** What judged. */
    model: string;
    /** One for each input, in its order. */
    results: ModerationResult[];
};

/** What is to be judged. */
export type ModerationsInput = string | ModerationsInputPart[];

/** A member of a list. */
export type ModerationsInputPart = string | ModerationsTypedPart;

/** What is sent to `/v1/moderations`. */
export type ModerationsRequest = {
    /** What is to be judged. */
    input: ModerationsInput;
    /** The model. Whatever it says, the service's own policy judges. */
    model?: string | null;
};

/** Whose text it is. */
export type ModerationsSide = "user" | "assistant";

export type ModerationsTypedPart = ChatTextPart & {
    type: "text";
};

/** Nothing more to say. */
export type Nothing = object;

/** Kinds of breakpoints. */
export type OpenAiBreakpointMode = "explicit";

/** How long a breakpoint's prefix is kept. */
export type OpenAiBreakpointTtl = "30m" | "12h";

/** A place in a prompt up to which it is worth keeping. */
export type OpenAiCacheBreakpoint = {
    /** Always `explicit`. */
    mode?: OpenAiBreakpointMode | null;
    /** How long it is kept at least. */
    ttl?: OpenAiBreakpointTtl | null;
};

/** How much the model thinks before it answers. */
export type OpenAiEffort = "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max";

/** An error's body. */
export type OpenAiErrorBody = {
    /** What is wrong. */
    error: OpenAiErrorObject;
};

/** What is wrong. Every member is always there. */
export type OpenAiErrorObject = {
    /** For people. */
    message: string;
    /** What kind. */
    type: string;
    /** Which parameter: `messages[0].content`. */
    param: string | null;
    /** For programs. */
    code: string | null;
};

/** A text, texts, token ids or lists of token ids. Read as it comes: a list of ids takes four bytes each. */
export type OpenAiInput = string | string[] | number[] | number[][];

/** A model that can be asked for. */
export type OpenAiModel = {
    /** Its name, as requests give it. */
    id: string;
    /** Always `model`. */
    object: string;
    /** Seconds since 1970. */
    created: number;
    /** Who made it. */
    owned_by: string;
};

/** All of them, on one page. */
export type OpenAiModels = {
    /** Always `list`. */
    object: string;
    /** The models. */
    data: OpenAiModel[];
};

/** How long the upstream keeps prompts. */
export type OpenAiRetention = "in_memory" | "in-memory" | "24h";

/** Texts that end an answer. */
export type OpenAiStop = string | string[];

/** How a stream is sent. */
export type OpenAiStreamOptions = {
    /** Whether a last chunk without choices says what it took. */
    include_usage?: boolean | null;
    /** Whether chunks are padded against watchers who know their lengths. Nothing is padded here. */
    include_obfuscation?: boolean | null;
};

/** How urgent a request is. */
export type OpenAiTier = "auto" | "default" | "flex" | "scale" | "priority" | "fast" | "ultrafast";

/** How long answers are. */
export type OpenAiVerbosity = "low" | "medium" | "high";

/** What the answer must be like. */
export type OutputConfig = {
    /** What its text must be. */
    format?: OutputFormat | null;
    /** How much effort goes into it. */
    effort?: Effort | null;
    /** Tokens for a whole task (beta). */
    task_budget?: { [member: string]: unknown } | null;
};

export type OutputFormat = JsonSchemaFormat & {
    type: "json_schema";
};

/** What was generated, by kind. */
export type OutputTokensDetails = {
    /** Thoughts, also those that were left out of the answer. */
    thinking_tokens: number;
};

/** The media type of plain text. */
export type PlainText = "text/plain";

/** Plain text. */
export type PlainTextSource = {
    /** `text/plain`. */
    media_type: PlainText;
    /** The text. */
    data: string;
};

/** Limits of one group. */
export type RateLimit = {
    /** Its id. */
    id: string;
    /** `rate_limit`. */
    type: RateLimitTag;
    /** What it limits. */
    group: RateLimitGroup;
    /** How. */
    limits: RateLimitValue[];
    /** Models that it limits; `null` where the group is not one of models. */
    models: string[] | null;
};

/** What a limit limits. */
export type RateLimitGroup = {
    type: "model_group";
    /** Its id. */
    id: string;
    /** For a person. */
    display_name: string;
} | {
    type: "batch";
    /** Its id. */
    id: string;
} | {
    type: "token_count";
    /** Its id. */
    id: string;
} | {
    type: "files";
    /** Its id. */
    id: string;
};

/** A page of limits. */
export type RateLimitPage = {
    /** Limits. */
    data: RateLimit[];
    /** Where the next page begins. */
    next_page: string | null;
};

/** The `type` of a limit. */
export type RateLimitTag = "rate_limit";

/** One limit. */
export type RateLimitValue = {
    /** Of what: `requests_per_minute`, `input_tokens_per_minute_cache_aware`, `output_tokens_per_minute` and the like. */
    type: string;
    /** How many. */
    value: number;
};

/** Thoughts, encrypted. */
export type RedactedThinkingBlock = {
    /** Opaque. */
    data: string;
};

/** What the model thought, encrypted. */
export type RedactedThinkingParam = {
    /** Opaque. */
    data: string;
};

/** Why an answer was refused. */
export type RefusalDetails = {
    /** `refusal`. */
    type: RefusalTag;
    /** `cyber`, `bio`, `frontier_llm`, `reasoning_extraction` or `general_harms`; here the last or none. */
    category: string | null;
    /** For the caller. */
    explanation: string | null;
    /** In the beta's shape only, where it is `null`. */
    fallback_credit_token?: null;
    /** In the beta's shape only, where it is `null`. */
    fallback_has_prefill_claim?: null;
    /** In the beta's shape only, where it is `null`. */
    recommended_model?: null;
};

/** The `type` of a refusal's details. */
export type RefusalTag = "refusal";

/** A response. It repeats members of its request, too. */
export type Response = {
    /** `resp_…`. */
    id: string;
    /** Always `response`. */
    object: string;
    /** Seconds since 1970. */
    created_at: number;
    /** `in_progress`, `completed`, `incomplete` or `failed`. */
    status: string;
    /** What went wrong. */
    error: ResponseError | null;
    /** Why it is incomplete. */
    incomplete_details: ResponsesIncomplete | null;
    /** The model that answered. */
    model: string;
    /** What was said and done. */
    output: ResponsesOutputItem[];
    /** What it took, when it is over. */
    usage: ResponsesUsage | null;
    /** How urgent it was served. */
    service_tier: string | null;
};

/** What went wrong. */
export type ResponseError = {
    /** `server_error`, `rate_limit_exceeded` or `invalid_prompt`. */
    code: string;
    /** For people. */
    message: string;
};

/** Some of the tools. The others are left out of the prompt. */
export type ResponsesAllowedTools = {
    /** `auto` or `required`. */
    mode: ChatMode;
    /** Which. */
    tools: ResponsesChoiceOf[];
};

export type ResponsesChoiceOf = ResponsesNamedChoice & {
    type: "function";
} | ResponsesAllowedTools & {
    type: "allowed_tools";
};

/** A function that the model called. */
export type ResponsesFunctionCallItem = {
    /** By which its output names it. */
    call_id: string;
    /** The function. */
    name: string;
    /** The JSON text of an object; empty text is the empty object. */
    arguments: string;
    /** The item's name. */
    id?: string | null;
    /** How far it came. */
    status?: ResponsesStatus | null;
};

/** What a function gave back. */
export type ResponsesFunctionOutputItem = {
    /** Of which call. */
    call_id: string;
    /** As text. */
    output: ResponsesItemContent;
    /** The item's name. */
    id?: string | null;
    /** How far it came. */
    status?: ResponsesStatus | null;
    /** The function. */
    name?: string | null;
};

/** A function. */
export type ResponsesFunctionTool = {
    /** Its name, 1 to 128 of `[a-zA-Z0-9_-]`. */
    name: string;
    /** What it does. */
    description?: string | null;
    /** The JSON Schema of its arguments. Without one it takes none. */
    parameters?: { [member: string]: unknown } | null;
    /** Whether arguments that break the schema must be impossible. */
    strict?: boolean | null;
};

/** Why a response is incomplete. */
export type ResponsesIncomplete = {
    /** `max_output_tokens` or `content_filter`. */
    reason: string;
};

/** The conversation. */
export type ResponsesInput = string | ResponsesItem[];

/** Of the prompt. */
export type ResponsesInputDetails = {
    /** Known already. */
    cached_tokens: number;
    /** Kept from now on. */
    cache_write_tokens: number;
};

/** An item. A message may leave its `type` out, and so may a reference that is an `id` and nothing else. */
export type ResponsesItem = ResponsesTypedItem | ResponsesMessageItem | ResponsesItemReference;

/** What was said. */
export type ResponsesItemContent = string | ResponsesItemPart[];

export type ResponsesItemPart = ResponsesTextPart & {
    type: "input_text";
} | ResponsesTextPart & {
    type: "output_text";
} | ChatRefusalPart & {
    type: "refusal";
};

/** An item that the service keeps. */
export type ResponsesItemReference = {
    /** Its name. */
    id: string;
};

/** What one side said. */
export type ResponsesMessageItem = {
    /** Who. */
    role: ResponsesMessageRole;
    /** What. */
    content: ResponsesItemContent;
    /** Its name, where a response had it. */
    id?: string | null;
    /** How far it came. */
    status?: ResponsesStatus | null;
    /** Whether it is an answer or said on the way. */
    phase?: ResponsesPhase | null;
};

/** Sides. */
export type ResponsesMessageRole = "user" | "assistant" | "system" | "developer";

/** A function by its name. */
export type ResponsesNamedChoice = {
    /** As `tools` has it. */
    name: string;
};

/** Of what was generated. */
export type ResponsesOutputDetails = {
    /** Thought. */
    reasoning_tokens: number;
};

/** What was said or done. */
export type ResponsesOutputItem = {
    type: "reasoning";
    /** `rs_…`. */
    id: string;
    /** How far it came. */
    status: string;
    /** The thoughts. */
    summary: ResponsesSummaryPart[];
    /** Their signature, where there is one. */
    encrypted_content?: string | null;
} | {
    type: "message";
    /** `msg_…`. */
    id: string;
    /** How far it came. */
    status: string;
    /** Always `assistant`. */
    role: string;
    /** One part. */
    content: ResponsesOutputPart[];
} | {
    type: "function_call";
    /** `fc_…`. */
    id: string;
    /** How far it came. */
    status: string;
    /** By which the output names it. */
    call_id: string;
    /** The function. */
    name: string;
    /** The JSON text of an object. */
    arguments: string;
};

/** A part of what was said. */
export type ResponsesOutputPart = {
    type: "output_text";
    /** The text. */
    text: string;
    /** Sources: none are named here. */
    annotations: null[];
    /** Of its tokens, where asked for. */
    logprobs: ChatTokenLogprob[];
} | {
    type: "refusal";
    /** Why. */
    refusal: string;
};

/** What a message of the model is. */
export type ResponsesPhase = "commentary" | "final_answer";

/** How the model thinks first. */
export type ResponsesReasoning = {
    /** How much. */
    effort?: OpenAiEffort | null;
    /** How thoughts are told. They are always told whole here. */
    summary?: ResponsesSummary | null;
    /** The same, by its old name. */
    generate_summary?: ResponsesSummary | null;
    /** Which earlier thoughts the upstream shows the model. */
    context?: ResponsesShown | null;
    /** How the upstream runs the model. */
    mode?: string | null;
};

/** What the model thought. */
export type ResponsesReasoningItem = {
    /** Its name. */
    id?: string | null;
    /** The thoughts as they were told. */
    summary?: ResponsesReasoningText[];
    /** The thoughts as they were. */
    content?: ResponsesReasoningText[] | null;
    /** Opaque. */
    encrypted_content?: string | null;
    /** How far it came. */
    status?: ResponsesStatus | null;
};

/** Whether a part of thoughts was told, or is as it was. */
export type ResponsesReasoningTag = "summary_text" | "reasoning_text";

/** A part of thoughts. */
export type ResponsesReasoningText = {
    /** Whether it was told, or is as it was. */
    type: ResponsesReasoningTag;
    /** As text. */
    text: string;
};

/** What is sent. */
export type ResponsesRequest = {
    /** Who may be asked for what, upstream. */
    access_programs?: unknown;
    /** Whether the answer is made after the reply. */
    background?: boolean | null;
    /** How the upstream shortens the conversation. */
    context_management?: unknown;
    /** A conversation that the upstream keeps. */
    conversation?: unknown;
    /** How the upstream treats images. */
    image?: unknown;
    /** What more to tell: `message.output_text.logprobs`. */
    include?: string[] | null;
    /** The conversation so far, or what is new behind `previous_response_id`. */
    input?: ResponsesInput | null;
    /** Text of the system's side. It is not kept for the next response. */
    instructions?: string | null;
    /** Tokens of the answer at most, thoughts included. */
    max_output_tokens?: number | null;
    /** Calls of the upstream's own tools at most. */
    max_tool_calls?: number | null;
    /** Notes, given back with the response. */
    metadata?: { [member: string]: unknown } | null;
    /** The model. */
    model?: string;
    /** Moderation by the upstream. */
    moderation?: unknown;
    /** Whether one answer may hold several calls; true by default. */
    parallel_tool_calls?: boolean | null;
    /** The response that this goes on from. */
    previous_response_id?: string | null;
    /** A prompt that the upstream keeps. */
    prompt?: unknown;
    /** Which prompts begin alike. Known prefixes are found by themselves here. */
    prompt_cache_key?: string | null;
    /** How the upstream's prompt cache works. */
    prompt_cache_options?: unknown;
    /** How long the upstream keeps prompts. */
    prompt_cache_retention?: OpenAiRetention | null;
    /** How the model thinks first. */
    reasoning?: ResponsesReasoning | null;
    /** Who the caller asks for. */
    safety_identifier?: string | null;
    /** How urgent it is. */
    service_tier?: OpenAiTier | null;
    /** Whether the response is kept, so that another can go on from it; true by default. */
    store?: boolean | null;
    /** Whether the answer is sent as it comes. */
    stream?: boolean | null;
    /** How. */
    stream_options?: OpenAiStreamOptions | null;
    /** From 0 (always the most probable token) to 2. */
    temperature?: number | null;
    /** What the text of the answer must be. */
    text?: ResponsesTextConfig | null;
    /** Which tools must be called. */
    tool_choice?: ResponsesToolChoice | null;
    /** Tools that may be called. */
    tools?: ResponsesTool[] | null;
    /** Not OpenAI's: the k most probable tokens. */
    top_k?: number | null;
    /** Of so many most probable tokens at each place, 0 to 20. */
    top_logprobs?: number | null;
    /** From 0 to 1: nucleus. */
    top_p?: number | null;
    /** What happens to a conversation that is too long: `disabled`, the default, refuses it. */
    truncation?: ResponsesTruncation | null;
    /** Who the caller asks for, by its old name. */
    user?: string | null;
};

/** JSON of a schema. */
export type ResponsesSchemaFormat = {
    /** What the caller calls it. */
    name: string;
    /** The schema. */
    schema: { [member: string]: unknown };
    /** What it is for. */
    description?: string | null;
    /** Answers keep to the schema whatever this says. */
    strict?: boolean | null;
};

/** Which earlier thoughts a model is shown. */
export type ResponsesShown = "auto" | "current_turn" | "all_turns";

/** How far an item came. */
export type ResponsesStatus = "in_progress" | "completed" | "incomplete";

/** How thoughts are told. */
export type ResponsesSummary = "auto" | "concise" | "detailed";

/** A part of thoughts. */
export type ResponsesSummaryPart = {
    type: "summary_text";
    /** The text. */
    text: string;
};

/** What the text of the answer must be. */
export type ResponsesTextConfig = {
    /** Its form. */
    format?: ResponsesTextFormat | null;
    /** How long it is. */
    verbosity?: OpenAiVerbosity | null;
};

export type ResponsesTextFormat = ChatEmpty & {
    type: "text";
} | ChatEmpty & {
    type: "json_object";
} | ResponsesSchemaFormat & {
    type: "json_schema";
};

/** Text. */
export type ResponsesTextPart = {
    /** The text. */
    text: string;
    /** The prompt up to here is worth keeping. */
    prompt_cache_breakpoint?: OpenAiCacheBreakpoint | null;
    /** Sources that an answer named. */
    annotations?: unknown[] | null;
    /** Of an answer's tokens. */
    logprobs?: unknown[] | null;
};

export type ResponsesTool = ResponsesFunctionTool & {
    type: "function";
};

/** Which tools must be called. */
export type ResponsesToolChoice = ChatMode | ResponsesChoiceOf;

/** What happens to a conversation that is too long. */
export type ResponsesTruncation = "auto" | "disabled";

export type ResponsesTypedItem = ResponsesMessageItem & {
    type: "message";
} | ResponsesReasoningItem & {
    type: "reasoning";
} | ResponsesFunctionCallItem & {
    type: "function_call";
} | ResponsesFunctionOutputItem & {
    type: "function_call_output";
} | ResponsesItemReference & {
    type: "item_reference";
};

/** What it took, in tokens. */
export type ResponsesUsage = {
    /** Of the prompt, known ones included. */
    input_tokens: number;
    /** Of the prompt. */
    input_tokens_details: ResponsesInputDetails;
    /** Generated, thoughts included. */
    output_tokens: number;
    /** Of what was generated. */
    output_tokens_details: ResponsesOutputDetails;
    /** Both. */
    total_tokens: number;
};

/** Sides of a conversation. */
export type RoleParam = "user" | "assistant" | "system";

/** A result of a search that the caller made. */
export type SearchResultParam = {
    /** Where it was found. */
    source: string;
    /** Its title. */
    title: string;
    /** What it says. */
    content: TextBlockParam[];
    /** Whether the answer shall cite it. */
    citations?: CitationsParam;
    /** The prompt up to here is worth keeping. */
    cache_control?: CacheControl | null;
};

/** Tools that the service runs. */
export type ServerToolsSupport = {
    supported: boolean;
    code_execution: Support;
    web_search: Support;
};

/** How urgent a request is. */
export type ServiceTierParam = "auto" | "standard_only";

/** The signature of thoughts. */
export type SignatureDelta = {
    /** The whole of it. */
    signature: string;
};

/** How fast a request is served. */
export type Speed = "standard" | "fast";

/** Why an answer ended. */
export type StopReason = "end_turn" | "max_tokens" | "stop_sequence" | "tool_use" | "pause_turn" | "compaction" | "refusal" | "model_context_window_exceeded";

export type StreamEvent = MessageStart & {
    type: "message_start";
} | BlockStart & {
    type: "content_block_start";
} | BlockDelta & {
    type: "content_block_delta";
} | BlockStop & {
    type: "content_block_stop";
} | MessageDelta & {
    type: "message_delta";
} | Nothing & {
    type: "message_stop";
} | Nothing & {
    type: "ping";
} | ErrorEvent & {
    type: "error";
};

/** Whether something is supported. */
export type Support = {
    /** Whether it is. */
    supported: boolean;
};

/** Who the model is and what it shall do. */
export type SystemParam = string | TextBlockParam[];

/** Text. */
export type TextBlock = {
    /** The text. */
    text: string;
    /** Never given here. Left out, although the SDKs' types name it: clients that check answers take it to be an array or nothing, and not `null`. */
    citations?: unknown[];
};

export type TextBlockParam = TextParam & {
    type: "text";
};

/** Text, to append. */
export type TextDelta = {
    /** The text. */
    text: string;
};

/** Text. */
export type TextParam = {
    /** Not empty. */
    text: string;
    /** The prompt up to here is worth keeping. */
    cache_control?: CacheControl | null;
    /** What the text was taken from, in an answer that is sent back. */
    citations?: unknown[] | null;
};

/** Thoughts as long as the model likes. */
export type ThinkingAdaptive = {
    /** Whether the thoughts are shown. */
    display?: Display | null;
    /** What happens to thoughts sent back that are not as they were (beta). */
    block_binding?: { [member: string]: unknown } | null;
};

/** Thoughts. */
export type ThinkingBlock = {
    /** Empty where the request asked to leave them out. */
    thinking: string;
    /** To be sent back with them. */
    signature: string;
};

export type ThinkingConfigParam = ThinkingEnabled & {
    type: "enabled";
} | ThinkingAdaptive & {
    type: "adaptive";
} | ThinkingPlain & {
    type: "disabled";
} | ThinkingPlain & {
    type: "between_tools";
};

/** Thoughts, to append. */
export type ThinkingDelta = {
    /** The thoughts. */
    thinking: string;
    /** Tokens of thoughts that are left out of the answer. In the beta's shape only, where it is `null`. */
    estimated_tokens?: null;
};

/** So many tokens of thoughts at most. */
export type ThinkingEnabled = {
    /** At least 1,024 and less than `max_tokens`. */
    budget_tokens: number;
    /** Whether the thoughts are shown. */
    display?: Display | null;
    /** What happens to thoughts sent back that are not as they were (beta). */
    block_binding?: { [member: string]: unknown } | null;
};

/** What the model thought, as it was given out. */
export type ThinkingParam = {
    /** The thoughts; empty where they were left out of the answer. */
    thinking: string;
    /** As it was given out. */
    signature: string;
};

/** Nothing more to say about it. */
export type ThinkingPlain = object;

/** How a model can think. */
export type ThinkingSupport = {
    supported: boolean;
    types: ThinkingTypes;
};

/** Types of `thinking`. */
export type ThinkingTypes = {
    adaptive: Support;
    between_tools: Support;
    disabled: Support;
    enabled: Support;
};

/** Go on with a conversation that was kept. */
export type ThreadContinue = {
    /** Its last answer. */
    previous_message_id: string;
};

/** Keep this conversation. */
export type ThreadCreate = object;

export type ThreadParam = ThreadCreate & {
    type: "create";
} | ThreadContinue & {
    type: "continue";
};

/** `POST /v1/messages/count_tokens` answers this. */
export type TokensCount = {
    /** The prompt's length. */
    input_tokens: number;
    /** The beta's shape has this too, `null`. */
    context_management?: null;
};

/** Any tool may be called. */
export type ToolChoiceFree = {
    /** One call at most. */
    disable_parallel_tool_use?: boolean;
};

/** One tool must be called. */
export type ToolChoiceNamed = {
    /** Its name. */
    name: string;
    /** One call at most. */
    disable_parallel_tool_use?: boolean;
};

/** No tool may be called. */
export type ToolChoiceNone = object;

export type ToolChoiceParam = ToolChoiceFree & {
    type: "auto";
} | ToolChoiceFree & {
    type: "any";
} | ToolChoiceNamed & {
    type: "tool";
} | ToolChoiceNone & {
    type: "none";
};

export type ToolParam = CustomTool & {
    type?: "custom" | null;
} | ClientTool & {
    type?: "bash_20241022" | "bash_20250124" | "text_editor_20241022" | "text_editor_20250124" | "text_editor_20250429" | "text_editor_20250728" | "memory_20250818";
};

export type ToolResultBlock = TextParam & {
    type: "text";
} | ImageParam & {
    type: "image";
} | DocumentParam & {
    type: "document";
} | SearchResultParam & {
    type: "search_result";
};

/** What a tool gave back. */
export type ToolResultContent = string | ToolResultBlock[];

/** What a tool gave back. */
export type ToolResultParam = {
    /** Of which call. */
    tool_use_id: string;
    /** What it gave. Nothing is a result too. */
    content?: ToolResultContent;
    /** Whether it failed. */
    is_error?: boolean;
    /** The prompt up to here is worth keeping. */
    cache_control?: CacheControl | null;
    /** The set of tools that the tool belongs to. */
    toolset_name?: string | null;
};

/** A call of a tool. */
export type ToolUseBlock = {
    /** By which its result names it. */
    id: string;
    /** The tool. */
    name: string;
    /** Its arguments, an object. */
    input: unknown;
    /** Who calls. */
    caller: Caller;
};

/** A tool that the model called. */
export type ToolUseParam = {
    /** By which its result names it. */
    id: string;
    /** The tool. */
    name: string;
    /** Its arguments, an object. */
    input: { [member: string]: unknown };
    /** The prompt up to here is worth keeping. */
    cache_control?: CacheControl | null;
    /** Who called: the model, or code on the server. */
    caller?: CallerParam;
    /** The set of tools that the tool belongs to. */
    toolset_name?: string | null;
};

/** How long a breakpoint's prefix is kept. */
export type TtlParam = "5m" | "1h";

/** Something on the web. */
export type UrlSource = {
    /** Its address. */
    url: string;
};

/** What an answer took. */
export type Usage = {
    /** Of the prompt, neither read from the cache nor written to it. */
    input_tokens: number;
    /** Generated. */
    output_tokens: number;
    /** Of the prompt, written to the cache. */
    cache_creation_input_tokens: number | null;
    /** Of the prompt, read from the cache. */
    cache_read_input_tokens: number | null;
    /** What was written to the cache, by how long it is kept. */
    cache_creation: CacheCreation | null;
    /** What was generated, by kind. */
    output_tokens_details: OutputTokensDetails | null;
    /** Tools that the service ran: always `null` here. */
    server_tool_use: null;
    /** `standard`, `priority` or `batch`. */
    service_tier: string | null;
    /** Always `null` here: there is one speed. */
    speed: null;
    /** Always `null` here. */
    inference_geo: null;
    /** In the beta's shape only, where it is `null`. */
    fallback_credit?: null;
    /** In the beta's shape only, where it is `null`. */
    iterations?: null;
};
