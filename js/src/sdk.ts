import type { Gate } from "./driver.js";
import { TidegateError, type ErrorType } from "./errors.js";
import { ask, requestId, type Exchange } from "./exchange.js";
import { handed, opening, refusal, submitted } from "./fetch.js";
import { CALL, callOptions, type CallOptions, type Schema } from "./options.js";
import { Reading, watchDropped } from "./stream.js";
import type { ChatParamsBase, Tool } from "./types.js";

/** How the calls of an SDK are treated, where a call does not say so itself. */
export type AdapterOptions = Pick<CallOptions, "workload" | "timeout" | "clocks" | "maxAttempts" | "onFull">;

const { workload, timeout, clocks, maxAttempts, onFull } = CALL;
const ADAPTER: Record<keyof AdapterOptions, unknown> & Schema = { workload, timeout, clocks, maxAttempts, onFull };

/** @internal What SDKs take as `fetch`. */
export type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/** @internal Makes of an error what an SDK knows: an answer, `like` it if there is one, or an error of its own to be thrown. */
export type Failed = (error: TidegateError, like: Response | undefined) => Response;

/** One of these ends every stream of the Responses API. */
const LAST_EVENT = /"type": ?"(response\.(completed|incomplete|failed)|error)"/;

/** Where no answer of a server's says it, the status by which SDKs know the error. */
const STATUS: Partial<Record<ErrorType, number>> = {
  invalid_request: 400,
  // One whose answer said 200 and had an error in it.
  refused: 400,
  authentication: 401,
  insufficient_balance: 402,
  forbidden: 403,
  no_route: 404,
  queue_full: 429,
  rate_limited: 429,
  server: 500,
  overloaded: 503,
};

/** @internal What a chat request needs of its route. */
export function chatWire(params: Partial<ChatParamsBase> | undefined): { path: string; beta: boolean } {
  const { messages, tools } = params ?? {};
  const continues = Array.isArray(messages) && messages.at(-1)?.prefix === true;
  const isStrict = Array.isArray(tools) && (tools as Partial<Tool>[]).some((tool) => tool?.function?.strict === true);
  return { path: "/chat/completions", beta: continues || isStrict };
}

/**
 * @internal A `fetch` that makes the calls of an SDK, treated like the client's own: what fails before the first content is
 * tried again, and a stream that ends without a finish reason is an error.
 */
export function fetchUnder(gate: Gate, options: AdapterOptions, failed: Failed): Fetch {
  callOptions(options, ADAPTER);
  return async (input, init) => {
    try {
      const { exchange, path, asked } = await submitted(gate, input, init, options);
      const { wire } = exchange;
      const isPost = wire.method === "POST";
      if (!isPost || !/\/completions(\?|$)/.test(path)) {
        const opened = await opening(exchange);
        const isEvents = /event-stream/.test(opened.response.headers.get("content-type") ?? "");
        return handed(opened, isEvents && isPost && /\/responses(\?|$)/.test(path) ? LAST_EVENT : undefined);
      }
      // What DeepSeek has at its beta address alone, as for the client's own calls.
      wire.beta ||= /^\/completions/.test(path) || (path.startsWith("/chat/") && chatWire(asked).beta);
      // Nobody answers a completion from elsewhere.
      Object.assign(wire.init as object, { redirect: "manual" });
      if (asked.stream !== true) return answered(exchange, JSON.stringify(await ask(exchange)), "application/json");
      return answered(exchange, body(await Reading.start<object>(exchange, asked)), "text/event-stream");
    } catch (error) {
      if (error instanceof TidegateError) return failed(error, errorAnswer(error));
      throw error;
    }
  };
}

function answered(exchange: Exchange, body: BodyInit, type: string): Response {
  const headers = new Headers(exchange.headers);
  for (const name of ["content-encoding", "content-length", "transfer-encoding"]) headers.delete(name);
  headers.set("content-type", type);
  const id = requestId(headers);
  if (id !== null) headers.set("x-request-id", id);
  return new Response(body, { headers });
}

/** The events of a stream, without the comments and pings that some SDKs stumble over. */
function body(reading: Reading<object>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { value, done } = await reading.next();
        let events = `data: ${done ? "[DONE]" : JSON.stringify(value)}\n\n`;
        // What came together goes on together.
        for (let more; (more = reading.ready()) !== undefined; ) events += `data: ${JSON.stringify(more)}\n\n`;
        controller.enqueue(encoder.encode(events));
        if (done) controller.close();
      },
      cancel: () => reading.cancel(),
    },
    { highWaterMark: 0 },
  );
  watchDropped(stream, reading);
  return stream;
}

/** The error as the answer of a server, if it is one or is like one. */
function errorAnswer(error: TidegateError): Response | undefined {
  const { type, message, code, headers, body } = error;
  if (headers !== undefined && error.status !== undefined) return refusal(error.status, headers, body ?? "");
  const status = STATUS[type];
  if (status === undefined) return undefined;
  const said = JSON.stringify({ error: { message, type, code: code ?? null, param: null } });
  return refusal(status, new Headers({ "content-type": "application/json" }), said);
}
