// The last minute, drawn: the sea is what is in flight, the line above it the learned limit, each drop a 429.

/** How much time is shown: what there is, within these bounds. */
const SPAN = [20_000, 60_000];

export class Chart {
  /** `{ at, flight, limit, cap, rejected }`, oldest first. */
  #samples = [];
  #top = 12;
  #canvas;
  #colours;

  constructor(canvas) {
    this.#canvas = canvas;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const read = () => {
      const style = getComputedStyle(document.documentElement);
      const names = ["ink", "faint", "line", "sea", "deep", "cap", "rejected", "card"];
      this.#colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    };
    read();
    dark.addEventListener("change", read);
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  add(sample) {
    this.#samples.push({ at: performance.now(), ...sample });
    const since = performance.now() - SPAN[1] - 2000;
    while (this.#samples.length > 0 && this.#samples[0].at < since) this.#samples.shift();
  }

  draw(now = performance.now()) {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const ratio = devicePixelRatio;
    if (this.#canvas.width !== Math.round(width * ratio) || this.#canvas.height !== Math.round(height * ratio)) {
      this.#canvas.width = Math.round(width * ratio);
      this.#canvas.height = Math.round(height * ratio);
    }
    const pen = this.#canvas.getContext("2d");
    const { ink, faint, line, sea, deep, cap, rejected, card } = this.#colours;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "12px ui-sans-serif, system-ui, sans-serif";

    const samples = this.#samples;
    const highest = samples.reduce((most, { flight, limit, cap }) => Math.max(most, flight, limit ?? 0, cap ?? 0), 8);
    this.#top += (highest * 1.18 - this.#top) * 0.08;
    const left = 34;
    const right = width - (width < 560 ? 56 : 96);
    const bottom = height - 26;
    const span = Math.min(Math.max(now - (samples[0]?.at ?? now), SPAN[0]), SPAN[1]);
    const x = (at) => right - ((now - at) / span) * (right - left);
    const y = (value) => bottom - (value / this.#top) * (bottom - 14);

    const step = [1, 2, 4, 5, 10, 20, 50, 100, 200, 500].find((step) => this.#top / step <= 6) ?? 1000;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (let value = 0; value <= this.#top; value += step) {
      pen.fillStyle = line;
      pen.fillRect(left, Math.round(y(value)), right - left, 1);
      pen.fillStyle = faint;
      pen.fillText(String(value), left - 8, y(value));
    }
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    const every = span > 40_000 ? 15 : 5;
    for (let ago = 0; ago * 1000 < span; ago += width < 480 ? 2 * every : every) {
      pen.fillText(ago === 0 ? "now" : `${ago} s ago`, x(now - ago * 1000), height - 7);
    }
    if (samples.length === 0) {
      pen.font = "15px ui-sans-serif, system-ui, sans-serif";
      pen.fillText("The last minute will be drawn here.", (left + right) / 2, (bottom + 14) / 2);
      return;
    }

    pen.save();
    pen.beginPath();
    pen.rect(left, 0, right - left, height);
    pen.clip();

    // In flight: the sea.
    const water = pen.createLinearGradient(0, y(this.#top), 0, bottom);
    water.addColorStop(0, sea);
    water.addColorStop(1, deep);
    pen.fillStyle = water;
    pen.beginPath();
    pen.moveTo(x(samples[0].at), bottom);
    for (const { at, flight } of samples) pen.lineTo(x(at), y(flight));
    pen.lineTo(right, y(samples.at(-1).flight));
    pen.lineTo(right, bottom);
    pen.fill();

    // What the provider lets in, which only the simulator tells.
    pen.setLineDash([5, 4]);
    this.#steps(pen, samples, "cap", cap, 1.5, x, y, now);
    pen.setLineDash([]);
    // What was learned of it.
    this.#steps(pen, samples, "limit", card, 5, x, y, now);
    this.#steps(pen, samples, "limit", ink, 2, x, y, now);

    pen.fillStyle = rejected;
    for (const { at, flight, rejected: drops } of samples) {
      for (let drop = 0; drop < Math.min(drops, 8); drop++) {
        const age = Math.min(1, (now - at) / 400);
        const [cx, cy] = [x(at), y(flight) - 12 - drop * 8 - (1 - age) * 14];
        pen.beginPath();
        pen.moveTo(cx, cy - 6);
        pen.bezierCurveTo(cx + 5, cy, cx + 4, cy + 5, cx, cy + 5);
        pen.bezierCurveTo(cx - 4, cy + 5, cx - 5, cy, cx, cy - 6);
        pen.fill();
      }
    }
    pen.restore();

    const last = samples.at(-1);
    const labels = [
      [last.limit, "learned", ink],
      [last.cap, "real", cap],
      [last.flight, "in flight", sea],
    ].filter(([value]) => value !== undefined && value !== null);
    // Labels keep out of each other's way.
    labels.sort((a, b) => b[0] - a[0]);
    let floor = 6;
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    for (const [value, name, colour] of labels) {
      const at = Math.max(floor, y(value));
      floor = at + 15;
      pen.fillStyle = colour;
      pen.fillText(width < 560 ? `${value}` : `${value} ${name}`, right + 8, at);
    }
  }

  /** A quantity that jumps. */
  #steps(pen, samples, name, colour, width, x, y, now) {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.lineJoin = "round";
    pen.beginPath();
    let before;
    for (const { at, [name]: value } of samples) {
      if (value === undefined || value === null) {
        before = undefined;
        continue;
      }
      if (before === undefined) pen.moveTo(x(at), y(value));
      else {
        pen.lineTo(x(at), y(before));
        pen.lineTo(x(at), y(value));
      }
      before = value;
    }
    if (before !== undefined) pen.lineTo(x(now), y(before));
    pen.stroke();
  }
}
