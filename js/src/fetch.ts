import { DELIVERED, INTERRUPTED, type Gate } from "./driver.js";
import { TidegateError, InvalidRequestError } from "./errors.js";
import { AFTER_CONTENT, BEFORE_CONTENT, Exchange, RESET, isBlank, type Opened, type Wire } from "./exchange.js";
import { CALL, callOptions, type CallOptions } from "./options.js";
import { watchDropped } from "./stream.js";

/** What the gate's `fetch` takes beside what every `fetch` does. */
export interface GateInit extends RequestInit {
  /** How the gate is to treat the request. */
  tidegate?: Omit<CallOptions, "signal" | "headers"> & {
    /**
     * The model whose limit the request counts against. Default: the field `model` of a JSON body, else the request's
     * path, which then has a limit of its own.
     */
    model?: string | undefined;
  };
}

/** @internal Sends any request through the gate; see `Tidegate.fetch`. */
export async function limitedFetch(gate: Gate, input: string | URL | Request, init: GateInit = {}): Promise<Response> {
  const { tidegate = {}, ...plain } = init;
  const { model, ...options } = callOptions(tidegate, [...CALL, "model"]) as CallOptions & { model?: string };
  // Firefox would take a stream for its name as a string.
  if (plain.body instanceof ReadableStream) plain.body = await new Response(plain.body).arrayBuffer();
  const request = new Request(input, plain);
  const place = placeOf(gate, request.url);
  // As `fetch` does: with the reason itself.
  request.signal.throwIfAborted();
  // Firefox does not tell whether there is a body, and no browser sends a GET that has an empty one.
  const bytes = new Uint8Array(await request.arrayBuffer());
  const body = bytes.length > 0 ? bytes : undefined;
  const found = asked(body);
  const headers = new Headers(request.headers);
  // No key of one provider may reach another.
  for (const name of ["authorization", "host", "content-length"]) headers.delete(name);
  const wire: Wire = { method: request.method, ...place, headers, body, init: { ...plain, redirect: request.redirect } };
  const subject = {
    model: model ?? found.model ?? place.path,
    userId: found.user_id,
    tokens: gate.countsTokens ? Math.ceil((body?.length ?? 0) / 4) : 0,
  };
  const signal = (init.signal ?? (input instanceof Request ? input.signal : undefined)) || undefined;
  const exchange = new Exchange(gate, gate.submit(subject, { ...options, signal }), wire);
  try {
    const opened = await exchange.turn();
    if (opened === undefined) throw new InvalidRequestError("the answer was lost");
    exchange.call.report(opened.attempt, DELIVERED);
    return handed(opened);
  } catch (error) {
    const refused = error instanceof TidegateError && error.headers !== undefined ? exchange.response : undefined;
    if (refused === undefined) throw error;
    // The server's own answer, as from any `fetch`; it has been asked often enough.
    const headers = new Headers(refused.headers);
    for (const name of ["content-encoding", "content-length", "transfer-encoding"]) headers.delete(name);
    headers.set("x-should-retry", "false");
    const { status } = refused;
    return new Response([204, 205, 304].includes(status) ? null : refused.body, { status, headers });
  }
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
  throw new InvalidRequestError(`Expected a URL under the base URL of a route, got one at \`${new URL(url).host}\``);
}

/** What the core must know of a body. */
function asked(body: Uint8Array | undefined): { model?: string; user_id?: string } {
  try {
    const { model, user_id } = JSON.parse(new TextDecoder().decode(body)) as Record<string, unknown>;
    return {
      ...(typeof model === "string" && model !== "" ? { model } : {}),
      ...(typeof user_id === "string" ? { user_id } : {}),
    };
  } catch {
    return {};
  }
}

/** The answer, which holds its permit until its body has ended, is cancelled or is dropped. */
function handed(opened: Opened): Response {
  const { response, exchange } = opened;
  const { status, statusText, headers } = response;
  const { call } = exchange;
  if (response.body === null) {
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
              if (order.kind === "end") exchange.end(order.failure);
              if (order.kind !== "abort") break;
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
  const copy = new Response(body, { status, statusText, headers });
  for (const name of ["url", "redirected", "type"] as const) Object.defineProperty(copy, name, { value: response[name] });
  return copy;
}

function startsComment(chunk: Uint8Array): boolean {
  return chunk.find((byte) => byte !== 10 && byte !== 13 && byte !== 32) === 58;
}
