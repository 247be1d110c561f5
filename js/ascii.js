// Bytes as text for a string literal, in a way that gzip likes.
//
// Base64 costs a quarter more than the bytes after gzip, for a sequence that recurs looks different at each of three
// offsets. Here one byte is one character, or two if it is rare, so that what recurs in the bytes recurs in the text:
// after gzip that costs half a percent, and before it less than base64, too. `pkg-templates/wasm/inline.js` reads it.

/** What stands in a string literal, a template literal and an HTML page as it is. */
export const alphabet = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).filter(
  (character) => !'"\\$`<'.includes(character),
).join("");
/** The last two characters of the alphabet begin a pair. */
const singles = alphabet.length - 2;

/**
 * @param {Uint8Array} bytes
 * @returns {{ order: number[], text: string }} The 256 bytes, the most frequent first, and the text.
 */
export function encode(bytes) {
  const counts = new Array(256).fill(0);
  for (const byte of bytes) counts[byte] += 1;
  const order = [...counts.keys()].sort((a, b) => counts[b] - counts[a] || a - b);
  const codes = [];
  order.forEach((byte, place) => {
    const rare = place - singles;
    const first = rare < 0 ? place : singles + Math.floor(rare / alphabet.length);
    codes[byte] = alphabet[first] + (rare < 0 ? "" : alphabet[rare % alphabet.length]);
  });
  return { order, text: Array.from(bytes, (byte) => codes[byte]).join("") };
}
