/* The gallery: which images, in which order, a page of cards at a time. */

const PAGE = 24; // cards a page, so that a thousand images scroll as well as a few
const MODELS = 3; // models shown at first

const field = (id) => document.getElementById(id);
const state = { page: 0, chosen: data.images };

function option(value, text) {
  return make("option", { value }, text);
}

/** What the controls say. */
function settings() {
  const index = (id) => (field(id).value === "" ? null : Number(field(id).value));
  const sort = { score: index("sort"), of: index("of"), minus: index("minus"), order: Number(field("order").value) };
  const models = [...document.querySelectorAll("#models input:checked")].map((box) => Number(box.value));
  const terms = field("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const scored = (entry, m) => entry.looks[m]?.scores[sort.score] ?? null;
  const value = (entry) => {
    const ours = scored(entry, sort.of), theirs = sort.minus == null ? 0 : scored(entry, sort.minus);
    return ours == null || theirs == null ? null : ours - theirs;
  };
  return { sort, models, terms, value, maps: field("maps").value, gaze: field("gaze").value, boxes: field("boxes").value };
}

/** Whether a caption of a shown model has, for every term, a word that begins with it. */
function matches(entry, { models, terms }) {
  return !terms.length || models.some((m) => {
    const words = entry.looks[m]?.words.map((word) => word.toLowerCase()) ?? [];
    return terms.every((term) => words.some((word) => word.startsWith(term)));
  });
}

/** The images that the controls ask for, in their order; those without a score come last. */
function choose(now) {
  const name = field("name").value.trim().toLowerCase();
  const chosen = data.images.filter((entry) => entry.name.toLowerCase().includes(name) && matches(entry, now));
  if (now.sort.score == null) return chosen;
  const keyed = chosen.map((entry) => [entry, now.value(entry)]);
  keyed.sort(([, a], [, b]) => (a == null) - (b == null) || now.sort.order * (a - b));
  return keyed.map(([entry]) => entry);
}

/** Draw the page of cards that the controls ask for. */
function render() {
  const now = settings(), count = data.images.length.toLocaleString("en");
  state.chosen = choose(now);
  const pages = Math.max(1, Math.ceil(state.chosen.length / PAGE));
  state.page = Math.min(Math.max(state.page, 0), pages - 1);
  const shown = state.chosen.slice(state.page * PAGE, (state.page + 1) * PAGE);
  state.cards?.forEach((card) => card.stop());
  state.cards = shown.map((entry) => new Card(entry, now));
  const nothing = make("p", { class: "nothing" }, now.models.length ? "No image fits." : "No model is chosen.");
  field("cards").style.setProperty("--panels", Math.min(Math.max(now.models.length, 1), 4));
  field("cards").style.setProperty("--least", now.models.length > 2 ? "12.2rem" : "15rem");
  const cards = shown.length && now.models.length ? state.cards.map((card) => card.node) : [nothing];
  field("cards").replaceChildren(...cards);
  const where = `page ${state.page + 1} of ${pages}`;
  field("count").textContent = `${state.chosen.length.toLocaleString("en")} of ${count} images, ${where}`;
  document.querySelectorAll(".where").forEach((node) => (node.textContent = where));
  document.querySelectorAll(".previous").forEach((button) => (button.disabled = state.page === 0));
  document.querySelectorAll(".next").forEach((button) => (button.disabled = state.page === pages - 1));
  for (const id of ["of", "minus", "order"]) field(id).disabled = now.sort.score == null;
}

function turn(pages) {
  state.page += pages;
  render();
  document.querySelector(".pager").scrollIntoView({ block: "start" });
}

/** Fill the controls with this report's models and scores, and listen to them. */
function start() {
  data.scores.forEach((score, i) => field("sort").append(option(i, score.title)));
  data.models.forEach((model, m) => {
    field("of").append(option(m, model.name));
    field("minus").append(option(m, model.name));
    const box = make("input", { type: "checkbox", value: m });
    box.checked = m < MODELS;
    field("models").append(make("label", { title: model.decoding }, box, swatch(model), model.name));
  });
  if (data.models.length > 1) field("minus").value = "1";
  field("models").hidden = data.models.length < 2;
  field("boxes").closest("label").hidden = !data.images.some((entry) => entry.boxes.length);
  field("controls").addEventListener("submit", (event) => event.preventDefault());
  field("controls").addEventListener("input", () => {
    state.page = 0;
    render();
  });
  document.querySelectorAll(".previous").forEach((button) => button.addEventListener("click", () => turn(-1)));
  document.querySelectorAll(".next").forEach((button) => button.addEventListener("click", () => turn(1)));
  render();
}

start();
