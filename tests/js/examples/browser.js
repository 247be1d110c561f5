// The page of examples/browser as its README starts it, in Chromium, against a simulated provider.
import assert from "node:assert/strict";
import { cp, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";
import { freePort, simulate, start } from "./processes.js";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** `vite`, as `npm start` runs it, with this provider. */
async function serve({ project, modules }, provider) {
  const args = [join(modules, "vite/bin/vite.js"), "--host", "127.0.0.1", "--port", String(await freePort()), "--strictPort"];
  return start(process.execPath, args, { cwd: join(project, "browser"), env: { PROVIDER: provider } });
}

/** How much of the chart has which colour of the page. */
function pixels(page) {
  return page.evaluate(() => {
    const canvas = document.getElementById("chart");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const style = getComputedStyle(document.documentElement);
    const rgb = (name) => style.getPropertyValue(`--${name}`).trim().match(/[0-9a-f]{2}/gi).map((hex) => parseInt(hex, 16));
    const [sea, deep, ink, cap, rejected] = ["sea", "deep", "ink", "cap", "rejected"].map(rgb);
    const near = (at, [r, g, b]) => Math.abs(data[at] - r) + Math.abs(data[at + 1] - g) + Math.abs(data[at + 2] - b) < 24;
    // The water is somewhere between its two colours.
    const share = (at, from, to) => from.every((start, i) => data[at + i] >= Math.min(start, to[i]) - 3 && data[at + i] <= Math.max(start, to[i]) + 3);
    const found = { water: 0, limit: 0, cap: 0, drops: 0 };
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + 3] < 200) continue;
      if (share(at, sea, deep)) found.water++;
      if (near(at, ink)) found.limit++;
      if (near(at, cap)) found.cap++;
      if (near(at, rejected)) found.drops++;
    }
    return { ...found, all: canvas.width * canvas.height };
  });
}

export async function browserExample(tools) {
  const { project, modules, root, program } = tools;
  await cp(join(root, "examples/browser"), join(project, "browser"), { recursive: true, filter: (file) => !file.endsWith("node_modules") });
  await symlink(join(modules, "vite"), join(project, "node_modules/vite"));
  const executablePath = (await tools.execute(join(root, "tests/setup/browser"), ["chromium"])).trim();
  const profile = await mkdtemp(join(tmpdir(), "tidegate-chromium-"));
  const sim = await simulate(program);
  const [site, dead] = [await serve(tools, sim.url), await serve(tools, `http://127.0.0.1:${await freePort()}`)];
  const defaultViewport = { width: 1200, height: 900 };
  const browser = await puppeteer.launch({ executablePath, headless: true, args: FLAGS, userDataDir: profile, defaultViewport });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(30_000);
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    const text = (id) => page.$eval(`#${id}`, ({ textContent }) => textContent);
    const count = (state) => page.$$eval(`#tiles [data-state="${state}"]`, ({ length }) => length);
    /** Writes into a field what a person would. */
    const fill = (id, value) => page.$eval(`#${id}`, (field, value) => ((field.value = value), field.dispatchEvent(new Event("input"))), value);
    await page.goto(site.url);
    await page.waitForSelector("body[data-ready]");
    assert.match(await text("provider"), /^connected: .*deepseek-flash/);
    assert.match(await text("tiles"), /Nothing sent yet/);
    assert.deepEqual(await pixels(page).then(({ water, drops }) => [water, drops]), [0, 0], "an empty chart has no water");

    await fill("prompts", " \n ");
    assert.equal(await page.$eval("#go", ({ disabled }) => disabled), true);
    assert.match(await text("hint"), /Write a prompt/);
    const asked = Array.from({ length: 8 }, (_, i) => `Question number ${i}?`);
    await fill("prompts", asked.join("\n"));
    await fill("copies", "15");
    assert.match(await text("hint"), /^120 requests/);
    await page.click("#go");
    await page.waitForFunction(() => document.querySelectorAll('[data-state="answering"]').length > 8);
    assert.ok(Number(await text("waiting")) > 20, "most wait");
    await page.click("#ask button");
    await page.waitForFunction(() => /^after [\d.]+ s: ./.test(document.getElementById("reply").textContent));
    assert.ok(Number(await text("waiting")) > 0, "who asks first is answered before those that wait");
    await page.click("#tiles button:nth-child(9)");
    await page.waitForFunction(() => document.getElementById("detail-state").textContent === "answered");
    assert.equal(await text("detail-prompt"), asked[0]);
    assert.ok((await text("detail-text")).includes(asked[0]), "the simulated provider quotes what it was asked");

    await page.waitForFunction(() => Number(document.getElementById("answered").textContent) === 120, { timeout: 90_000 });
    const said = await page.evaluate(() => Object.fromEntries(["waiting", "flight", "lost", "limit", "cap", "rejected"].map((id) => [id, document.getElementById(id).textContent])));
    assert.deepEqual([said.waiting, said.flight, said.lost], ["0", "0", "0"]);
    const { slot = 0 } = (await sim.tally()).rejected;
    assert.equal(Number.parseInt(said.rejected), slot, "the page counts the 429s that the provider counts");
    assert.ok(Number(said.limit) > 0 && Number(said.cap) > 0);
    const drawn = await pixels(page);
    assert.ok(drawn.water > drawn.all / 50 && drawn.limit > 200 && drawn.cap > 10, JSON.stringify(drawn));
    assert.equal(drawn.drops > 20, slot > 0, `drops for 429s: ${JSON.stringify(drawn)}`);
    assert.equal(await count("done"), 120);
    const shot = await page.screenshot();
    assert.ok(shot.length > 40_000, `a screenshot of ${shot.length} bytes`);

    await page.click("#go");
    await page.waitForSelector("#stop", { visible: true });
    await page.click("#stop");
    await page.waitForFunction(() => document.getElementById("waiting").textContent === "0" && document.getElementById("flight").textContent === "0");
    const lost = await count("lost");
    assert.ok(lost > 60, `${lost} of 120 were given up`);
    assert.equal(lost + (await count("done")), 120);

    await sim.play({ windows: [{ status: 402, latency: 0 }] });
    await page.click("#go");
    await page.waitForFunction(() => document.querySelectorAll('#tiles [data-state="lost"]').length === 120);
    await page.click("#tiles button:nth-child(3)");
    assert.match(await text("detail-state"), /^lost: the account is out of money/);

    await page.setViewport({ width: 360, height: 740 });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
    const small = await page.evaluate(() => [document.documentElement.scrollWidth, getComputedStyle(document.documentElement).backgroundColor]);
    assert.deepEqual(small, [360, "rgb(7, 21, 27)"], "it fits a phone, in the dark");

    await page.goto(dead.url);
    await page.waitForFunction(() => /no provider answers at \/provider/.test(document.getElementById("provider").textContent));
    assert.deepEqual(errors, []);
    return `120 prompts answered, ${said.rejected} answered 429, ${Math.round((100 * drawn.water) / drawn.all)} % water`;
  } finally {
    await browser.close();
    for (const server of [site, dead, sim]) await server.stop();
    await rm(profile, { recursive: true, force: true });
  }
}
