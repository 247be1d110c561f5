import { ABORT, ANSWERED, DELIVERED, INTERRUPTED, type Gate } from "./driver.js";
import { TidegateError, InvalidRequestError } from "./errors.js";
import { AFTER_CONTENT, BEFORE_CONTENT, CLOSED_MID_STREAM, Exchange, RESET, isKeepAlive, unlessAborted, type Opened, type Wire } from "./exchange.js";
import { CALL, callOptions, text, type CallOptions, type Endpoint } from "./options.js";
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
    return refusal(refused.status, refused.headers, refused.body, refused.url);
  }
}

/** @internal Submits a request as the call it is, treated as `how` says, if not as `init` does. */
export async function submitted(gate: Gate, input: string | URL | Request, init?: GateInit, how?: GateInit["tidegate"]): Promise<Submitted> {
  // What it says stands on its prototype.
  if (init instanceof Request) [input, init] = [new Request(input, init), undefined];
  const { tidegate = {}, ...plain } = init ?? {};
  // Read by ourselves: Firefox would take it for its name as a string.
  const stream = plain.body instanceof ReadableStream ? plain.body : undefined;
  if (stream !== undefined) plain.body = new Uint8Array();
  // It must not follow the signal: that would keep a listener until the request is collected.
  const request = new Request(input, { ...plain, signal: null });
  const headers = new Headers(request.headers);
  const given: NonNullable<GateInit["tidegate"]> & Pick<CallOptions, "signal"> = { ...(how ?? tidegate) };
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
  // Where what it is made of may never end, by a reader of our own, that hears of an abort.
  const source = (stream ?? (typeof plain.body === "string" ? undefined : request.body))?.getReader();
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
  const found = asked(bytes);
  // As text, where it is: Node can't send bytes again after a redirect.
  const body = bytes.length === 0 ? undefined : headers.has("content-type") ? (found.text ?? bytes) : bytes;
  // No key of one provider may reach another.
  for (const name of ["authorization", "host", "content-length", WORKLOAD, TIMEOUT]) headers.delete(name);
  const wire: Wire = { method: request.method, ...place, headers, body, init: { ...plain, redirect: request.redirect } };
  const tokens = gate.countsTokens ? Math.ceil(bytes.length / 4) : 0;
  const { model: named, user_id } = found.json ?? {};
  const name = model ?? (filled(named) ? named : place.path.replace(/(.[^/?#]*).*/, "$1"));
  const call = gate.submit(name, options, tokens, typeof user_id === "string" ? user_id : undefined);
  return { exchange: new Exchange(gate, call, wire), path: place.path, asked: found.json ?? {} };
}

/** @internal A request under way. */
export interface Submitted {
  exchange: Exchange;
  /** Below the base URL. */
  path: string;
  /** Its body, if that is JSON. */
  asked: Record<string, unknown>;
}

/** @internal Goes on until a 2xx head comes. */
export async function opening(exchange: Exchange): Promise<Opened> {
  const opened = await exchange.turn();
  // Only a whole answer ends a call without an error, and none was read.
  if (opened === undefined) throw new InvalidRequestError("the answer was lost");
  return opened;
}

/** @internal A server's own answer that refuses, as from any `fetch`. It has been asked often enough. */
export function refusal(status: number, given: Headers, body: string, url?: string): Response {
  // A redirect that a browser shows to nobody.
  if (status === 0) return Response.error();
  const headers = new Headers(given);
  for (const name of ["content-encoding", "content-length", "transfer-encoding"]) headers.delete(name);
  headers.set("x-should-retry", "false");
  return alike(new Response([204, 205, 304].includes(status) ? null : body, { status, headers }), { url });
}

const filled = (value: unknown): value is string => typeof value === "string" && value !== "";

/** Where below which base a URL lies. */
function placeOf(gate: Gate, url: string): { path: string; beta: boolean; home: Endpoint } {
  const below = (base: string) => {
    const rest = url.startsWith(base) ? url.slice(base.length) : "";
    return rest.startsWith("/") ? rest : undefined;
  };
  // The beta base may lie below the base.
  for (const home of gate.endpoints) {
    const path = home.beta === home.base ? undefined : below(home.beta);
    if (path !== undefined) return { path, beta: true, home };
  }
  for (const home of gate.endpoints) {
    const path = below(home.base);
    if (path !== undefined) return { path, beta: false, home };
  }
  const { host, pathname } = new URL(url);
  throw new InvalidRequestError(`Expected a URL under the base URL of a route, got one at \`${host}${pathname}\``);
}

/** A body as text and as JSON, if it is. */
function asked(body: Uint8Array): { text?: string; json?: Record<string, unknown> } {
  let text: string | undefined;
  try {
    // Not what a text can't give back: a mark of the byte order, bytes that are no UTF-8.
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
    const json: unknown = JSON.parse(text);
    return typeof json === "object" && json !== null ? { text, json: json as Record<string, unknown> } : { text };
  } catch {
    return text === undefined ? {} : { text };
  }
}

/**
 * @internal The answer, which holds its permit until its body has ended, is cancelled or is dropped. Where `end` is given, a
 * body in whose last characters it never stood has broken off.
 */
export function handed(opened: Opened, end?: RegExp): Response {
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
  let failure: { error: unknown } | undefined;
  let last = "";
  let isWhole = end === undefined;
  /** The next chunk. At the end, or if it breaks, the permit comes back at once, whether or not somebody waits for more. */
  const read = async (): Promise<Uint8Array | undefined> => {
    try {
      const chunk = await opened.read();
      if (over || chunk !== undefined) return chunk;
      over = true;
      if (isWhole) opened.finished(undefined, undefined);
      else opened.broken(CLOSED_MID_STREAM, phase);
    } catch (error) {
      if (over) return undefined;
      over = true;
      opened.close();
      if (error !== INTERRUPTED) opened.broken(RESET, phase, error);
      failure = { error };
    }
    if (isWhole && failure === undefined) return undefined;
    try {
      // Something was handed over, so that the call ends here, one way or the other.
      for (;;) {
        const order = await call.order();
        if (order >= ANSWERED) exchange.end();
        if (order !== ABORT) break;
      }
    } catch (error) {
      failure = { error };
    }
    return undefined;
  };
  /** Whoever reads events stops at the last of them, so the end must be found without being asked for. */
  let ahead: Promise<Uint8Array | undefined> | undefined;
  let isCancelled = false;
  const reading = {
    cancel() {
      isCancelled = true;
      if (over) return;
      over = true;
      opened.close();
      call.cancel(undefined);
    },
  };
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (!over) opened.awaited();
        const chunk = await (ahead ?? read());
        ahead = undefined;
        if (isCancelled) return;
        if (chunk === undefined) return failure === undefined ? controller.close() : controller.error(failure.error);
        const content = !isKeepAlive(chunk, true);
        if (content) phase = AFTER_CONTENT;
        if (!isWhole) {
          last = last.slice(-100) + new TextDecoder("latin1").decode(chunk);
          isWhole = (end as RegExp).test(last);
        }
        if (!over) opened.arrived(content);
        controller.enqueue(chunk);
        // Without a word of the controller, which would keep a stream that nobody holds.
        if (!over) ahead = read();
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
    return alike(new Response(body, { status, statusText, headers }), response);
  } catch (error) {
    // A `fetch` of somebody's own may answer with what no `Response` can be, such as a body where there must be none.
    reading.cancel();
    throw error;
  }
}

/** A response that says what only the host can make one say, and so do its clones. */
function alike(copy: Response, like: { [name in "url" | "redirected" | "type"]?: Response[name] | undefined }): Response {
  for (const name of ["url", "redirected", "type"] as const) {
    if (like[name] !== undefined) Object.defineProperty(copy, name, { value: like[name] });
  }
  const clone = () => alike(Response.prototype.clone.call(copy), like);
  return Object.defineProperty(copy, "clone", { value: clone });
}
