type Fields = Record<string, unknown>;

/** What is sent whole, and by some servers again with every chunk. */
const WHOLE = ["role", "id", "type", "name", "format", "channel", "status", "signature"];

/** Puts `from` into `into`; texts are joined where they are pieces. */
function add(into: Fields, from: object, pieces: boolean): void {
  for (const [key, value] of Object.entries(from) as [string, unknown][]) {
    const old = into[key];
    if (key === "__proto__") continue;
    if (value === null || value === undefined) into[key] = old ?? null;
    else if (Array.isArray(value)) into[key] = addItems(Array.isArray(old) ? old : [], value, pieces, key);
    else if (typeof value === "object") {
      const inner = typeof old === "object" && old !== null ? old : {};
      add((into[key] = inner as Fields), value, pieces || key === "delta");
    } else if (typeof value === "string" && typeof old === "string" && (key === "text" || (pieces && !WHOLE.includes(key)))) {
      into[key] = old + value;
    } else if (value !== "" || old == null) into[key] = value;
  }
}

/** Items with an `index` are the same ones again, others are new. A choice without one is the first. */
function addItems(into: unknown[], from: unknown[], pieces: boolean, of: string): unknown[] {
  for (let item of from) {
    if (of === "choices" && typeof item === "object" && item !== null) item = { ...item, index: (item as Fields).index ?? 0 };
    const index: unknown = (item as Fields | null)?.index;
    if (typeof index !== "number") {
      into.push(item);
      continue;
    }
    let known = into.find((other) => (other as Fields | null)?.index === index) as Fields | undefined;
    if (known === undefined) into.push((known = {}));
    add(known, item as object, pieces);
  }
  return into;
}

/** @internal Puts the chunks of a streamed answer together, in the shape it has when it is not streamed. */
export class Assembly {
  readonly #whole: Fields = {};

  add(chunk: object): void {
    add(this.#whole, chunk, false);
  }

  finish(): Fields {
    const whole = this.#whole;
    if (typeof whole.object === "string") whole.object = whole.object.replace(".chunk", "");
    // Some servers send what is none.
    const byIndex = (a: Fields, b: Fields) => Number(a.index) - Number(b.index);
    const choices = (Array.isArray(whole.choices) ? whole.choices : []).filter(Boolean) as Fields[];
    choices.sort(byIndex);
    whole.choices = choices.map(({ index, delta, ...rest }) => {
      if (delta === undefined) return { index, ...rest };
      const message: Fields = { role: "assistant", content: null, ...(delta as Fields) };
      const calls = message.tool_calls;
      if (Array.isArray(calls)) message.tool_calls = (calls as Fields[]).sort(byIndex).map(({ index: _, ...call }: Fields) => call);
      return { index, message, ...rest };
    });
    return whole;
  }
}
