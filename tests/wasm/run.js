// Starts the servers, and `cargo test` for wasm32 once for each host.
import { execFileSync, spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { startControl } from "../js/harness/control.js";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(here));
const skip = new Set((process.env.SKIP_RUNTIMES ?? "").split(/[\s,]+/));

const hosts = {
  node: () => ({}),
  chromium: () => {
    const driver = execFileSync(join(root, "tests/setup/browser"), ["chromedriver"], { stdio: ["ignore", "pipe", "inherit"] });
    execFileSync(join(root, "tests/setup/browser"), ["chromium"], { stdio: ["ignore", "ignore", "inherit"] });
    return { WASM_BINDGEN_USE_BROWSER: "1", CHROMEDRIVER: String(driver).trim() };
  },
};

const control = await startControl(join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "debug/tidegate"), () => {});

/** Resolves if the tests pass. */
function run(environment) {
  const target = "wasm32-unknown-unknown";
  const args = [`+${process.env.TIDEGATE_WASM_TOOLCHAIN}`, "test", "--locked", "--target", target, "--no-default-features", "--features", "client"];
  const env = {
    ...process.env,
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: join(here, "runner"),
    // Compiled in: a page has no environment.
    TIDEGATE_TEST_CONTROL: control.url,
    // Seconds for all of them.
    WASM_BINDGEN_TEST_TIMEOUT: "300",
    ...environment,
  };
  const child = spawn("cargo", [...args, "--test", "wasm_client"], { cwd: root, env, stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (data) => {
    said += data;
    process.stdout.write(data);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      // The runner ends without a word, and with 0, where it finds nothing to run.
      const passed = Number(/^test result: ok\. (\d+) passed/m.exec(said)?.[1] ?? 0);
      if (code === 0 && passed > 0) resolve();
      else reject(new Error(`cargo test ended with ${code}, ${passed} passed`));
    });
  });
}

const wanted = process.argv.slice(2);
let failed = 0;
try {
  for (const [name, prepare] of Object.entries(hosts)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    if (skip.has(`wasm-${name}`)) {
      console.log(`skipped  wasm-${name} (SKIP_RUNTIMES)`);
      continue;
    }
    try {
      await run(prepare());
      console.log(`passed   wasm-${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED   wasm-${name}: ${error.message}`);
    }
  }
} finally {
  control.stop();
}
process.exitCode = failed > 0 ? 1 : 0;
