// Puts the npm package together: `node js/build.js FOLDER`, with what wasm-pack left in FOLDER. `make npm` runs it.
//
// Everything published is one of: wasm-pack's output after wasm-opt, js/src after tsc, or a whole file of
// pkg-templates with its placeholders filled in. Generated text is never searched and replaced.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { alphabet, encode } from "./ascii.js";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const generated = resolve(process.argv[2] ?? fail("which folder did wasm-pack write to?"));
const out = join(root, "pkg");
const tools = join(root, "js/node_modules/.bin");
const scratch = join(root, ".cache/npm");

function fail(message) {
  throw new Error(`js/build.js: ${message}`);
}

function run(command, ...args) {
  execFileSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
}

/** What wasm-bindgen's own JavaScript would call. Without them, what they stand for goes too. */
const UNUSED = ["__abort_handler", "__instance_terminated", "__wbindgen_externrefs", "__wbindgen_realloc", "__wbindgen_start"];
/**
 * For size after gzip: what is written out again where it is called is larger than a call, unless it is tiny; what recurs is
 * smaller than one that is kept in a local; runs of zeros cost nothing; control flow found anew is smaller than what the
 * compiler left; and Rust keeps the lowest kilobyte of memory, the far end of its stack, free. How loads are aligned, and the
 * names and features that producers note down, serve no host.
 */
const OPTIMISE = [
  ...UNUSED.map((name) => `--remove-exports=${name}`),
  "--generate-global-effects",
  "--low-memory-unused",
  "--skip-pass=local-cse",
  "--skip-pass=memory-packing",
  "--always-inline-max-function-size=4",
  "--flatten",
  "--rereloop",
  "-Oz",
  "-Oz",
  "--one-caller-inline-max-function-size=0",
  "--converge",
  "--dealign",
  "--strip-producers",
  "--strip-target-features",
];

/** wasm-opt takes its time, so what it made of the same bytes is kept. */
function optimised(wasm) {
  const sum = createHash("sha256").update(readFileSync(wasm)).update(readFileSync(join(root, "js/package-lock.json")));
  sum.update(OPTIMISE.join());
  const kept = join(scratch, `${sum.digest("hex")}.wasm`);
  if (!existsSync(kept)) {
    for (const old of readdirSync(scratch)) if (old.endsWith(".wasm")) rmSync(join(scratch, old));
    run(join(tools, "wasm-opt"), ...OPTIMISE, wasm, "-o", `${kept}.part`);
    copyFileSync(`${kept}.part`, kept);
    rmSync(`${kept}.part`);
  }
  return readFileSync(kept);
}

/** `[package]` of Cargo.toml, which is where the version and the like are kept. */
function crate() {
  const args = ["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"];
  const metadata = JSON.parse(execFileSync("cargo", args, { cwd: root, maxBuffer: 1 << 26 }));
  return metadata.packages.find(({ name }) => name === "tidegate");
}

function fill(template, values) {
  const text = readFileSync(join(root, "pkg-templates", template), "utf8");
  return text.replaceAll(/\{\{(\w+)\}\}/g, (placeholder, name) =>
    Object.hasOwn(values, name) ? values[name] : fail(`${template} has an unknown placeholder ${placeholder}`),
  );
}

mkdirSync(scratch, { recursive: true });
rmSync(out, { recursive: true, force: true });
run(join(tools, "tsc"), "--project", "js", "--outDir", join(out, "dist"));

const wasm = optimised(join(generated, "core_bg.wasm"));
for (const path of [root, homedir()]) {
  if (wasm.includes(path)) fail(`the core holds a path of this machine, ${path}: nobody else could build the same bytes`);
}

const { version, description, license, repository } = crate();
const { frequent, text } = encode(wasm);
const core = { core_alphabet: alphabet, core_frequent: frequent, core_text: text, core_length: wasm.length };
const values = { version, description, license, repository, ...core };
for (const file of ["package.json", "README.md"]) writeFileSync(join(out, file), fill(file, values));
for (const file of ["CHANGELOG.md", "LICENSE", "LICENSE-APACHE", "LICENSE-MIT"]) {
  copyFileSync(join(root, file), join(out, file));
}

const loaders = join(out, "dist/wasm");
writeFileSync(join(loaders, "core.wasm"), wasm);
for (const file of ["inline.js", "workerd.js", "edge-light.js", "core.wasm.d.ts"]) {
  writeFileSync(join(loaders, file), fill(`wasm/${file}`, values));
}

// What `glue.ts` gives the core is private to wasm-bindgen's code: better no package than one that fails where it runs.
for (const { module, name, kind } of WebAssembly.Module.imports(new WebAssembly.Module(wasm))) {
  const known = kind === "function" && /^__wbg___wbindgen_throw_/.test(name);
  if (module !== "./core_bg.js" || !known) fail(`the core wants ${name} of ${module}: look at js/src/wasm/glue.ts`);
}

// Each of these breaks a bundler or a runtime, or `require`.
const forbidden = [/\bimport\.meta\b/, /^await\b/m, /\bimport\s*\(/, /\bfrom\s+"(node:)?fs"/];
for (const file of readdirSync(join(out, "dist"), { recursive: true })) {
  if (!file.endsWith(".js")) continue;
  const code = readFileSync(join(out, "dist", file), "utf8").replaceAll(/^\s*(\/\/|\/?\*).*$/gm, "");
  for (const pattern of forbidden) if (pattern.test(code)) fail(`dist/${file} has ${pattern}`);
}
