import { InvalidRequestError } from "./errors.js";
import { expected } from "./options.js";

type Body = Record<string, unknown>;

const isObject = (value: unknown): value is Body => typeof value === "object" && value !== null;
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

/**
 * @internal Refuses what a server would certainly refuse, before anything is sent; fields that are not known pass. Limits
 * of DeepSeek's (https://api-docs.deepseek.com/api/create-chat-completion) hold only where every route is DeepSeek's, for
 * other providers may accept more.
 *
 * @throws {InvalidRequestError}
 */
export function validate(params: Body, isChat: boolean, deepseek: boolean): void {
  const check = (ok: boolean, field: string, kind: string, got: unknown) => {
    if (!ok) throw expected(`\`${field}\``, kind, got);
  };
  const number = (field: string, low: number, high: number) => {
    const value = params[field];
    if (value == null) return;
    check(Number.isFinite(value), field, "a finite number", value);
    if (!deepseek) return;
    const kind = high === Infinity ? `at least ${low}` : `between ${low} and ${high}`;
    check((value as number) >= low && (value as number) <= high, field, kind, value);
  };
  const { model, stream, messages } = params;
  check(typeof model === "string" && model.trim() !== "", "model", "a non-empty string", model);
  check(stream == null || typeof stream === "boolean", "stream", "a boolean", stream);
  if (isChat) check(list(messages).length > 0, "messages", "an array of at least one message", messages);
  else {
    const { prompt } = params;
    check(typeof prompt === "string" || (!deepseek && (prompt === null || Array.isArray(prompt))), "prompt", "a string", prompt);
  }
  list(messages).forEach((message, at) => {
    const field = `messages[${at}]`;
    if (!isObject(message)) throw expected(`\`${field}\``, "an object", message);
    const { role, tool_call_id, prefix } = message;
    check(typeof role === "string", `${field}.role`, "a string", role);
    if (!deepseek) return;
    check(role !== "developer", `${field}.role`, '"system" with DeepSeek', role);
    check(role !== "tool" || tool_call_id != null, `${field}.tool_call_id`, "the id of the call it answers", tool_call_id);
    check(prefix !== true || at + 1 === list(messages).length, `${field}.prefix`, "set on the last message only", prefix);
  });
  number("temperature", 0, 2);
  number("top_p", 0, 1);
  number("frequency_penalty", -Infinity, Infinity);
  number("presence_penalty", -Infinity, Infinity);
  number("max_tokens", 1, Infinity);
  number(isChat ? "top_logprobs" : "logprobs", 0, 20);
  if (!deepseek) return;
  const { stop, tools, tool_choice, thinking, logprobs, user_id } = params;
  check(list(stop).length <= 16, "stop", "at most 16 texts", list(stop).length);
  check(list(tools).length <= 128, "tools", "at most 128 tools", list(tools).length);
  list(tools).forEach((tool, at) => {
    const { function: named } = (tool ?? {}) as { function?: { name?: unknown } | null };
    // A tool of another type than function is not ours to judge.
    if (!isObject(named)) return;
    const ok = typeof named.name === "string" && /^[\w-]{1,128}$/.test(named.name);
    check(ok, `tools[${at}].function.name`, "1 to 128 of letters, digits, `_` and `-`", named.name);
  });
  const isThinking = isObject(thinking) && thinking.type === "enabled";
  const isForced = tool_choice === "required" || isObject(tool_choice);
  check(!(isThinking && isForced), "tool_choice", '"none" or "auto" while thinking', tool_choice);
  check(params.top_logprobs == null || logprobs === true, "logprobs", "true where `top_logprobs` is set", logprobs);
  check(params.stream_options == null || stream === true, "stream_options", "set only where `stream` is true", params.stream_options);
  const bytes = typeof user_id === "string" ? new TextEncoder().encode(user_id).length : 0;
  if (bytes > 512) throw new InvalidRequestError(`Expected \`user_id\` to be at most 512 bytes, got ${bytes}`);
}
