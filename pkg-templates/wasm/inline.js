// The compiled core, in the code itself: no file to find, so that bundlers, Deno without permissions and browsers need
// no settings. Synchronous, so that nobody has to wait for an init.
//
// One character is one byte, or two are, if the first is one of the alphabet's last two: gzip makes of it what it would
// make of the bytes, where base64 would cost a quarter more.
const alphabet = "{{core_alphabet}}";
// A bit for each byte that is one character.
const frequent = "{{core_frequent}}";
const text = "{{core_text}}";

export function coreBytes() {
  const places = new Uint8Array(128);
  for (let i = 0; i < alphabet.length; i++) places[alphabet.charCodeAt(i)] = i;
  const singles = alphabet.length - 2;
  const order = [];
  for (const wanted of [1, 0]) {
    for (let byte = 0; byte < 256; byte++) {
      if (((parseInt(frequent[byte >> 2], 16) >> (byte & 3)) & 1) === wanted) order.push(byte);
    }
  }
  const bytes = new Uint8Array({{core_length}});
  for (let i = 0, at = 0; i < bytes.length; i++) {
    let place = places[text.charCodeAt(at++)];
    if (place >= singles) place = singles + (place - singles) * alphabet.length + places[text.charCodeAt(at++)];
    bytes[i] = order[place];
  }
  return bytes;
}

export function coreModule() {
  return new WebAssembly.Module(coreBytes());
}
