import { Tidegate } from "../client.js";
import { TidegateError, type ErrorType } from "../errors.js";
import { ask, requestId, type Exchange } from "../exchange.js";
import { handed, opening, refusal, submitted } from "../fetch.js";
import { CALL, callOptions, expected, type CallOptions } from "../options.js";
import { Reading, watchDropped } from "../stream.js";

/** How the calls of an SDK are treated, where a call does not say so itself. */
export type AdapterOptions = Pick<CallOptions, keyof typeof ADAPTER>;

const { workload, timeout, clocks, maxAttempts, onFull } = CALL;
const ADAPTER = { workload, timeout, clocks, maxAttempts, onFull };

/** @internal What SDKs take as `fetch`. */
export type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/** @internal The key is the client's affair; SDKs insist on having one. */
export const NO_KEY = "the-key-is-with-tidegate";

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

/**
 * @internal A `fetch` that makes the calls of an SDK, treated like the client's own: what fails before the first content is
 * tried again, and a stream that ends without a finish reason is an error. `failed` makes of an error what this SDK knows.
 */
export function fetchUnder(client: Tidegate, options: AdapterOptions, failed: (error: TidegateError) => Response): Fetch {
  if (!(client instanceof Tidegate)) throw expected("the client", "a Tidegate", client);
  callOptions(options, ADAPTER);
  const gate = Tidegate.gateOf(client);
  return async (input, init) => {
    try {
      const { exchange, path, streams } = await submitted(gate, input, { ...init, tidegate: options });
      if (init?.method !== "POST" || !/\/completions(\?|$)/.test(path)) return handed(await opening(exchange));
      if (!streams) return answered(exchange, JSON.stringify(await ask(exchange)), "application/json");
      return answered(exchange, body(await Reading.start<object>(exchange)), "text/event-stream");
    } catch (error) {
      if (error instanceof TidegateError) return failed(error);
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

/** @internal The error as the answer of a server, if it is one or is like one. */
export function errorAnswer(error: TidegateError): Response | undefined {
  const { type, message, code, headers, body } = error;
  if (headers !== undefined && error.status !== undefined) return refusal(error.status, headers, body ?? "");
  const status = STATUS[type];
  if (status === undefined) return undefined;
  const said = JSON.stringify({ error: { message, type, code: code ?? null, param: null } });
  return refusal(status, new Headers({ "content-type": "application/json" }), said);
}
