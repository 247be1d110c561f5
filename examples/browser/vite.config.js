// The page asks `/provider`, which goes on from here to the provider, with the key: a key does not belong in a page.
//
//   npm start                                  the simulated provider of this repository (needs Rust)
//   DEEPSEEK_API_KEY=sk-… npm start            DeepSeek
//   PROVIDER=http://127.0.0.1:8787 npm start   another, or a simulated provider that runs already
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const { DEEPSEEK_API_KEY: key, PROVIDER } = process.env;

/** Starts the simulated provider; resolves to its address. */
function simulator() {
  const args = ["run", "--locked", "--quiet", "--features", "cli", "--bin", "tidegate", "--", "sim", "--listen", "127.0.0.1:0"];
  const child = spawn("cargo", args, { cwd: fileURLToPath(new URL("../..", import.meta.url)), stdio: ["ignore", "ignore", "pipe"] });
  process.on("exit", () => child.kill());
  console.log("starting the simulated provider; the first time it has to be compiled");
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => reject(new Error(`the simulated provider ended with ${code}`)));
    createInterface(child.stderr).on("line", (line) => {
      const found = /https?:\/\/127\.0\.0\.1:\d+/.exec(line);
      if (found) resolve(found[0]);
    });
  });
}

export default defineConfig(async ({ command }) => {
  if (command !== "serve") return {};
  const target = PROVIDER ?? (key ? "https://api.deepseek.com" : await simulator());
  const headers = { authorization: `Bearer ${key ?? "sk-simulated"}` };
  return {
    server: {
      proxy: { "^/provider/": { target, headers, changeOrigin: true, rewrite: (path) => path.slice("/provider".length) } },
    },
  };
});
