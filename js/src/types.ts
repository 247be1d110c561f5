/**
 * Requests and answers in the shapes of the `openai` package, with DeepSeek's own fields. Fields that are not named here
 * pass through both ways.
 */

/** Fields of an answer that this version does not know. */
type Open = { [field: string]: unknown };

/**
 * Fields of a request that this version does not know. Were they `unknown`, nothing that is declared as an interface would
 * fit, as all of the `openai` package's own types are. Requests are taken with them, and named without: `Omit` of a type
 * that has any field leaves none.
 */
export type Free = { [field: string]: any };

/** A part of a message's content. */
export type ContentPart =
  | { type: "text"; text: string }
  | { type: "image_url"; image_url: { url: string; detail?: "auto" | "low" | "high" } }
  | (Free & { type: string });

/** A call of a tool that the model asks for. */
export interface ToolCall {
  id: string;
  type: "function";
  function: {
    name: string;
    /** JSON as text; the model may write it wrong. */
    arguments: string;
  };
}

/** A message of a chat. */
export interface ChatMessage extends Free {
  role: "system" | "user" | "assistant" | "tool" | "developer" | "function" | "latest_reminder";
  content?: string | ContentPart[] | null | undefined;
  name?: string | undefined;
  /** DeepSeek: the reasoning of an earlier answer. */
  reasoning_content?: string | null | undefined;
  /** Calls that an earlier answer asked for. */
  tool_calls?: (ToolCall | { id: string; type: "custom"; custom: Free })[] | undefined;
  /** The call that a message of role `tool` answers. */
  tool_call_id?: string | undefined;
  /** DeepSeek (beta): the model goes on from this message, which must be the last. */
  prefix?: boolean | undefined;
}

/** A tool that the model may call. */
export interface Tool {
  type: "function";
  function: {
    name: string;
    description?: string | undefined;
    /** A JSON schema. */
    parameters?: Free | undefined;
    /** DeepSeek (beta): arguments follow the schema strictly. */
    strict?: boolean | null | undefined;
  };
}

/** A tool whose input is free text. Not every provider has them. */
export interface CustomTool {
  type: "custom";
  custom: Free;
}

/** What every chat request can say. */
export interface ChatParamsBase {
  /** The model, such as `deepseek-flash`. */
  model: string;
  messages: ChatMessage[];
  /** DeepSeek: whether the model reasons first. */
  thinking?: { type: "enabled" | "disabled" } | undefined;
  /** How much the model reasons. */
  reasoning_effort?: "none" | "minimal" | "low" | "medium" | "high" | "max" | (string & {}) | null | undefined;
  /** The most tokens to generate. */
  max_tokens?: number | null | undefined;
  /** How much chance has a say: 0 to 2, by default 1. DeepSeek heeds it only where it does not think. */
  temperature?: number | null | undefined;
  /** Only the likeliest tokens that together have this probability: 0 to 1, by default 1. */
  top_p?: number | null | undefined;
  /** How many answers, by default 1. DeepSeek gives one. */
  n?: number | null | undefined;
  /** DeepSeek has given it up: it takes it, without effect. */
  frequency_penalty?: number | null | undefined;
  /** DeepSeek has given it up: it takes it, without effect. */
  presence_penalty?: number | null | undefined;
  /** Texts at which to stop. */
  stop?: string | string[] | null | undefined;
  /** The form of the answer. For `json_object` the prompt must ask for JSON too. */
  response_format?: { type: "text" } | { type: "json_object" } | (Free & { type: string }) | undefined;
  tools?: (Tool | CustomTool)[] | undefined;
  tool_choice?:
    | "none"
    | "auto"
    | "required"
    | { type: "function"; function: { name: string } }
    | (Free & { type: "custom" | "allowed_tools" })
    | undefined;
  /** Whether the answer tells how probable its tokens were. Default false. */
  logprobs?: boolean | null | undefined;
  /** Of how many more tokens at each place it tells that: 0 to 20, with `logprobs`. */
  top_logprobs?: number | null | undefined;
  /** DeepSeek: on whose behalf the call is made. */
  user_id?: string | undefined;
  stream_options?: (Free & { include_usage?: boolean }) | null | undefined;
}

/** A chat request for a whole answer. */
export interface ChatParams extends ChatParamsBase {
  stream?: false | null | undefined;
}

/** A chat request for a streamed answer. */
export interface ChatStreamParams extends ChatParamsBase {
  stream: true;
}

/** The tokens used. */
export interface Usage extends Open {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** DeepSeek: prompt tokens that were in its context cache. */
  prompt_cache_hit_tokens?: number;
  /** DeepSeek: prompt tokens that were not. */
  prompt_cache_miss_tokens?: number;
  prompt_tokens_details?: (Open & { cached_tokens?: number; audio_tokens?: number }) | null;
  completion_tokens_details?:
    | (Open & {
        reasoning_tokens?: number;
        audio_tokens?: number;
        accepted_prediction_tokens?: number;
        rejected_prediction_tokens?: number;
      })
    | null;
}

/**
 * Why generation ended. No answer ends with `insufficient_system_resource`: it is asked for again, or, where content of a
 * stream had come, interrupted.
 */
export type FinishReason = "stop" | "length" | "tool_calls" | "content_filter" | "function_call" | (string & {});

/** The probability of a token. */
export interface TokenLogprob {
  token: string;
  logprob: number;
  bytes: number[] | null;
  top_logprobs?: { token: string; logprob: number; bytes: number[] | null }[];
}

/** The probabilities of the tokens of an answer. */
export interface Logprobs {
  content: TokenLogprob[] | null;
  /** DeepSeek: those of the reasoning. */
  reasoning_content?: TokenLogprob[] | null;
  refusal?: TokenLogprob[] | null;
}

/** The model's message. */
export interface AssistantMessage extends Open {
  role: "assistant";
  content: string | null;
  /** DeepSeek: what the model thought first. */
  reasoning_content?: string | null;
  tool_calls?: ToolCall[];
  refusal?: string | null;
}

/** A chat answer. */
export interface ChatCompletion extends Open {
  id: string;
  object: "chat.completion";
  /** Seconds since 1970. */
  created: number;
  model: string;
  system_fingerprint?: string | null;
  choices: {
    index: number;
    message: AssistantMessage;
    finish_reason: FinishReason;
    logprobs?: Logprobs | null;
  }[];
  usage?: Usage;
  /** The server's id of the request (not enumerable). */
  readonly _request_id?: string | null;
}

/** What a chunk adds to a message. */
export interface Delta extends Open {
  role?: "assistant" | (string & {});
  content?: string | null;
  /** DeepSeek: more reasoning. */
  reasoning_content?: string | null;
  refusal?: string | null;
  tool_calls?: {
    index: number;
    id?: string;
    type?: "function";
    function?: { name?: string; arguments?: string };
  }[];
}

/** One event of a streamed chat answer. */
export interface ChatCompletionChunk extends Open {
  id: string;
  object: "chat.completion.chunk";
  /** Seconds since 1970. */
  created: number;
  model: string;
  system_fingerprint?: string | null;
  choices: {
    index: number;
    delta: Delta;
    finish_reason: FinishReason | null;
    logprobs?: Logprobs | null;
  }[];
  /** DeepSeek sends it with the finish reason, others in a last chunk without choices. */
  usage?: Usage | null;
}

/** What every fill-in-the-middle request can say. */
export interface CompletionParamsBase {
  /** The model, such as `deepseek-flash`. */
  model: string;
  /** What stands before. DeepSeek takes one text; other providers may take several, or tokens. */
  prompt: string | string[] | number[] | number[][] | null;
  /** What stands after. */
  suffix?: string | null | undefined;
  /** The most tokens to generate; DeepSeek takes at most 4,096. */
  max_tokens?: number | null | undefined;
  /** How much chance has a say: 0 to 2, by default 1. */
  temperature?: number | null | undefined;
  /** Only the likeliest tokens that together have this probability: 0 to 1, by default 1. */
  top_p?: number | null | undefined;
  /** How many answers, by default 1. DeepSeek gives one. */
  n?: number | null | undefined;
  stop?: string | string[] | null | undefined;
  echo?: boolean | null | undefined;
  logprobs?: number | null | undefined;
  stream_options?: (Free & { include_usage?: boolean }) | null | undefined;
}

/** A fill-in-the-middle request for a whole answer. */
export interface CompletionParams extends CompletionParamsBase {
  stream?: false | null | undefined;
}

/** A fill-in-the-middle request for a streamed answer. */
export interface CompletionStreamParams extends CompletionParamsBase {
  stream: true;
}

/** A fill-in-the-middle answer, or a chunk of one. */
export interface Completion extends Open {
  id: string;
  object: "text_completion";
  /** Seconds since 1970. */
  created: number;
  model: string;
  choices: {
    index: number;
    text: string;
    finish_reason: FinishReason | null;
    logprobs?: unknown;
  }[];
  usage?: Usage | null;
  readonly _request_id?: string | null;
}

/** A model that a provider offers. */
export interface Model extends Open {
  id: string;
  object: "model";
  owned_by?: string;
}

/** The models that a provider offers. */
export interface ModelList extends Open {
  object: "list";
  data: Model[];
}

/** What is left on an account (DeepSeek). */
export interface Balance extends Open {
  is_available: boolean;
  balance_infos: {
    currency: "USD" | "CNY" | (string & {});
    /** Amounts are decimal numbers as text. */
    total_balance: string;
    granted_balance: string;
    topped_up_balance: string;
  }[];
}
