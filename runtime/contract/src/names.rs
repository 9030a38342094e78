//! What callers call the fields that an ask is made of.

/// Names of fields in the body that an ask came in. An error that is found after the body was read names the caller's own field by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// The conversation, or the prompts.
    pub conversation: &'static str,
    /// The schema that the answer is held to.
    pub schema: &'static str,
    /// Within a tool: the schema of its arguments.
    pub arguments: &'static str,
    /// Within a tool: whether that schema must hold.
    pub strict: &'static str,
    /// The name of the tool that must be called.
    pub chosen: &'static str,
    /// Whether the model thinks first.
    pub thinking: &'static str,
}

impl Names {
    /// Of `/v1/messages`.
    pub const MESSAGES: &'static Names = &Names {
        conversation: "messages",
        schema: "output_config.format.schema",
        arguments: "input_schema",
        strict: "strict",
        chosen: "tool_choice.name",
        thinking: "thinking",
    };

    /// Of `/v1/messages` where the answer's form has its older name.
    pub const MESSAGES_WITH_OUTPUT_FORMAT: &'static Names = &Names { schema: "output_format.schema", ..*Names::MESSAGES };

    /// Of `/v1/chat/completions`.
    pub const CHAT: &'static Names = &Names {
        conversation: "messages",
        schema: "response_format.json_schema.schema",
        arguments: "function.parameters",
        strict: "function.strict",
        chosen: "tool_choice.function.name",
        thinking: "reasoning_effort",
    };

    /// Of `/v1/responses`.
    pub const RESPONSES: &'static Names = &Names {
        conversation: "input",
        schema: "text.format.schema",
        arguments: "parameters",
        strict: "strict",
        chosen: "tool_choice.name",
        thinking: "reasoning.effort",
    };

    /// Of `/v1/completions`, whose prompts have neither tools nor a form.
    pub const COMPLETIONS: &'static Names = &Names { conversation: "prompt", ..*Names::CHAT };
}
