/// <reference lib="esnext.disposable" preserve="true" />
import { ANSWERED, DELIVERED, INTERRUPTED, SEND, type Tokens } from "./driver.js";
import { AbortedError, InvalidRequestError, type Partial } from "./errors.js";
import {
  AFTER_CONTENT,
  BEFORE_CONTENT,
  CLOSED_BEFORE_START,
  CLOSED_MID_STREAM,
  RESET,
  classify,
  excerptless,
  malformed,
  joined,
  requestId,
  tokens,
  tooLarge,
  unix,
  type Exchange,
  type Opened,
} from "./exchange.js";
import { Assembly } from "./final.js";
import { lines } from "./lines.js";
import { EventStream } from "./sse.js";
import type { ChatCompletion, Completion, Usage } from "./types.js";
import { say, wasm } from "./wasm/glue.js";

/**
 * Once every choice has its finish reason, only the usage and `[DONE]` can follow; some servers send neither and keep the
 * connection open.
 */
const AFTER_FINISH = 2000;
/** How much is kept of a body that is no stream of events, to say what it is. */
const STRAY = 64 * 1024;
/** How many characters an event may have. */
const MAX_EVENT = 16 * 2 ** 20;

/** What is read of a chunk, whatever its shape. */
interface Chunk {
  choices?: {
    index?: number;
    text?: string;
    delta?: Record<string, unknown> | null;
    finish_reason?: string | null;
    error?: unknown;
  }[];
  usage?: Usage | null;
  error?: unknown;
}

const filled = (value: unknown): boolean =>
  typeof value === "string" ? value !== "" : typeof value === "object" && value !== null && Object.keys(value).length > 0;

/** What must be filled in a delta for the model to have said something. */
const SAYS = ["content", "reasoning_content", "tool_calls", "refusal", "reasoning", "reasoning_details", "audio", "function_call"];

type Timer = ReturnType<typeof setTimeout>;

/** How many choices a request asks for: so many for each prompt. One that is a list of numbers is a single prompt, in tokens. */
function choicesOf({ n, prompt }: { n?: unknown; prompt?: unknown }): number {
  const prompts = Array.isArray(prompt) && typeof prompt[0] !== "number" ? prompt.length : 1;
  return Math.max(1, typeof n === "number" ? n : 1) * Math.max(1, prompts);
}

/**
 * @internal What reads a stream. It must not know the `Stream` it reads for: that one is in the caller's hand, and when
 * the caller lets it go, this is to be found out.
 */
export class Reading<C> {
  readonly exchange: Exchange;
  #opened: Opened | undefined;
  readonly #parser = new EventStream(MAX_EVENT);
  #ready: C[] = [];
  #taken = 0;
  #stray: Uint8Array[] = [];
  #strayed = 0;
  #events = 0;
  /** The choices that began, and whether each has its finish reason. */
  readonly #choices = new Map<number, boolean>();
  /** How many there will be. */
  readonly #wanted: number;
  #isCancelled = false;
  #hasContent = false;
  #fresh = false;
  #finish: string | undefined;
  #tokens: Tokens | undefined;
  #partial: Partial = { text: "", reasoning: "", usage: undefined };
  /** The attempt was reported to be over. */
  #ended = false;
  #over = false;
  #failure: { error: unknown } | undefined;
  readonly requestId: string | null;

  constructor(exchange: Exchange, opened: Opened, wanted: number) {
    this.exchange = exchange;
    this.#wanted = wanted;
    this.requestId = requestId(opened.response.headers);
    this.#opened = opened;
  }

  /** Makes the call `asked` for; goes on until content has come, or the answer has ended. */
  static async start<C>(exchange: Exchange, asked: { n?: unknown; prompt?: unknown }): Promise<Reading<C>> {
    let answered: Reading<C> | undefined;
    for (;;) {
      const opened = await exchange.turn();
      if (opened === undefined) {
        const reading = answered as Reading<C>;
        reading.#over = true;
        return reading;
      }
      const reading = new Reading<C>(exchange, opened, choicesOf(asked));
      while (!reading.#ended && !reading.#hasContent) await reading.#read();
      if (reading.#ended) answered = reading;
      else {
        exchange.call.report(opened.attempt, DELIVERED);
        return reading;
      }
    }
  }

  async next(): Promise<IteratorResult<C, undefined>> {
    for (;;) {
      // What has ended gives its permit back before its last chunks are handed out.
      if (this.#ended && !this.#over) await this.#close();
      const value = this.ready();
      if (value !== undefined) return { value, done: false };
      if (this.#over) {
        const failure = this.#failure;
        this.#failure = undefined;
        if (failure !== undefined) throw failure.error;
        return { value: undefined, done: true };
      }
      await this.#read();
    }
  }

  /** The next chunk, if it is here already. */
  ready(): C | undefined {
    if (this.#taken === this.#ready.length || (this.#ended && !this.#over)) return undefined;
    const value = this.#ready[this.#taken++];
    if (this.#taken === this.#ready.length) this.#ready.length = this.#taken = 0;
    return value;
  }

  /** Waits for the scheduler's word on the call. */
  async #close(): Promise<void> {
    try {
      for (;;) {
        const order = await this.exchange.call.order();
        // Something was delivered, so there is no second attempt.
        if (order === SEND) this.exchange.call.cancel(undefined);
        if (order < ANSWERED) continue;
        this.exchange.end(this.#partial);
        break;
      }
    } catch (error) {
      this.#failure = { error };
    }
    this.#over = true;
  }

  /** Closes the connection and gives the permit back; what was not read yet is dropped. */
  cancel(): void {
    if (!this.#ended) {
      this.#ended = true;
      this.#stop();
    }
    this.#isCancelled ||= !this.#over || this.#taken < this.#ready.length;
    this.#over = true;
    this.#ready.length = this.#taken = 0;
    this.exchange.call.cancel(undefined);
  }

  /** Lets go of the connection. */
  #stop(): void {
    this.#opened?.close();
    this.#opened = undefined;
  }

  get keepAlives(): number {
    return this.#parser.comments;
  }

  /** Whether it was closed before its end was read. */
  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  /** Whether every choice that was asked for has its finish reason. */
  get #isFinished(): boolean {
    return this.#choices.size >= this.#wanted && ![...this.#choices.values()].includes(false);
  }

  /** Takes the next chunk of bytes, or reports how the attempt ended. */
  async #read(): Promise<void> {
    const opened = this.#opened;
    if (opened === undefined) return;
    let linger: Timer | undefined;
    let lingered = false;
    let bytes: Uint8Array | undefined;
    try {
      opened.awaited();
      let reading = opened.read();
      if (this.#isFinished) {
        const plain = reading;
        reading = new Promise((resolve, reject) => {
          linger = setTimeout(() => {
            lingered = true;
            resolve(undefined);
          }, AFTER_FINISH);
          plain.then(resolve, reject);
        });
      }
      bytes = await reading;
    } catch (error) {
      if (this.#ended) return;
      this.#ended = true;
      // Whoever interrupts has the end of the attempt in the call's orders.
      if (error !== INTERRUPTED) {
        if (this.#isFinished) this.#done(opened);
        else opened.broken(RESET, this.#hasContent ? AFTER_CONTENT : BEFORE_CONTENT, error);
      }
      this.#stop();
      return;
    } finally {
      clearTimeout(linger);
    }
    if (this.#ended) return;
    if (bytes === undefined) {
      this.#ended = true;
      if (lingered) this.#done(opened);
      else this.#atEnd(opened);
      this.#stop();
      return;
    }
    const report = this.#feed(opened, bytes);
    opened.arrived(this.#fresh);
    this.#fresh = false;
    if (report !== undefined && !this.#ended) {
      this.#ended = true;
      report();
      if (this.#opened !== undefined) this.#stop();
    }
  }

  /** Takes what came. If that ends the stream, returns what reports it. */
  #feed(opened: Opened, bytes: Uint8Array): (() => void) | undefined {
    if (this.#events === 0 && this.#strayed < STRAY) {
      this.#stray.push(bytes.slice(0, STRAY - this.#strayed));
      this.#strayed += bytes.length;
    }
    let end: (() => void) | undefined;
    for (const [event, data] of this.#parser.feed(bytes)) {
      end = this.#take(opened, event, data);
      if (end !== undefined) break;
    }
    if (this.#events > 0) this.#stray.length = 0;
    if (end === undefined && this.#parser.overgrown) {
      return () => tooLarge(opened, `an event of the stream is larger than ${MAX_EVENT} characters`);
    }
    return end;
  }

  /** Takes an event. */
  #take(opened: Opened, event: string, data: string): (() => void) | undefined {
    const { gate, call } = this.exchange;
    const { core } = gate;
    const { status, headers, attempt } = opened;
    data = data.trim();
    // Some servers send `event: ping` with data of no meaning.
    if (data === "" || event === "ping") return undefined;
    if (data === "[DONE]") return () => this.#done(opened);
    this.#events++;
    const isError = event === "error";
    let chunk: Chunk | undefined;
    let why = "";
    try {
      const parsed: unknown = JSON.parse(data);
      if (typeof parsed === "object" && parsed !== null) chunk = parsed as Chunk;
      else why = "no object";
    } catch (error) {
      why = excerptless(error);
    }
    const choices = Array.isArray(chunk?.choices) ? chunk.choices : [];
    const bare = choices.length === 0 && chunk?.usage == null;
    if (chunk === undefined || isError || bare || chunk.error != null || choices.some((choice) => choice?.error != null)) {
      say(core, headers, chunk === undefined ? "" : lines(chunk));
      if (chunk !== undefined && wasm.core_error_event(core, status, unix()) !== 0) return () => call.ended(attempt, this.#tokens);
      if (isError || chunk === undefined) {
        say(core, headers);
        wasm.core_finished(core, status, unix());
        const start = data.slice(0, 200);
        malformed(core, isError ? start : `an event is not JSON (${why}): ${start}`, isError);
        return () => call.ended(attempt, this.#tokens);
      }
    }
    this.#note(chunk, choices);
    this.#ready.push(chunk as C);
    return undefined;
  }

  /** Keeps what must be known of a chunk. */
  #note(chunk: Chunk, choices: NonNullable<Chunk["choices"]>): void {
    const partial = this.#partial;
    if (chunk.usage != null) {
      this.#tokens = tokens(chunk.usage);
      partial.usage = chunk.usage;
    }
    for (const choice of choices) {
      if (typeof choice !== "object" || choice === null) continue;
      const index = choice.index ?? 0;
      // Some servers have an empty one in every chunk.
      if (choice.finish_reason) this.#finish = choice.finish_reason;
      this.#choices.set(index, Boolean(choice.finish_reason) || this.#choices.get(index) === true);
      const { delta, text } = choice;
      if (filled(text) || (delta != null && SAYS.some((field) => filled(delta[field])))) this.#hasContent = this.#fresh = true;
      if (index !== 0) continue;
      const said = delta?.content ?? text;
      const thought = delta?.reasoning_content ?? delta?.reasoning;
      if (typeof said === "string") partial.text += said;
      if (typeof thought === "string") partial.reasoning += thought;
    }
  }

  /** A stream that came to its end as it should. */
  #done(opened: Opened): void {
    const { gate, call } = this.exchange;
    if (this.#events > 0) return opened.finished(this.#finish, this.#tokens);
    // `[DONE]` alone is an empty answer, as from a server that has nothing to give.
    say(gate.core, opened.headers);
    wasm.core_blank(gate.core, opened.status, unix());
    call.ended(opened.attempt);
  }

  /** A body that ended without `[DONE]`. */
  #atEnd(opened: Opened): void {
    const { gate, call } = this.exchange;
    const isDone = this.#parser.finish()?.trim() === "[DONE]";
    if (this.#isFinished || (isDone && this.#events > 0)) return this.#done(opened);
    if (this.#events > 0) {
      return this.#hasContent
        ? opened.broken(CLOSED_MID_STREAM, AFTER_CONTENT)
        : opened.broken(CLOSED_BEFORE_START, BEFORE_CONTENT);
    }
    if (this.keepAlives > 0) return opened.broken(CLOSED_BEFORE_START, BEFORE_CONTENT);
    const { core } = gate;
    if (classify(core, opened.status, opened.headers, new TextDecoder().decode(joined(this.#stray))).kind === 0) {
      malformed(core, "expected a stream of events, got one JSON document");
    }
    call.ended(opened.attempt);
  }
}

/** Notices streams that nobody holds any more, where the host can. */
const dropped =
  typeof FinalizationRegistry === "undefined"
    ? undefined
    : new FinalizationRegistry<{ cancel(): void }>((reading) => reading.cancel());

/** @internal Has `reading` cancelled once nobody holds `held`. */
export function watchDropped(held: object, reading: { cancel(): void }): void {
  dropped?.register(held, reading);
}

/**
 * A streamed answer: `for await (const chunk of stream)`.
 *
 * It ends only if the answer is whole: a finish reason or `[DONE]` came. Otherwise it throws a `StreamInterruptedError`,
 * whose `partial` has what came; nothing is silently asked for again once the stream was handed out.
 *
 * It holds its permit until the answer has ended. Leaving the loop closes the connection and gives the permit back, and so
 * does letting go of a stream that was never read, once the host notices. While nobody reads, nothing is read from the
 * connection; a server that waits for a slow reader is not taken for stalled.
 */
export class Stream<C> implements AsyncIterableIterator<C> {
  readonly #reading: Reading<C>;
  #busy: Promise<unknown> | undefined;

  /** @internal */
  constructor(reading: Reading<C>) {
    this.#reading = reading;
    watchDropped(this, reading);
  }

  /** How many keep-alives (comments) came so far: the server has the request, and nothing to say yet. */
  get keepAlives(): number {
    return this.#reading.keepAlives;
  }

  /** The server's id of the request, for its support. */
  get requestId(): string | null {
    return this.#reading.requestId;
  }

  /**
   * The next chunk.
   *
   * @throws {TidegateError} `StreamInterruptedError` if the answer broke off, `DeadlineError` or `ClosedError` if it was
   * ended; the signal's reason if the call was given up. Nothing follows it.
   */
  next(): Promise<IteratorResult<C, undefined>> {
    // One after the other, for callers that ask for several at once.
    const busy = this.#busy;
    const next = busy === undefined ? this.#reading.next() : busy.then(() => this.#reading.next());
    const settled = next.then(
      () => {},
      () => {},
    );
    this.#busy = settled;
    void settled.then(() => {
      if (this.#busy === settled) this.#busy = undefined;
    });
    return next;
  }

  /**
   * Reads the stream to its end and puts the chunks together, in the shape of an answer that is not streamed: reasoning,
   * tool calls and usage included. What was read before is not in it.
   *
   * @param onChunk Is called with every chunk as it comes.
   * @throws {TidegateError} As {@link next}; an `AbortedError` if the stream is closed before its end, an
   * `InvalidRequestError` if it was read to its end already.
   */
  async finalCompletion(onChunk?: (chunk: C) => void): Promise<C extends Completion ? Completion : ChatCompletion> {
    const assembly = new Assembly();
    let count = 0;
    for await (const chunk of this) {
      count++;
      assembly.add(chunk as object);
      onChunk?.(chunk);
    }
    if (this.#reading.isCancelled) throw new AbortedError("the stream was closed before its end");
    if (count === 0) throw new InvalidRequestError("Expected the stream to be unread, got one read to its end");
    return assembly.finish() as never;
  }

  /** Closes the connection and gives the permit back. `break` in a `for await` does the same. */
  close(): void {
    this.#reading.cancel();
  }

  /** @internal What `break` calls. */
  return(): Promise<IteratorResult<C, undefined>> {
    this.close();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The same as `close`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }
}
