"use strict";
/* What the page holds, and how it is read. Weights are bytes: 255 is the largest weight of a word. */

const data = JSON.parse(document.getElementById("data").textContent);

/** The bytes of one word's weights, L of them, or null where there are none. */
function weightsAt(look, t) {
  if (!look.weights || t < 0 || t >= look.words.length) return null;
  look.bytes ??= Uint8Array.from(atob(look.weights), (letter) => letter.charCodeAt(0));
  const cells = look.grid[0] * look.grid[1];
  return look.bytes.subarray(t * cells, (t + 1) * cells);
}

/** The centre of a cell in pixels of the image, as attend/geometry.py has it. */
function centre(look, cell) {
  const [sx, sy, tx, ty] = look.affine, columns = look.grid[1];
  return [((cell % columns) + 0.5 - tx) / sx, (Math.floor(cell / columns) + 0.5 - ty) / sy];
}

/** Where the gaze is at a word, (x, y) in pixels: the cell that is read, the largest weight, or the centre of mass. */
function gazeAt(look, t, kind) {
  if (look.cells[t] < 0) return null;
  if (look.sampled || kind !== "mean") return centre(look, look.cells[t]);
  let x = 0, y = 0, sum = 0;
  weightsAt(look, t).forEach((weight, cell) => {
    const [cx, cy] = centre(look, cell);
    x += weight * cx, y += weight * cy, sum += weight;
  });
  return [x / sum, y / sum];
}

/** A score as the tables print it. */
function printed(score, value) {
  return value == null ? "–" : (value * score.scale).toFixed(score.decimals);
}

/** A model's colour, before its name. */
function swatch(model) {
  return make("span", { class: "swatch", style: `--colour: ${model.colour}` });
}

/** An element with attributes and children; text is always text. */
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "circle", "rect", "text"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
