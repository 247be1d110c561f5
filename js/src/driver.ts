import { AbortedError, ClosedError, NoRouteError, QueueFullError } from "./errors.js";
import { eventOf } from "./events.js";
import { ACTION, RENAME, learnNames, told, type Report } from "./names.js";
import { span, type CallOptions, type Endpoint, type Settings } from "./options.js";
import { start } from "./wasm/core.js";
import { freeWith, make, outOf, say, wasm, type Core } from "./wasm/glue.js";

/** @internal What happens to an attempt, by the core's numbers. */
export const HEADERS = 1, ALIVE = 2, CONTENT = 3, READING = 4, DELIVERED = 5, RUNS = 6;

/** @internal What a call is told to do, by the core's numbers, and 0 for nothing. */
export const SEND = 1, ABORT = 2, ANSWERED = 3, FAILED = 4;

/** @internal What I/O under way rejects with when the call is to look at its orders. */
export const INTERRUPTED = Symbol("interrupted");

/** The longest time a timer takes. */
const LONGEST = 0x7fffffff;
/** How often a call looks by itself where others can't wake it: at first, and at most. */
const LOOK = 5;
const LOOK_MOST = 200;
/** How often each call shows there that its request lives, and without how many such signs it is over. */
const BEAT = 1000;
const BEATS_MISSED = 5;

type Timer = ReturnType<typeof setTimeout>;

/** One of the core's whole numbers, by its 32 bits: what engines need not allocate, as they do a floating-point number. */
const whole = (number: number | undefined): number => (number as number) | 0;

/**
 * Cloudflare Workers and Vercel's edge tie promises and timers to the request that made them: a waiter woken from another
 * request dies ("code had hung"). There every call looks by its own timer, and nobody wakes anybody.
 */
const isolated = (): boolean => {
  const scope = globalThis as { navigator?: { userAgent?: string }; WebSocketPair?: unknown; EdgeRuntime?: unknown };
  // Before 2022-03-21 Workers have no navigator.
  return scope.navigator?.userAgent === "Cloudflare-Workers" || (scope.WebSocketPair ?? scope.EdgeRuntime) !== undefined;
};

/** @internal Refuses a signal that was aborted before the call. */
export function refuseAborted(signal: AbortSignal | null | undefined): void {
  if (signal?.aborted) {
    throw new AbortedError("Expected `signal` to be still open, got one already aborted", { cause: signal.reason });
  }
}

/**
 * @internal What all calls of a client share: the core, the mailboxes of the calls, and the timer of the core's next wake.
 *
 * No policy is in here. Whatever is done to the core, its actions are put into the mailboxes of the calls they are for,
 * which are plain data; wherever one call may wake another, it does so.
 */
export class Gate {
  readonly core: Core;
  readonly endpoints: Endpoint[];
  readonly fetch: Settings["fetch"];
  readonly countsTokens: boolean;
  readonly isolated = isolated();
  /** Whose bodies are being read. Node's requests, when nobody holds them, take along what aborts their signals. */
  readonly held = new Set<unknown>();
  /** What gives up the questions under way that pass by the queue. Not where those of other requests are out of reach. */
  readonly aside = new Set<AbortController>();
  #isClosed = false;
  readonly #maxQueued: number;
  /** The core's numbers of what it knows. */
  readonly #models = new Map<string, number>();
  readonly #workloads = new Map<string, number>();
  /** By place in the core's table. */
  readonly #calls: (Call | undefined)[] = [];
  readonly #listeners = new Map<string, Set<(event: never) => void>>();
  /** The callers' signals, each with what listens to it for all of its calls: where many do, Node warns of a leak. */
  readonly #signals = new Map<AbortSignal, { calls: Set<Call>; handleEvent(): void }>();
  #live = 0;
  /** When the core must be looked at again at the latest. */
  wake = Infinity;
  /** Where the core puts the parts of an action. */
  #out: Float64Array = new Float64Array();
  /** The host's clock when it was last looked at, and how far ours has come. */
  #seen = NaN;
  #now = 0;
  #timer: Timer | undefined;
  #timerAt = Infinity;
  /** When the calls were last looked through for those whose request is over, and since when that was done without a break. */
  #swept = -Infinity;
  #steady = 0;

  constructor(settings: Settings, core: Core) {
    this.core = core;
    freeWith(this, core);
    this.endpoints = settings.endpoints;
    this.fetch = settings.fetch;
    this.countsTokens = settings.countsTokens;
    this.#maxQueued = settings.maxQueued;
  }

  /**
   * Milliseconds since the first call. Not since the client was made: Workers have no clock before a request comes. A clock
   * that goes back, as where tests put a false one in its place, stands still for a moment: time never does.
   */
  now(): number {
    const seen = performance.now();
    const passed = seen - this.#seen;
    this.#seen = seen;
    if (passed > 0) this.#now += passed;
    return this.#now;
  }

  /** Calls under way. */
  get live(): number {
    return this.#live;
  }

  /** Takes a call in, `call` or a plain one. It is the caller's to drive, by its orders. */
  submit(name: string, options: CallOptions, tokens = 0, userId?: string, call = new Call(this)): Call {
    const { signal, clocks, workload = "normal" } = options;
    refuseAborted(signal);
    const { core } = this;
    // NULs set off what the core tells.
    const sayName = (name: string) => say(core, name.replaceAll("\0", " "));
    let model = this.#models.get(name);
    if (model === undefined) {
      sayName(name);
      model = wasm.core_model(core);
      // Names that nobody serves are not kept: callers may make up any number.
      if (model < 0) throw new NoRouteError(`no route serves the model \`${name}\``);
      this.#models.set(name, model);
    }
    let work = this.#workloads.get(workload);
    if (work === undefined) {
      sayName(workload);
      this.#workloads.set(workload, (work = wasm.core_workload(core)));
    }
    if (userId !== undefined) {
      sayName(userId);
      wasm.core_user(core);
    }
    const now = this.now();
    const place = wasm.core_submit(
      core,
      now,
      model,
      work,
      tokens,
      options.timeout ?? 0,
      span(clocks?.headers),
      span(clocks?.firstContent),
      span(clocks?.idle),
      options.maxAttempts ?? 0,
      options.onFull === "wait",
    );
    if (place < 0) throw this.#refusal(place);
    this.#calls[place] = call;
    call.enter(place, whole(this.#parts()[0]), signal ?? undefined);
    this.#live++;
    this.pump(now);
    return call;
  }

  /** @throws {ClosedError} If it is closed. */
  refuseClosed(): void {
    if (this.#isClosed) throw this.#refusal(-2);
  }

  #refusal(code: number): Error {
    if (code === -2) return new ClosedError("the client is closed");
    const full = `${this.#maxQueued} calls are waiting; send fewer at once, or with \`onFull: "wait"\`, or raise \`maxQueued\``;
    return new QueueFullError(`the queue is full: ${full}`, { isRetryable: true });
  }

  /** Carries out what the core wants done. */
  pump(now = this.now()): void {
    const { core } = this;
    let events: ReturnType<typeof eventOf>[] | undefined;
    for (let action; (this.wake = this.#parts()[5] as number) <= now && (action = wasm.core_poll(core, now)) !== 0; ) {
      if (action === 5) {
        (events ??= []).push(eventOf(told(core, ACTION), this.endpoints));
        continue;
      }
      const out = this.#parts();
      const place = out[0] as number;
      const serial = whole(out[1]);
      const call = this.#calls[place];
      if (call?.serial !== serial) {
        // Nobody is there to use the permit.
        wasm.core_cancel(core, now, place, serial);
        continue;
      }
      if (action === SEND) {
        call.attempt = whole(out[2]);
        call.route = whole(out[3]);
        const rename = out[4] === 0 ? undefined : told(core, RENAME).words[0];
        if (call.rename !== rename) call.rename = rename;
      } else if (action !== ABORT) {
        this.forget(call);
        if (action === FAILED) call.failure = told(core, ACTION);
      }
      call.deliver(action);
    }
    this.#arm(now);
    if (events !== undefined) for (const { type, event } of events) this.#tell(type, event);
  }

  #parts(): Float64Array {
    // A memory that grows leaves its old buffer behind, empty.
    if (this.#out.length === 0) this.#out = outOf(this.core);
    return this.#out;
  }

  /**
   * Gives up the calls whose requests are over, where those are out of reach: a visitor left, or nobody waited for the call.
   * Then its timers are gone, and nothing of it would ever be heard again.
   */
  sweep(now: number): void {
    const passed = now - this.#swept;
    if (passed < BEAT) return;
    this.#swept = now;
    // While everything stood still no call could show that it lives.
    if (passed > 3 * BEAT) this.#steady = now;
    for (const call of this.#calls) {
      if (call !== undefined && now - Math.max(call.beat, this.#steady) > BEATS_MISSED * BEAT) call.lose(now);
    }
  }

  /** Forgets a call that is over. */
  forget(call: Call): void {
    if (call.isOver) return;
    this.#calls[call.place] = undefined;
    this.#live--;
    call.release();
  }

  /** Sets the timer of the core's next wake. It lives only while there are calls, so it keeps no process alive. */
  #arm(now: number): void {
    if (this.isolated) return;
    const at = this.#live === 0 ? Infinity : this.wake;
    // One that rings too early looks again; setting it anew each time would cost more.
    if (at >= this.#timerAt && at !== Infinity) return;
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timerAt = at;
    if (at === Infinity) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#timerAt = Infinity;
        this.pump();
      },
      // Timers cut fractions off, and would ring before the time.
      Math.min(LONGEST, Math.max(0, Math.ceil(at - now))),
    );
  }

  /** Has the call given up when its signal is aborted. */
  heed(call: Call, signal: AbortSignal): void {
    let heeded = this.#signals.get(signal);
    if (heeded === undefined) {
      const calls = new Set<Call>();
      heeded = { calls, handleEvent: () => calls.forEach((call) => call.cancel(signal.reason)) };
      this.#signals.set(signal, heeded);
      signal.addEventListener("abort", heeded);
    }
    heeded.calls.add(call);
  }

  /** Heeds it no more. */
  ignore(call: Call, signal: AbortSignal): void {
    const heeded = this.#signals.get(signal);
    if (heeded === undefined || !heeded.calls.delete(call) || heeded.calls.size > 0) return;
    this.#signals.delete(signal);
    signal.removeEventListener("abort", heeded);
  }

  on(event: string, listener: (event: never) => void): () => void {
    let listeners = this.#listeners.get(event);
    if (listeners === undefined) this.#listeners.set(event, (listeners = new Set()));
    const heard = listeners;
    // One that is added twice hears twice, until each is taken away.
    const own = (event: never) => listener(event);
    heard.add(own);
    wasm.core_set_notices(this.core, true);
    return () => {
      heard.delete(own);
      wasm.core_set_notices(this.core, [...this.#listeners.values()].some(({ size }) => size > 0));
    };
  }

  #tell(type: string, event: object): void {
    // One may add others, which hear of the next event.
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        (listener as (event: object) => void)(event);
      } catch (error) {
        // A listener's fault is its own: it must neither fail a call nor be lost.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }

  /** Stops admissions and ends waiting calls, and after `grace` milliseconds those in flight. */
  async close(grace: number): Promise<void> {
    this.#isClosed = true;
    wasm.core_close(this.core, this.now(), false);
    this.pump();
    const until = this.now() + grace;
    // Looks again and again instead of being told: a client is closed once.
    const isBusy = () => wasm.core_in_flight(this.core) + this.aside.size > 0;
    for (let wait = 1; isBusy() && this.now() < until; wait = Math.min(wait * 2, 50)) {
      await new Promise<void>((resolve) => setTimeout(resolve, Math.min(wait, Math.ceil(until - this.now()))));
    }
    wasm.core_close(this.core, this.now(), true);
    this.pump();
    this.aside.forEach((controller) => controller.abort());
  }
}

/**
 * @internal A call under way. There may be a hundred thousand, and each field is paid for as often: those that are declared
 * come into being when they are needed, which for most calls is never.
 */
export class Call {
  readonly gate: Gate;
  /** Its place among the core's calls, while it has one, and what tells it from others that had the place. */
  place = -1;
  serial = 0;
  /** The last order, which makes those before it void; 0 if it was taken. Once the call was given up, for which reason. */
  #news: number | { reason: unknown } = 0;
  /** What to send: under which number, by which route, and how the model is called there if not as by the caller. */
  attempt = 0;
  route = 0;
  declare rename: string | undefined;
  /** Why it failed, once it has. */
  declare failure: Report | undefined;
  /** The caller's. */
  declare signal: AbortSignal | undefined;
  /** Closes the connection of the attempt under way: its reader may be busy with something else for long. */
  declare disconnect: (() => void) | undefined;
  /** When it looks by itself. */
  declare private timer: Timer | undefined;
  /** Where requests are isolated: when it last showed that its own lives, and what does so. */
  declare beat: number;
  declare private pulse: Timer | undefined;
  #wake: ((call: Call) => void) | undefined;

  constructor(gate: Gate) {
    this.gate = gate;
  }

  /** The core has taken it in. */
  enter(place: number, serial: number, signal: AbortSignal | undefined): void {
    this.place = place;
    this.serial = serial;
    const { gate } = this;
    if (gate.isolated) {
      this.beat = gate.now();
      this.pulse = setInterval(() => {
        // Ended by another request, which can't stop this.
        if (this.isOver) return clearInterval(this.pulse);
        this.beat = gate.now();
        gate.sweep(this.beat);
        gate.pump(this.beat);
      }, BEAT);
    }
    if (signal === undefined) return;
    this.signal = signal;
    gate.heed(this, signal);
  }

  /** Listens to the caller's signal no more. */
  ignoreSignal(): void {
    if (this.signal !== undefined) this.gate.ignore(this, this.signal);
  }

  /** Puts an order into the mailbox. */
  deliver(order: number): void {
    this.#news = order;
    if (this.gate.isolated) return;
    this.#ring();
    if (order === ABORT) this.disconnect?.();
  }

  /** Whether it is over for the core. */
  get isOver(): boolean {
    return this.place < 0;
  }

  /** The call is over for the core. */
  release(): void {
    this.place = -1;
    this.ignoreSignal();
    if (this.pulse !== undefined) clearInterval(this.pulse);
  }

  /** Gives up a call whose request is over. Nothing that is its request's may be touched. */
  lose(now: number): void {
    const { gate } = this;
    wasm.core_cancel(gate.core, now, this.place, this.serial);
    gate.forget(this);
    // Should somebody be there after all.
    this.#news = { reason: new AbortedError("the request that made the call has ended") };
  }

  /** Gives the call up: its permit comes back at once, and whoever drives it gets `reason`. */
  cancel(reason: unknown): void {
    if (this.isOver) return;
    const { gate } = this;
    wasm.core_cancel(gate.core, gate.now(), this.place, this.serial);
    gate.forget(this);
    this.#news = { reason };
    this.#ring();
    this.disconnect?.();
    gate.pump();
  }

  /** What to do next; 0 for nothing. Throws the reason if the call was given up. */
  take(): number {
    const news = this.#news;
    if (typeof news === "object") throw news.reason;
    this.#news = 0;
    return news;
  }

  /** What to do next. Rejects with the reason if the call was given up. */
  async order(): Promise<number> {
    for (;;) {
      const order = this.take();
      if (order !== 0) return order;
      await new Promise<Call>((resolve) => this.watch(resolve));
    }
  }

  /**
   * Waits for `io`, which belongs to the attempt under way. Rejects with `INTERRUPTED` if there is an order instead; what
   * becomes of `io` then is nobody's concern.
   */
  guard<T>(io: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      // What was interrupted may settle much later, when the call waits for something else.
      let waits = this.#news === 0;
      const rest = () => {
        if (waits) this.#rest();
        waits = false;
      };
      io.then(
        (value) => (rest(), resolve(value)),
        (error: unknown) => (rest(), reject(error)),
      );
      if (!waits) return reject(INTERRUPTED);
      this.watch(() => {
        waits = false;
        reject(INTERRUPTED);
      });
    });
  }

  /** Calls `wake` once there is an order, or the call was given up. It must not throw. */
  watch(wake: (call: Call) => void): void {
    this.#wake = wake;
    if (this.#news !== 0) this.#ring();
    else if (this.gate.isolated) this.#look(0);
  }

  #ring(): void {
    const wake = this.#wake;
    this.#rest();
    wake?.(this);
  }

  #rest(): void {
    this.#wake = undefined;
    if (this.timer === undefined) return;
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  /** Looks by its own timer: carries out what is due, and looks into the mailbox. Ever rarer, for most calls just wait. */
  #look(looks: number): void {
    const { gate } = this;
    const due = gate.wake - gate.now();
    const most = Math.min(LOOK_MOST, LOOK * (1 + looks / 4) + gate.live / 10);
    this.timer = setTimeout(
      () => {
        this.timer = undefined;
        if (gate.wake <= gate.now()) gate.pump();
        if (this.#news !== 0) this.#ring();
        else if (this.#wake !== undefined) this.#look(looks + 1);
      },
      Math.max(1, Math.ceil(Math.min(due, most))),
    );
  }

  /** Reports what happened to an attempt. */
  report(attempt: number, event: number): void {
    if (this.isOver) return;
    const now = this.gate.now();
    wasm.core_on(this.gate.core, now, this.place, this.serial, attempt, event);
    this.gate.pump(now);
  }

  /** Reports that an attempt is over, with the outcome last classified. */
  ended(attempt: number, tokens?: Tokens): void {
    if (this.isOver) return;
    const { prompt, cached, completion, reasoning } = tokens ?? { prompt: -1, cached: 0, completion: 0, reasoning: 0 };
    const now = this.gate.now();
    wasm.core_ended(this.gate.core, now, this.place, this.serial, attempt, prompt, cached, completion, reasoning);
    this.gate.pump(now);
  }

  /** Reports that an attempt went well that was no request of ours. */
  succeeded(attempt: number): void {
    if (this.isOver) return;
    const now = this.gate.now();
    wasm.core_succeeded(this.gate.core, now, this.place, this.serial, attempt);
    this.gate.forget(this);
    this.gate.pump(now);
  }

  /** The same for what is not to be tried again, whatever the core would do. */
  settled(attempt: number): void {
    if (this.isOver) return;
    const { core } = this.gate;
    const now = this.gate.now();
    wasm.core_ended(core, now, this.place, this.serial, attempt, -1, 0, 0, 0);
    wasm.core_cancel(core, now, this.place, this.serial);
    this.gate.forget(this);
    this.gate.pump(now);
  }
}

/** @internal The tokens of one answer, for the books. */
export interface Tokens {
  prompt: number;
  cached: number;
  completion: number;
  reasoning: number;
}

/** @internal Makes the core of a client. */
export function makeCore({ numbers, words }: Settings["config"]): Core {
  start();
  const core = make(numbers, words);
  learnNames(core);
  return core;
}
