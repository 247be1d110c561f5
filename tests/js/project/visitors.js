// A Worker whose visitors share a client with one permit, each by another way of handing on a stream that takes minutes.
import { Tidegate } from "tidegate";
import { openaiOptions } from "tidegate/openai";
import { STREAMING, ask } from "./suite/support.js";

let client;

const request = () => [`${client.baseURL}/chat/completions`, { method: "POST", body: JSON.stringify(STREAMING) }];
const stream = () => client.chat.completions.create(STREAMING);

/** Of a type that is not compressed, which would hold a slow stream back. */
const streamed = (body) => new Response(body, { headers: { "content-type": "text/event-stream" } });

function events(chunks) {
  const pull = async (out) => {
    const { value, done } = await chunks.next();
    out.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(value ?? null)}\n\n`));
    if (done) out.close();
  };
  return new ReadableStream({ pull });
}

const ways = {
  "/ask": async () => Response.json(await client.chat.completions.create(ask("Say it.", { max_tokens: 1 }))),
  "/fetched": async () => streamed((await client.fetch(...request())).body),
  "/events": async () => streamed(events(await stream())),
  "/sdk": async () => streamed((await openaiOptions(client).fetch(...request())).body),
  "/read-once": async () => Response.json((await (await stream()).next()).done),
  "/not-awaited": async () => {
    void stream().catch(() => {});
    return new Response("begun");
  },
};

export default {
  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    client ??= new Tidegate({ apiKey: "sk-simulated-0123456789", baseURL: searchParams.get("provider"), maxConcurrency: 1 });
    return ways[pathname]();
  },
};
