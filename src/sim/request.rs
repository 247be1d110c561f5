//! Requests as the server reads them.

use serde::Deserialize;
use serde_json::Value;

/// What a request asks for, as far as the simulator cares; every other field is accepted and ignored.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) fim: bool,
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) max_tokens: u32,
    pub(crate) user_id: Option<String>,
    pub(crate) tag: Option<String>,
    /// What the answer quotes: the last user message, or the prompt.
    pub(crate) prompt: String,
    /// The beginning of the answer that the client gave (chat prefix completion).
    pub(crate) begun: Option<String>,
    pub(crate) prompt_tokens: u32,
    pub(crate) thinking: bool,
    pub(crate) tool: Option<ToolCall>,
}

/// A call the answer makes.
#[derive(Debug, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    /// A JSON object with a value for each required parameter.
    pub(crate) arguments: String,
}

#[derive(Deserialize)]
struct Chat {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    thinking: Option<Thinking>,
    #[serde(default)]
    reasoning_effort: Option<String>,
    #[serde(default)]
    tools: Option<Vec<Tool>>,
    #[serde(default)]
    tool_choice: Option<Value>,
}

#[derive(Deserialize)]
struct Fim {
    model: String,
    prompt: String,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    request_tag: Option<String>,
}

#[derive(Deserialize, PartialEq, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Role {
    System,
    User,
    Assistant,
    Tool,
    LatestReminder,
}

#[derive(Deserialize)]
struct Message {
    role: Role,
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    prefix: Option<bool>,
}

#[derive(Deserialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: ThinkingKind,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ThinkingKind {
    Enabled,
    Disabled,
}

#[derive(Deserialize)]
struct Tool {
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    parameters: Value,
}

impl Message {
    fn text(&self) -> String {
        match &self.content {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
            _ => String::new(),
        }
    }
}

/// The longest answer a request may ask for.
const MAX_TOKENS: u32 = 393_216;

/// The same for fill in the middle, where it is the default too.
const FIM_MAX_TOKENS: u32 = 4096;

fn max_tokens(asked: Option<u32>, default: u32, max: u32) -> Result<u32, String> {
    match asked.unwrap_or(default) {
        tokens if (1..=max).contains(&tokens) => Ok(tokens),
        _ => Err(format!("Invalid max_tokens value, the valid range of max_tokens is [1, {max}]")),
    }
}

/// The default length of an answer without and with thinking.
const DEFAULT_MAX_TOKENS: [u32; 2] = [8192, 65_536];

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let failed = |detail: String| format!("Failed to deserialize the JSON body into the target type: {detail}");
    // The path and then the parser's words, as the real server has them.
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| failed(error.to_string()))?;
    deserializer.end().map_err(|error| failed(error.to_string()))?;
    Ok(value)
}

impl Asked {
    /// Reads a body for `/chat/completions`; the error is the message of a 400.
    pub(crate) fn chat(body: &[u8]) -> Result<Self, String> {
        let chat: Chat = read(body)?;
        let Some(last) = chat.messages.last() else {
            return Err("Invalid request: `messages` must have at least one message.".to_owned());
        };
        let thinking = match chat.thinking {
            Some(Thinking { kind: ThinkingKind::Disabled }) => false,
            Some(Thinking { kind: ThinkingKind::Enabled }) => true,
            None => chat.reasoning_effort.as_deref() != Some("none"),
        };
        let last_user = chat.messages.iter().rev().find(|message| message.role == Role::User);
        let prompt = last_user.unwrap_or(last).text();
        let begun = (last.role == Role::Assistant && last.prefix == Some(true)).then(|| last.text());
        let tools = chat.tools.unwrap_or_default();
        let named = |name: &str| tools.iter().find(|tool| tool.function.name == name);
        let forced = match &chat.tool_choice {
            Some(Value::String(choice)) if choice == "required" => Some(tools.first()),
            Some(Value::Object(choice)) => {
                Some(choice.get("function").and_then(|f| f.get("name")?.as_str()).and_then(named))
            }
            _ => None,
        };
        let tool = match forced {
            Some(_) if thinking => return Err("Thinking mode does not support this tool_choice".to_owned()),
            Some(None) => return Err("Invalid request: `tool_choice` asks for a tool that is not given.".to_owned()),
            Some(tool) => tool,
            // Left to choose, it calls the tool the user names, and answers once there is a result.
            None if chat.tool_choice.as_ref().is_none_or(|choice| choice == "auto") && last.role == Role::User => {
                tools.iter().find(|tool| !tool.function.name.is_empty() && prompt.contains(&tool.function.name))
            }
            None => None,
        };
        let text: u64 = chat.messages.iter().map(|message| 4 + tokens_of(&message.text())).sum();
        Ok(Self {
            fim: false,
            model: chat.model,
            stream: chat.stream.unwrap_or(false),
            max_tokens: max_tokens(chat.max_tokens, DEFAULT_MAX_TOKENS[usize::from(thinking)], MAX_TOKENS)?,
            user_id: chat.user_id,
            tag: chat.metadata.and_then(|metadata| metadata.request_tag),
            tool: tool.map(|tool| ToolCall {
                name: tool.function.name.clone(),
                arguments: arguments(&tool.function.parameters, &prompt).to_string(),
            }),
            prompt,
            begun,
            prompt_tokens: u32::try_from(text).unwrap_or(u32::MAX),
            thinking,
        })
    }

    /// Reads a body for `/completions` (fill in the middle).
    pub(crate) fn fim(body: &[u8]) -> Result<Self, String> {
        let fim: Fim = read(body)?;
        let text = tokens_of(&fim.prompt) + fim.suffix.as_deref().map_or(0, tokens_of);
        Ok(Self {
            fim: true,
            model: fim.model,
            stream: fim.stream.unwrap_or(false),
            max_tokens: max_tokens(fim.max_tokens, FIM_MAX_TOKENS, FIM_MAX_TOKENS)?,
            user_id: fim.user_id,
            tag: fim.metadata.and_then(|metadata| metadata.request_tag),
            prompt: fim.prompt,
            begun: None,
            prompt_tokens: u32::try_from(text).unwrap_or(u32::MAX),
            thinking: false,
            tool: None,
        })
    }
}

/// DeepSeek's rule of thumb: 0.3 tokens an English character, 0.6 a Chinese one
/// (<https://api-docs.deepseek.com/quick_start/token_usage>).
fn tokens_of(text: &str) -> u64 {
    let tenths: u64 = text.chars().map(|c| if c.is_ascii() { 3 } else { 6 }).sum();
    tenths.div_ceil(10)
}

/// Arguments that a JSON schema's required properties accept.
fn arguments(schema: &Value, prompt: &str) -> Value {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let property = |name: &str| {
        let property = schema.get("properties").and_then(|all| all.get(name));
        let first_of = property.and_then(|p| p.get("enum")?.get(0).cloned());
        first_of.unwrap_or_else(|| match property.and_then(|p| p.get("type")?.as_str()) {
            Some("number" | "integer") => Value::from(1),
            Some("boolean") => Value::from(true),
            Some("array") => Value::Array(Vec::new()),
            Some("object") => Value::Object(serde_json::Map::new()),
            Some("null") => Value::Null,
            _ => Value::String(prompt.chars().take(120).collect()),
        })
    };
    Value::Object(required.map(|name| (name.to_owned(), property(name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_the_real_server_writes_them() {
        for (body, message) in [
            (
                &br#"{"model":"m","messages":[{"role":"developer","content":"x"}]}"#[..],
                "messages[0].role: unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`, `latest_reminder` at line 1 column 44",
            ),
            (b"{\"model\":\"m\"", "EOF while parsing an object at line 1 column 12"),
            (b"{\"model\":\"m\"}", "missing field `messages` at line 1 column 13"),
            (b"", "EOF while parsing a value at line 1 column 0"),
        ] {
            let error = Asked::chat(body).unwrap_err();
            assert_eq!(error, format!("Failed to deserialize the JSON body into the target type: {message}"));
        }
    }

    #[test]
    fn answers_longer_than_the_model_gives_are_refused() {
        for tokens in ["0", "393217", "4294967295"] {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"max_tokens":{tokens}}}"#);
            let error = Asked::chat(body.as_bytes()).unwrap_err();
            assert_eq!(error, "Invalid max_tokens value, the valid range of max_tokens is [1, 393216]");
        }
        assert!(Asked::fim(br#"{"model":"m","prompt":"x","max_tokens":4097}"#).is_err());
    }

    #[test]
    fn thinking_is_on_by_default_and_off_when_asked() {
        let asked = |extra: &str| {
            Asked::chat(format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{extra}}}"#).as_bytes())
        };
        assert!(asked("").unwrap().thinking);
        assert!(!asked(r#","thinking":{"type":"disabled"}"#).unwrap().thinking);
        assert!(!asked(r#","reasoning_effort":"none""#).unwrap().thinking);
        let tools = r#","tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object","properties":{"q":{"type":"string"},"n":{"type":"integer"},"o":{"type":"string"}},"required":["q","n"]}}}]"#;
        let error = asked(&format!(r#"{tools},"tool_choice":"required""#)).unwrap_err();
        assert_eq!(error, "Thinking mode does not support this tool_choice");
        let call = asked(&format!(r#"{tools},"tool_choice":"required","thinking":{{"type":"disabled"}}"#));
        let call = call.unwrap().tool.unwrap();
        assert_eq!(call, ToolCall { name: "look".into(), arguments: r#"{"q":"hi","n":1}"#.into() });
        assert_eq!(asked(tools).unwrap().tool, None);
    }

    #[test]
    fn the_prompt_is_the_last_user_message_whatever_its_form() {
        let asked = Asked::chat(
            r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"你好 "},{"type":"text","text":"there"}]},{"role":"assistant","content":"I be","prefix":true}],"metadata":{"request_tag":"t1"}}"#
                .as_bytes(),
        )
        .unwrap();
        assert_eq!(
            (asked.prompt.as_str(), asked.begun.as_deref(), asked.tag.as_deref()),
            ("你好 there", Some("I be"), Some("t1"))
        );
        // 1 + 3 + 2, rounded up each, and 4 a message.
        assert_eq!(asked.prompt_tokens, 18);
    }
}
