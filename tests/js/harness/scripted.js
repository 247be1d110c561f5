// Servers that answer as they are told, for what no honest provider does: cut streams, garbage, silence.
import { createServer } from "node:http";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

/** Pages of any origin may ask, and read everything. */
export const openToAll = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "*",
  "access-control-allow-headers": "*, authorization",
  "access-control-allow-methods": "*",
  "access-control-max-age": "600",
};

export async function listen(server) {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${server.address().port}`;
}

export async function bodyOf(message) {
  let body = "";
  for await (const chunk of message.setEncoding("utf8")) body += chunk;
  return body;
}

/**
 * Starts a server that gives one of `answers` to each request, in turn, the last again and again:
 *
 * - `status` (200), `headers`;
 * - `wait`: milliseconds before the head; `head: false`: says nothing at all;
 * - `body`: text, or a list of texts to write, numbers of milliseconds to wait, `{ echo }` for something of the request
 *   (`authorization`, `body`), and `{ repeat, every }` for a text to write every so many milliseconds;
 * - `pieces`: the body in pieces of so many bytes, within characters too;
 * - `end`: `"whole"`, or `"open"` for a connection that stays, or `"broken"` for one that breaks off.
 */
export async function scripted(answers) {
  const requests = [];
  const server = createServer(async (request, response) => {
    if (request.method === "OPTIONS") return response.writeHead(204, openToAll).end();
    const { method, url, headers } = request;
    const seen = { method, url, authorization: headers.authorization, headers: Object.keys(headers), at: performance.now(), closed: false };
    requests.push(seen);
    response.on("close", () => (seen.closed = true));
    response.on("error", () => {});
    const { status = 200, headers: more, wait = 0, head = true, body = [], pieces, end = "whole" } = answers[Math.min(requests.length, answers.length) - 1];
    try {
      seen.body = await bodyOf(request);
      await sleep(wait);
      if (head) {
        response.writeHead(status, { ...openToAll, ...more });
        response.flushHeaders();
        for (const part of typeof body === "string" ? [body] : body) await write(response, part, seen, pieces);
        if (end === "whole") response.end();
      }
      if (end === "broken") request.socket.destroy();
    } catch {
      // Whoever asked has gone.
    }
  });
  const url = await listen(server);
  return { url, requests, stop: () => (server.closeAllConnections(), server.close()) };
}

async function write(response, part, seen, pieces) {
  if (typeof part === "number") return sleep(part);
  if (typeof part === "object" && part.repeat !== undefined) {
    for (; !response.closed; await sleep(part.every)) response.write(part.repeat);
    return;
  }
  const bytes = Buffer.from(typeof part === "string" ? part : String(seen[part.echo]));
  const step = pieces ?? Math.max(1, bytes.length);
  for (let at = 0; at < bytes.length; at += step) {
    response.write(bytes.subarray(at, at + step));
    if (pieces !== undefined) await sleep(1);
  }
}
