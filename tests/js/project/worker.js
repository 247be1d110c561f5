// For runtimes that serve: each request runs the case that its path names, in a context of its own.
import "./suite/globals.js";
import OpenAI from "openai";
import * as tidegate from "tidegate";
import { run } from "./suite/index.js";
import { ask } from "./suite/support.js";
import where from "./where.js";

let shared;

/** One client for all requests, as an application has it. */
async function answerThroughShared(provider) {
  shared ??= new tidegate.Tidegate({ apiKey: "sk-simulated-0123456789", baseURL: provider, maxConcurrency: 1 });
  const answer = await shared.chat.completions.create(ask());
  const { total, inFlight, queued } = shared.metrics();
  return { finished: answer.choices[0].finish_reason, completed: total.completed, attempts: total.attempts, inFlight, queued };
}

export async function respond(request) {
  const { pathname, searchParams } = new URL(request.url);
  const result =
    pathname === "/shared"
      ? await answerThroughShared(searchParams.get("provider"))
      : await run({ tidegate, OpenAI, ...where }, searchParams.get("case"));
  return new Response(JSON.stringify(result), { headers: { "content-type": "application/json" } });
}

export default { fetch: respond };
