// What the cases ask for their servers, and tell how they went, over HTTP from whatever runtime they run in.
import { createServer } from "node:http";
import { bodyOf, listen, openToAll, scripted } from "./scripted.js";
import { simulators } from "./simulators.js";

/**
 * Starts it. `told(runtime, result)` is called with everything a runtime reports.
 *
 * - `POST /simulators`: a simulated provider for a scenario. `POST /servers`: a scripted one. Both give an id and a URL;
 *   `DELETE` ends them.
 * - `GET /servers/ID`: the requests it has seen.
 * - `POST /results/RUNTIME`: the result of a case.
 */
export async function startControl(program, told) {
  const pool = simulators(program);
  const lent = new Map();
  const servers = new Map();
  let last = 0;

  const kinds = {
    simulators: {
      async POST(_, scenario) {
        const id = String(++last);
        lent.set(id, await pool.lend(scenario));
        return { id, url: lent.get(id) };
      },
      DELETE(id) {
        if (lent.has(id)) pool.takeBack(lent.get(id));
        lent.delete(id);
      },
    },
    servers: {
      async POST(_, answers) {
        const id = String(++last);
        servers.set(id, await scripted(answers));
        return { id, url: servers.get(id).url };
      },
      GET: (id) => servers.get(id).requests,
      DELETE(id) {
        servers.get(id)?.stop();
        servers.delete(id);
      },
    },
    results: { POST: (runtime, result) => told(runtime, result) },
  };

  const server = createServer(async (request, response) => {
    if (request.method === "OPTIONS") return response.writeHead(204, openToAll).end();
    const [kind, id] = request.url.slice(1).split("/");
    try {
      const body = await bodyOf(request);
      const answer = await kinds[kind][request.method](id, body === "" ? undefined : JSON.parse(body));
      response.writeHead(200, openToAll).end(answer === undefined ? "" : JSON.stringify(answer));
    } catch (error) {
      response.writeHead(500, openToAll).end(String(error?.stack ?? error));
    }
  });
  // A connection that is closed for idleness the moment it is used again would be no fault of the package.
  server.keepAliveTimeout = 0;
  return {
    url: await listen(server),
    simulators: pool,
    stop() {
      pool.stop();
      for (const { stop } of servers.values()) stop();
      server.closeAllConnections();
      server.close();
    },
  };
}
