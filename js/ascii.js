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
 * @returns {{ frequent: string, text: string }} Which bytes are one character, a bit for each of the 256, as hexadecimal
 *   digits whose lowest bits come first, and the text. Either kind is numbered in the order of the bytes.
 */
export function encode(bytes) {
  const counts = new Array(256).fill(0);
  for (const byte of bytes) counts[byte] += 1;
  const ranked = [...counts.keys()].sort((a, b) => counts[b] - counts[a] || a - b);
  const isFrequent = new Array(256).fill(0);
  for (const byte of ranked.slice(0, singles)) isFrequent[byte] = 1;
  const codes = [];
  let [single, pair] = [0, 0];
  for (let byte = 0; byte < 256; byte++) {
    if (isFrequent[byte]) codes[byte] = alphabet[single++];
    else codes[byte] = alphabet[singles + Math.floor(pair / alphabet.length)] + alphabet[pair++ % alphabet.length];
  }
  let frequent = "";
  for (let byte = 0; byte < 256; byte += 4) {
    frequent += isFrequent.slice(byte, byte + 4).reduce((digit, bit, at) => digit + (bit << at), 0).toString(16);
  }
  return { frequent, text: Array.from(bytes, (byte) => codes[byte]).join("") };
}
