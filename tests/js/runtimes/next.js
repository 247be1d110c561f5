import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runServed } from "../harness/served.js";

/** A route handler of a Next application for Vercel's edge, built and started as in production. */
const nextEdge = {
  name: "next-edge",
  suite: {
    serves: true,
    lacks: ["gc", "wake-ups between calls"],
    // Next's own, set while it runs.
    changes: ["fetch", "__incrementalCache"],
  },
  async run(tools) {
    const { project, modules, execute, start } = tools;
    for (const needed of ["next", "react", "react-dom"]) await symlink(join(modules, needed), join(project, "node_modules", needed));
    await mkdir(join(project, "app"));
    await writeFile(join(project, "app/route.js"), 'export const runtime = "edge";\nexport { respond as GET } from "../worker.js";\n');
    // What is linked lies elsewhere.
    await writeFile(join(project, "next.config.js"), 'export default { turbopack: { root: "/" }, outputFileTracingRoot: "/" };\n');
    const program = join(modules, "next/dist/bin/next");
    const env = { NEXT_TELEMETRY_DISABLED: "1", CI: "true", NODE_ENV: "production" };
    await execute(process.execPath, [program, "build"], { env, timeout: 300_000 });
    const args = [program, "start", "--hostname", "127.0.0.1", "--port", "0"];
    const server = await start(process.execPath, args, /Local:\s+(http:\/\/[\w.:]+)/, { env });
    try {
      await runServed(tools, (path) => fetch(server.found[1] + path));
    } finally {
      await server.stop();
    }
    // A rejection that the suite can't see from within.
    const bad = server.said().split("\n").filter((line) => /unhandled/i.test(line));
    if (bad.length > 0) throw new Error(`Next says:\n${bad.join("\n")}`);
  },
};

export default [nextEdge];
