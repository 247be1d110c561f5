/**
 * @internal Reads one stream of server-sent events by the WHATWG standard: bytes in, events out; `id` and `retry` are of no
 * use here. Not in the core, for it decides nothing, and the host decodes UTF-8 and cuts lines with less code and quicker.
 *
 * Work is linear in what is fed, however it is cut.
 */
export class EventStream {
  /** It leaves out a byte order mark at the start, and replaces what is no UTF-8. */
  readonly #decoder = new TextDecoder();
  readonly #most: number;
  /** The line begun in earlier chunks. */
  #begun = "";
  /** The last chunk ended with CR: an LF that comes next belongs to it. */
  #afterCr = false;
  #event = "";
  /** The values of the pending event's `data` fields, joined by line feeds. */
  #data: string | undefined;
  /** Comments so far: servers send them to prove that a connection lives. */
  comments = 0;
  /** Whether an event or a line outgrew the limit: the stream can't be read on. */
  overgrown = false;

  /** @param most How many characters an event may have, with the line being read. */
  constructor(most: number) {
    this.#most = most;
  }

  /** The events that `chunk` completes, each its type and its data. */
  feed(chunk: Uint8Array): [event: string, data: string][] {
    const events: [string, string][] = [];
    const text = this.#decoder.decode(chunk, { stream: true });
    if (text === "") return events;
    const lines = (this.#afterCr && text.startsWith("\n") ? text.slice(1) : text).split(/\r\n?|\n/);
    this.#afterCr = text.endsWith("\r");
    const last = lines.length - 1;
    for (let at = 0; at <= last && !this.overgrown; at++) {
      this.#begun += lines[at];
      this.overgrown = this.#begun.length + (this.#data?.length ?? 0) + this.#event.length > this.#most;
      if (at === last || this.overgrown) break;
      const line = this.#begun;
      this.#begun = "";
      if (line.startsWith(":")) this.comments++;
      else if (line !== "") this.#take(line);
      else {
        if (this.#data !== undefined) events.push([this.#event || "message", this.#data]);
        this.#event = "";
        this.#data = undefined;
      }
    }
    return events;
  }

  /** Ends the stream. Returns the data of an event that lacks its blank line. */
  finish(): string | undefined {
    this.#take(this.#begun + this.#decoder.decode());
    return this.#data;
  }

  #take(line: string): void {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`;
    else if (field === "event") this.#event = value;
  }
}
