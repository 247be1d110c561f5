import { ABORT, ANSWERED, DELIVERED, INTERRUPTED, type Gate } from "./driver.js";
import { TidegateError, InvalidRequestError } from "./errors.js";
import { AFTER_CONTENT, BEFORE_CONTENT, Exchange, RESET, isBlank, unlessAborted, type Opened, type Wire } from "./exchange.js";
import { CALL, callOptions, text, type CallOptions } from "./options.js";
import { watchDropped } from "./stream.js";

/** What the gate's `fetch` takes beside what every `fetch` does. */
export interface GateInit extends RequestInit {
  /** How the gate is to treat the request. */
  tidegate?: Omit<CallOptions, "signal" | "headers"> & {
    /**
     * The model whose limit the request counts against. Default: the field `model` of a JSON body; else what the request's
     * path begins with below the base URL (`/files`), which then has a limit of its own.
     */
    model?: string | undefined;
  };
}

const FETCH = { ...CALL, model: text };

/** Headers with which an SDK that only hands on headers says how one call is to be treated. They are never sent. */
const WORKLOAD = "tidegate-workload";
const TIMEOUT = "tidegate-timeout";

/** @internal Sends any request through the gate; see `Tidegate.fetch`. */
export async function limitedFetch(gate: Gate, input: string | URL | Request, init?: GateInit): Promise<Response> {
  const { exchange } = await submitted(gate, input, init);
  try {
    return handed(await opening(exchange));
  } catch (error) {
    const refused = error instanceof TidegateError && error.headers !== undefined ? exchange.response : undefined;
    if (refused === undefined) throw error;
    return refusal(refused.status, refused.headers, refused.body);
  }
}

/** @internal Submits a request as the call it is. */
export async function submitted(gate: Gate, input: string | URL | Request, init?: GateInit): Promise<Submitted> {
  const { tidegate = {}, ...plain } = init ?? {};
  // Read by ourselves: Firefox would take it for its name as a string.
  const stream = plain.body instanceof ReadableStream ? plain.body : undefined;
  if (stream !== undefined) plain.body = new Uint8Array();
  const request = new Request(input, plain);
  const headers = new Headers(request.headers);
  const given: NonNullable<GateInit["tidegate"]> & Pick<CallOptions, "signal"> = { ...tidegate };
  const workload = headers.get(WORKLOAD);
  const timeout = headers.get(TIMEOUT);
  if (workload !== null) given.workload = workload;
  if (timeout !== null) given.timeout = Number(timeout);
  if (input instanceof Request) {
    // Of itself: what Firefox makes of it loses some. A `null` beside it does away with its signal.
    if (plain.signal === undefined) plain.signal = input.signal;
    for (const name of ["cache", "credentials", "keepalive", "mode"] as const) plain[name] ??= input[name] as never;
  }
  const signal = (given.signal = plain.signal);
  const { model, ...options } = callOptions(given, FETCH) as typeof given;
  const place = placeOf(gate, request.url);
  const source = stream?.getReader();
  const pull = async (out: ReadableStreamDefaultController) => {
    const { value, done } = await (source as ReadableStreamDefaultReader).read();
    if (done) out.close();
    else out.enqueue(value);
  };
  const whole = source === undefined ? request : new Response(new ReadableStream({ pull }));
  gate.held.add(input);
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    // Firefox does not tell whether there is a body, and no browser sends a GET that has an empty one.
    bytes = new Uint8Array(await unlessAborted(signal, whole.arrayBuffer()));
  } catch (error) {
    // Not through a pipe: workerd's would not tell the source.
    source?.cancel(error).catch(() => {});
    throw error;
  } finally {
    gate.held.delete(input);
  }
  const body = bytes.length > 0 ? bytes : undefined;
  const found = asked(body);
  // No key of one provider may reach another.
  for (const name of ["authorization", "host", "content-length", WORKLOAD, TIMEOUT]) headers.delete(name);
  const wire: Wire = { method: request.method, ...place, headers, body, init: { ...plain, redirect: request.redirect } };
  const tokens = gate.countsTokens ? Math.ceil((body?.length ?? 0) / 4) : 0;
  const call = gate.submit(model ?? found.model ?? place.path.replace(/(.[^/?#]*).*/, "$1"), options, tokens, found.user_id);
  return { exchange: new Exchange(gate, call, wire), path: place.path, streams: found.streams === true };
}

/** @internal A request under way. */
export interface Submitted {
  exchange: Exchange;
  /** Below the base URL. */
  path: string;
  /** Whether it asks for a stream. */
  streams: boolean;
}

/** @internal Goes on until a 2xx head comes. */
export async function opening(exchange: Exchange): Promise<Opened> {
  const opened = await exchange.turn();
  // Only a whole answer ends a call without an error, and none was read.
  if (opened === undefined) throw new InvalidRequestError("the answer was lost");
  return opened;
}

/** @internal A server's own answer that refuses, as from any `fetch`. It has been asked often enough. */
export function refusal(status: number, given: Headers, body: string): Response {
  // A redirect that a browser shows to nobody.
  if (status === 0) return Response.error();
  const headers = new Headers(given);
  for (const name of ["content-encoding", "content-length", "transfer-encoding"]) headers.delete(name);
  headers.set("x-should-retry", "false");
  return new Response([204, 205, 304].includes(status) ? null : body, { status, headers });
}

/** Where below which base a URL lies. */
function placeOf(gate: Gate, url: string): { path: string; beta: boolean } {
  const below = (base: string) => {
    const rest = url.startsWith(base) ? url.slice(base.length) : "";
    return rest.startsWith("/") ? rest : undefined;
  };
  // The beta base may lie below the base.
  for (const { base, beta } of gate.endpoints) {
    const path = beta === base ? undefined : below(beta);
    if (path !== undefined) return { path, beta: true };
  }
  for (const { base } of gate.endpoints) {
    const path = below(base);
    if (path !== undefined) return { path, beta: false };
  }
  const { host, pathname } = new URL(url);
  throw new InvalidRequestError(`Expected a URL under the base URL of a route, got one at \`${host}${pathname}\``);
}

/** What must be known of a body. */
function asked(body: Uint8Array | undefined): { model?: string; user_id?: string; streams?: boolean } {
  try {
    const { model, user_id, stream } = JSON.parse(new TextDecoder().decode(body)) as Record<string, unknown>;
    return {
      ...(typeof model === "string" && model !== "" ? { model } : {}),
      ...(typeof user_id === "string" ? { user_id } : {}),
      streams: stream === true,
    };
  } catch {
    return {};
  }
}

/** @internal The answer, which holds its permit until its body has ended, is cancelled or is dropped. */
export function handed(opened: Opened): Response {
  opened.exchange.call.report(opened.attempt, DELIVERED);
  const { response, exchange } = opened;
  const { status, statusText, headers } = response;
  const { call } = exchange;
  if (!response.body) {
    opened.finished(undefined, undefined);
    return response;
  }
  let phase = BEFORE_CONTENT;
  let over = false;
  const reading = {
    cancel() {
      if (over) return;
      over = true;
      opened.close();
      call.cancel(undefined);
    },
  };
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        let chunk: Uint8Array | undefined;
        try {
          chunk = await opened.read();
        } catch (error) {
          if (over) return;
          over = true;
          opened.close();
          if (error !== INTERRUPTED) opened.broken(RESET, phase, error);
          try {
            // Something was handed over, so that the call ends here, one way or the other.
            for (;;) {
              const order = await call.order();
              if (order >= ANSWERED) exchange.end();
              if (order !== ABORT) break;
            }
            controller.error(error);
          } catch (reason) {
            controller.error(reason);
          }
          return;
        }
        if (over) return;
        if (chunk === undefined) {
          over = true;
          opened.finished(undefined, undefined);
          controller.close();
          return;
        }
        // A blank chunk, or one that begins as a comment of an event stream does, is a keep-alive.
        const content = !isBlank(chunk) && !startsComment(chunk);
        if (content) phase = AFTER_CONTENT;
        opened.arrived(content);
        controller.enqueue(chunk);
      },
      cancel: () => reading.cancel(),
    },
    // Nothing is read before somebody asks for it.
    { highWaterMark: 0 },
  );
  // Chromium collects the object of a stream that is still being read, where that object has nothing of its own, and
  // makes another when it is asked for; its reader would wait for ever.
  Object.defineProperty(body, Symbol("tidegate"), { value: true });
  watchDropped(body, reading);
  try {
    const copy = new Response(body, { status, statusText, headers });
    for (const name of ["url", "redirected", "type"] as const) Object.defineProperty(copy, name, { value: response[name] });
    return copy;
  } catch (error) {
    // A `fetch` of somebody's own may answer with what no `Response` can be, such as a body where there must be none.
    reading.cancel();
    throw error;
  }
}

function startsComment(chunk: Uint8Array): boolean {
  return chunk.find((byte) => byte !== 10 && byte !== 13 && byte !== 32) === 58;
}
