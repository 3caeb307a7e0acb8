/* One image: a panel for each model, what it wrote, and one time for all of them. */

const PLAY = 650; // milliseconds a word

/** The word of another caption that answers word t of this one: the same word, the nearest of several. */
function answer(from, t, to) {
  if (from === to) return t;
  const word = from.words[t], same = to.words.flatMap((other, i) => (other === word ? [i] : []));
  return same.length ? same.reduce((best, i) => (Math.abs(i - t) < Math.abs(best - t) ? i : best)) : t;
}

class Card {
  /** settings: { maps, gaze, models (indices), terms (words searched for) } */
  constructor(entry, settings) {
    this.settings = settings;
    this.held = this.shown = null; // { t } from the slider, or { t, look } from a word
    this.panels = settings.models.filter((m) => entry.looks[m]).map((m) => this.panel(entry, m));
    this.length = Math.max(0, ...this.panels.map((panel) => panel.look.words.length));
    this.node = make("article", { class: "card", "aria-label": entry.name }, this.head(entry),
      make("div", { class: "panels" }, ...this.panels.map((panel) => panel.node)), this.foot(entry));
    this.node.addEventListener("keydown", (event) => event.key === "Escape" && this.hold(null));
    this.node.addEventListener("pointerleave", () => this.show(this.held));
    this.show(null);
  }

  head(entry) {
    const { score, minus, of } = this.settings.sort, text = [];
    if (score != null && minus != null && this.settings.value(entry) != null) {
      const value = this.settings.value(entry), chosen = data.scores[score], sign = value < 0 ? "−" : "+";
      const [ours, theirs] = [of, minus].map((m) => data.models[m].name);
      text.push(`${chosen.title}: ${ours} − ${theirs} = ${sign}${printed(chosen, Math.abs(value))}`);
    }
    return make("header", {}, make("h3", {}, entry.name), make("span", {}, ...text));
  }

  panel(entry, m) {
    const look = entry.looks[m], model = data.models[m], size = look.size || entry.size || [4, 3];
    const view = make("div", { class: "view", style: `aspect-ratio: ${size[0]} / ${size[1]}` });
    const picture = { src: `data:image/webp;base64,${entry.picture}`, alt: entry.name, decoding: "async" };
    if (entry.picture) view.append(make("img", picture));
    else view.classList.add("blank");
    const canvas = make("canvas", { "aria-hidden": "true" });
    const svg = make("svg", { class: "path", "aria-hidden": "true" });
    view.append(canvas, svg);
    const said = make("p", { class: "said" });
    const name = `What ${model.name} wrote; arrow keys move between words`;
    const text = make("p", { class: "text", role: "group", dir: "auto", "aria-label": name });
    const panel = { entry, look, model, view, canvas, svg, said, words: [] };
    look.words.forEach((word, t) => {
      const found = this.settings.terms.some((term) => word.toLowerCase().startsWith(term));
      const button = make("button", { type: "button", tabindex: t ? -1 : 0, ...(found && { class: "found" }) }, word);
      button.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && this.show({ t, look }));
      button.addEventListener("focus", () => button.matches(":focus-visible") && this.hold({ t, look }));
      button.addEventListener("click", () => this.toggle({ t, look }));
      button.addEventListener("keydown", (event) => this.walk(event, panel, t));
      panel.words.push(button);
      text.append(button, " ");
    });
    if (!look.words.length) text.append(make("span", { class: "quiet" }, "(no words)"));
    const title = make("header", {}, swatch(model), make("span", { title: model.decoding }, model.name));
    panel.node = make("section", { class: "panel", "aria-label": model.name }, title, view, said, text);
    return panel;
  }

  foot(entry) {
    this.slider = make("input", { type: "range", min: 0, max: this.length, value: 0, "aria-label": "Time, in words" });
    this.slider.addEventListener("input", () => this.hold(this.slider.value > 0 ? { t: this.slider.value - 1 } : null));
    this.output = make("output");
    this.button = make("button", { type: "button", "aria-label": "Play the gaze from word to word" }, "Play");
    this.button.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
    const foot = make("footer", {}, make("div", { class: "time" }, this.button, this.slider, this.output));
    if (entry.references.length)
      foot.append(make("details", {}, make("summary", {}, "What people wrote"),
        make("ul", {}, ...entry.references.map((text) => make("li", { dir: "auto" }, text)))));
    return foot;
  }

  /** The keys of a caption: one tab stop, arrows between its words. */
  walk(event, panel, t) {
    const last = panel.words.length - 1;
    const next = { ArrowRight: t + 1, ArrowLeft: t - 1, Home: 0, End: last }[event.key];
    if (next == null || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const word = panel.words[Math.min(Math.max(next, 0), last)];
    panel.words.forEach((one) => (one.tabIndex = one === word ? 0 : -1));
    word.focus({ focusVisible: true });
  }

  toggle(at) {
    const same = this.clicked && this.clicked.t === at.t && this.clicked.look === at.look;
    this.hold(same ? null : at);
    this.clicked = same ? null : at;
  }

  hold(at) {
    this.stop();
    this.clicked = null;
    this.held = at;
    this.show(at);
  }

  play() {
    this.held = null;
    let t = 0;
    const step = () => (t < this.length ? this.show((this.held = { t: t++ })) : this.hold(null));
    this.timer = setInterval(step, PLAY);
    this.button.textContent = "Stop";
    step();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.button.textContent = "Play";
  }

  /** Show where every model looked at a time, or all of their paths where `at` is null. */
  show(at) {
    this.shown = at;
    this.slider.value = at ? at.t + 1 : 0;
    this.output.textContent = at ? `word ${at.t + 1} of ${this.length}` : "all words";
    for (const panel of this.panels) this.draw(panel, at && (at.look ? answer(at.look, at.t, panel.look) : at.t));
    const told = this.panels.map((panel) => `${panel.model.name}: ${panel.look.words[panel.now] ?? "done"}`);
    this.slider.setAttribute("aria-valuetext", at ? `word ${at.t + 1}, ${told.join(", ")}` : "all words");
  }

  draw(panel, t) {
    const { entry, look, view, canvas, svg, words, said } = panel, { maps, gaze, boxes } = this.settings;
    const now = t != null && t < look.words.length ? t : null, weights = now == null ? null : weightsAt(look, now);
    words.forEach((word, i) => word.classList.toggle("now", i === now));
    panel.now = now;
    view.classList.toggle("looking", Boolean(weights));
    view.classList.toggle("light", maps === "light");
    canvas.hidden = !weights;
    if (weights) paint(canvas, weights, look, maps);
    drawGaze(svg, look, now, panel.model.colour, gaze);
    drawBoxes(svg, entry, look, now, boxes);
    said.textContent = now != null ? describe(look, now) : this.scores(panel, t);
  }

  scores(panel, t) {
    const scores = data.scores.map((score, i) => `${score.title} ${printed(score, panel.look.scores[i])}`).slice(0, 3);
    return t != null ? `done after ${panel.look.words.length} words` : scores.join(" · ");
  }
}

/** A word's look in words. */
function describe(look, t) {
  if (!look.weights) return `${t + 1} ${look.words[t]}: attention was not kept`;
  const peak = look.peaks[t], percent = (100 * peak).toPrecision(2);
  const where = look.cells[t] < 0 ? "looks at all places alike" : `${Number(percent)} % at one place`;
  return `${t + 1} ${look.words[t]}: ${where}` + (look.gates ? ` · gate ${look.gates[t].toFixed(2)}` : "");
}
