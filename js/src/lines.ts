/** Deeper, longer and more than this is never where an error says what it is. */
const DEPTH = 10;
const TEXT = 4096;
const ITEMS = 256;

const line = (text: string): string => text.slice(0, TEXT).replace(/[\0-\x1f]/g, " ") + "\n";

/** @internal A JSON document as the core reads it: see src/core/json.rs. */
export function lines(value: unknown, depth = DEPTH): string {
  if (typeof value === "string") {
    if (/^\s*[[{]/.test(value) && depth > 1) {
      try {
        const inner = lines(JSON.parse(value), depth - 1);
        return `~${line(value)}${inner}`;
      } catch {
        // It only begins like JSON.
      }
    }
    return `"${line(value)}`;
  }
  if (typeof value !== "object" || value === null || depth <= 1) return typeof value === "object" ? "null\n" : `${String(value)}\n`;
  if (Array.isArray(value)) return `[\n${value.slice(0, ITEMS).map((item) => lines(item, depth - 1)).join("")}]\n`;
  const fields = Object.entries(value).map(([key, field]) => `:${line(key)}${lines(field, depth - 1)}`);
  return `{\n${fields.join("")}}\n`;
}
