// A chat for the visitors of a site: `POST /chat` with `{ messages }` streams the answer. The key stays here, what may be
// asked is said here, and all visitors share one queue.
import { Tidegate, TidegateError } from "tidegate";

/** One for all requests, so that what is learned of the limit holds for all. Made by the first: the key comes with it. */
let client;

export default {
  async fetch(request, env) {
    if (request.method !== "POST" || new URL(request.url).pathname !== "/chat") return said(404, "POST /chat");
    const { messages } = await request.json().catch(() => ({}));
    if (!Array.isArray(messages)) return said(400, "expected `messages`");
    try {
      client ??= new Tidegate({ apiKey: env.DEEPSEEK_API_KEY, baseURL: env.DEEPSEEK_BASE_URL });
      const stream = await client.chat.completions.create(
        { model: "deepseek-flash", messages, max_tokens: 800, stream: true },
        // Nobody waits for a chat longer than this. Who closes the page makes room for the next.
        { workload: "interactive", timeout: 60_000, signal: request.signal },
      );
      const headers = { "content-type": "text/event-stream", "cache-control": "no-store" };
      return new Response(events(stream, request.signal), { headers });
    } catch (error) {
      if (request.signal.aborted) return said(499, "the visitor has gone");
      if (!(error instanceof TidegateError)) throw error;
      console.error(error.message);
      // Whose fault it was is told; what the provider said stays here.
      return error.type === "invalid_request" ? said(400, error.message) : said(503, "no answer now; try again later");
    }
  },
};

/** A stream's chunks as server-sent events, in the shape in which they came. */
function events(stream, signal) {
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { value, done } = await stream.next();
        controller.enqueue(encoder.encode(`data: ${done ? "[DONE]" : JSON.stringify(value)}\n\n`));
        if (done) controller.close();
      } catch (error) {
        // Nobody is left to be told.
        if (!signal.aborted) throw error;
      }
    },
    cancel: () => stream.close(),
  });
}

const said = (status, message) => Response.json({ error: { message } }, { status });
