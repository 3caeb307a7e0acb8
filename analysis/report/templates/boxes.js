/* The boxes of a dataset over a picture: those of one word, or all of them with their nouns. */

/** Draw the boxes of word `now`, or those of all words where it is null; `kind` is "word", "all" or "off". */
function drawBoxes(svg, entry, look, now, kind) {
  const size = look.size || entry.size;
  if (!size || kind === "off" || !entry.boxes.length) return;
  svg.setAttribute("viewBox", `0 0 ${size.join(" ")}`);
  const own = now == null ? new Set() : new Set(look.boxes[now]), u = Math.max(...size) / 100;
  const group = make("g", { class: "boxes" });
  entry.boxes.forEach(([noun, x0, y0, x1, y1], number) => {
    if (kind === "word" && !own.has(number)) return;
    const [x, y, width, height] = [x0 * size[0], y0 * size[1], (x1 - x0) * size[0], (y1 - y0) * size[1]];
    const faint = kind === "all" && now != null && !own.has(number) ? 0.4 : 1;
    const line = { x, y, width, height, fill: "none", opacity: faint };
    group.append(make("rect", { ...line, stroke: "#111", "stroke-width": 1.5 * u }),
      make("rect", { ...line, stroke: "#fff", "stroke-width": 0.8 * u, "stroke-dasharray": `${2.4 * u} ${1.6 * u}` }));
    if (kind !== "all") return;
    const ink = { fill: "#fff", stroke: "#111", "stroke-width": 0.9 * u, "paint-order": "stroke", opacity: faint };
    group.append(make("text", { x: x + u, y: y + 4.6 * u, "font-size": 4.2 * u, ...ink }, noun));
  });
  svg.prepend(group);
}
