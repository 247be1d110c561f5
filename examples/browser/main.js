import { Tidegate } from "tidegate";
import { Chart } from "./chart.js";
import { path, play, realLimit, weathers, widened } from "./provider.js";

const $ = (id) => document.getElementById(id);
const model = "deepseek-flash";

const fetch = await widened();
// No key: the proxy has it. Nor does the dev server's proxy pass on that a connection broke, so a long pause has to do.
const client = new Tidegate({ baseURL: location.origin + path, clocks: { idle: 10_000 }, ...(fetch && { fetch }) });
const chart = new Chart($("chart"));
/** Prompts, and what became of them. */
const jobs = [];
let selected;
let running = new AbortController();
let cap;

// ---- asking ----

/** Asks one prompt, a piece at a time. The gate decides when it is sent and whether it is sent again. */
async function answer(job, workload, signal) {
  for (;;) {
    job.text = "";
    try {
      const stream = await client.chat.completions.create(
        { model, messages: [{ role: "user", content: job.prompt }], stream: true },
        { workload, signal },
      );
      show(job, "answering");
      for await (const chunk of stream) {
        job.text += chunk.choices[0]?.delta.content ?? "";
        show(job, "answering");
      }
      return show(job, "done");
    } catch (error) {
      // What broke off in the middle was shown, so whether to ask again is for the page to say.
      if (error?.type === "interrupted") continue;
      job.said = signal.aborted ? "stopped" : String(error?.message ?? error);
      return show(job, "lost");
    }
  }
}

$("send").addEventListener("submit", (event) => {
  event.preventDefault();
  const lines = prompts();
  if (lines.length === 0) return;
  if (jobs.every(({ state }) => state === "done" || state === "lost")) {
    jobs.length = 0;
    $("tiles").replaceChildren();
    $("detail").hidden = true;
  }
  if (running.signal.aborted) running = new AbortController();
  for (let copy = 0; copy < Number($("copies").value); copy++) {
    for (const prompt of lines) {
      const job = { prompt, text: "", state: "", tile: document.createElement("button") };
      job.tile.type = "button";
      job.tile.addEventListener("click", () => select(job));
      $("tiles").append(job.tile);
      jobs.push(job);
      show(job, "waiting");
      answer(job, "background", running.signal);
    }
  }
});

$("stop").addEventListener("click", () => running.abort());

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const prompt = $("question").value.trim() || $("question").placeholder;
  const started = performance.now();
  let begun;
  $("reply").textContent = "waiting for the next place …";
  const job = {
    prompt,
    text: "",
    shown() {
      if (job.text === "") return;
      begun ??= ((performance.now() - started) / 1000).toFixed(1);
      $("reply").textContent = `after ${begun} s: ${job.text}`;
    },
  };
  await answer(job, "interactive", AbortSignal.timeout(120_000));
  if (job.state === "lost") $("reply").textContent = job.said;
});

for (const button of document.querySelectorAll("[data-weather]")) {
  button.addEventListener("click", async () => {
    try {
      await play(button.dataset.weather);
      for (const other of document.querySelectorAll("[data-weather]")) other.ariaPressed = String(other === button);
      $("weather-hint").textContent = weathers[button.dataset.weather].says;
    } catch (error) {
      $("weather-hint").textContent = String(error);
    }
  });
}

// ---- showing ----

const prompts = () => $("prompts").value.split("\n").map((line) => line.trim()).filter(Boolean);

function show(job, state) {
  job.state = state;
  job.shown?.();
  if (job.tile === undefined) return;
  job.tile.dataset.state = state;
  job.tile.style.setProperty("--fill", state === "done" ? 1 : 1 - Math.exp(-job.text.length / 160));
  job.tile.ariaLabel = `${job.prompt}: ${state}`;
  if (job === selected) detail();
}

function select(job) {
  if (selected) selected.tile.ariaPressed = "false";
  selected = job;
  job.tile.ariaPressed = "true";
  $("detail").hidden = false;
  detail();
}

function detail() {
  $("detail-prompt").textContent = selected.prompt;
  $("detail-text").textContent = selected.text;
  $("detail-state").textContent = selected.state === "lost" ? `lost: ${selected.said}` : selected.state === "done" ? "answered" : `${selected.state} …`;
}

function ready() {
  const [lines, copies] = [prompts().length, Number($("copies").value)];
  const count = lines * copies;
  $("go").disabled = !(count > 0 && $("copies").validity.valid);
  $("hint").textContent = lines === 0 ? "Write a prompt, and it can be sent." : count > 0 ? `${count} requests, all at once. Tidegate lets out what fits.` : "";
}
$("prompts").addEventListener("input", ready);
$("copies").addEventListener("input", ready);

let rejectedBefore = 0;
function sample() {
  const { queued, backingOff, inFlight, total, lanes } = client.metrics();
  const limit = lanes.find((lane) => lane.model === model)?.limit;
  const rejected = total.slotRejections;
  if (total.submitted > 0) chart.add({ flight: inFlight, limit, cap, rejected: rejected - rejectedBefore });
  rejectedBefore = rejected;
  $("waiting").textContent = queued + backingOff;
  $("flight").textContent = inFlight;
  $("limit").textContent = limit ?? "–";
  $("rejected").textContent = total.attempts > 0 ? `${rejected} (${Math.round((100 * rejected) / total.attempts)} %)` : "0";
  $("answered").textContent = jobs.filter(({ state }) => state === "done").length;
  $("lost").textContent = jobs.filter(({ state }) => state === "lost").length;
  $("stop").hidden = !jobs.some(({ state }) => state === "waiting" || state === "answering");
}

async function look() {
  cap = await realLimit();
  $("weather").hidden = $("cap-figure").hidden = cap === undefined;
  $("cap").textContent = cap ?? "–";
}

/** Looks whether there is a provider to ask at all, until there is. */
async function greet() {
  try {
    const { data } = await client.models.list({ signal: AbortSignal.timeout(2000) });
    $("provider").textContent = `connected: ${data.map(({ id }) => id).join(", ")}`;
    $("provider").dataset.state = "up";
  } catch {
    $("provider").textContent = `no provider answers at ${path}; looking again …`;
    $("provider").dataset.state = "down";
    setTimeout(greet, 2000);
    return;
  }
  await look();
  if (cap === undefined) return;
  document.querySelector('[data-weather="squall"]').click();
  setInterval(look, 250);
}

ready();
await greet();
setInterval(sample, 100);
(function frame(now) {
  chart.draw(now);
  requestAnimationFrame(frame);
})(performance.now());
document.body.dataset.ready = "";
