// For runtimes that serve: each request runs the case that it names, in a context of its own.
import "./suite/globals.js";
import OpenAI from "openai";
import * as tidegate from "tidegate";
import { openaiOptions } from "tidegate/openai";
import { run } from "./suite/index.js";
import { ask } from "./suite/support.js";
import where from "./where.js";

let shared;

/** One client for all requests, as an application has it. */
async function answerThroughShared(provider, stream) {
  shared ??= new tidegate.Tidegate({ apiKey: "sk-simulated-0123456789", baseURL: provider, maxConcurrency: 1 });
  const answer = await shared.chat.completions.create(ask("Say something.", { stream }));
  let finished = stream ? undefined : answer.choices[0].finish_reason;
  if (stream) for await (const { choices } of answer) finished = choices[0]?.finish_reason ?? finished;
  return { finished, completed: shared.metrics().total.completed };
}

export async function respond(request) {
  const { searchParams } = new URL(request.url);
  const [name, provider] = [searchParams.get("case"), searchParams.get("provider")];
  const result =
    provider === null
      ? await run({ tidegate, OpenAI, openaiOptions, ...where }, name)
      : await answerThroughShared(provider, searchParams.get("stream") === "true");
  return new Response(JSON.stringify(result), { headers: { "content-type": "application/json" } });
}

export default { fetch: respond };
