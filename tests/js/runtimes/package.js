// The package itself: its size, its metadata, its types.
import { cp, readFile, readdir, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const kB = (bytes) => `${(bytes / 1000).toFixed(1)} kB`;

/** The files of a folder and what is in them. */
async function contents(folder) {
  const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort();
  return new Map(await Promise.all(paths.map(async (path) => [path.slice(folder.length + 1), await readFile(path)])));
}

/** All of the package, bundled and minified, with the `.wasm` file beside it if there is one. */
async function size(project, conditions) {
  const { outputFiles } = await build({
    absWorkingDir: project,
    stdin: { contents: 'export * from "tidegate";', resolveDir: project },
    bundle: true,
    minify: true,
    format: "esm",
    conditions,
    loader: { ".wasm": "copy" },
    outdir: "sized",
    write: false,
    logLevel: "error",
  });
  return outputFiles.reduce((sum, { contents }) => sum + gzipSync(contents, { level: 9 }).length, 0);
}

/** The types that people's compilers read, as strictly as can be. */
function types(name, options) {
  return {
    name,
    async run({ project, execute, bin, modules }) {
      const common = { strict: true, noEmit: true, target: "ES2022", lib: ["ES2022", "DOM"], skipLibCheck: false };
      const compilerOptions = { ...common, exactOptionalPropertyTypes: true, typeRoots: [join(modules, "@types")], ...options };
      await writeFile(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["types.ts"] }));
      await execute(join(bin, "tsc"), ["--project", "."]);
    },
  };
}

export default [
  {
    name: "size",
    async run({ project }) {
      // What was measured, rounded up, so that nothing grows unseen. The aim is 60 and 45 kB, and it is out of reach of this
      // design: all decisions are the core's, in one body of Rust, and compiled for size they come to 55 kB (of that the
      // scheduler with what of the limit is inlined in it 54 %, reading what servers say 18, the rest of the limit 6, the
      // library code under them 11, the bindings 4, words 7), beside 19.5 kB of JavaScript. Before JSON, number formatting
      // and the standard library left the core it was 184 and 182.
      const budgets = [
        ["inline", [], 76_400],
        ["Workers", ["workerd"], 75_500],
      ];
      const sizes = await Promise.all(budgets.map(([, conditions]) => size(project, conditions)));
      const wasm = gzipSync(await readFile(join(project, "node_modules/tidegate/dist/wasm/core.wasm")), { level: 9 });
      const said = [
        ...budgets.map(([name, , budget], i) => `${name} ${kB(sizes[i])} of ${kB(budget)}`),
        `the core alone ${kB(wasm.length)}`,
      ].join(", ");
      if (budgets.some(([, , budget], i) => sizes[i] > budget)) throw new Error(`too large, minified and gzipped: ${said}`);
      return said;
    },
  },
  {
    name: "inline-core",
    async run({ project }) {
      const folder = join(project, "node_modules/tidegate/dist/wasm");
      const { coreBytes } = await import(join(folder, "inline.js"));
      const bytes = await readFile(join(folder, "core.wasm"));
      if (!bytes.equals(coreBytes())) throw new Error("the core in the code is not the one in core.wasm");
      const text = await readFile(join(folder, "inline.js"));
      const [spent, needed] = [text, bytes].map((content) => gzipSync(content, { level: 9 }).length);
      if (spent > needed * 1.05) throw new Error(`as text it costs ${kB(spent)} gzipped instead of ${kB(needed)}`);
      return `${kB(spent)} gzipped as text, ${kB(needed)} as bytes`;
    },
  },
  {
    // Built again from nothing, in a folder of another name, every file has the same bytes.
    name: "reproducible",
    async run({ project, root, execute }) {
      const elsewhere = join(project, "another-checkout");
      const listed = await execute("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: root });
      for (const file of listed.split("\0").filter((file) => file && existsSync(join(root, file)))) {
        await cp(join(root, file), join(elsewhere, file));
      }
      // Not what an outer make handed down, nor a target folder that already holds the answer.
      const env = { MAKEFLAGS: "", MAKELEVEL: "", CARGO_TARGET_DIR: join(elsewhere, "target") };
      await execute("make", ["npm"], { cwd: elsewhere, env, timeout: 600_000 });
      const [first, second] = await Promise.all([contents(join(root, "pkg")), contents(join(elsewhere, "pkg"))]);
      const differing = [...new Set([...first.keys(), ...second.keys()])].filter(
        (file) => !first.has(file) || !second.has(file) || !first.get(file).equals(second.get(file)),
      );
      if (differing.length > 0) throw new Error(`two builds differ in ${differing.join(", ")}`);
      return `${first.size} files`;
    },
  },
  {
    name: "publint",
    async run({ execute, bin, tarball }) {
      await execute(join(bin, "publint"), ["run", tarball, "--strict"]);
    },
  },
  {
    name: "attw",
    async run({ execute, bin, tarball }) {
      await execute(join(bin, "attw"), [tarball, "--profile", "esm-only", "--no-color"]);
    },
  },
  types("types-nodenext", { module: "nodenext", types: [] }),
  types("types-nodenext-node", { module: "nodenext", types: ["node"] }),
  // A server's project has not heard of the DOM.
  types("types-node-only", { module: "nodenext", lib: ["ES2022"], types: ["node"] }),
  types("types-bundler", { module: "esnext", moduleResolution: "bundler", types: [] }),
  types("types-bundler-node", { module: "esnext", moduleResolution: "bundler", types: ["node"] }),
];
