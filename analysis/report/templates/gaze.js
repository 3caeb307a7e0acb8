/* The path of the gaze in the image's own pixels: numbered places in order, and an arrow from each to the next. */

const BEND = 0.15; // how far an arrow bends, in its own length: there and back are two arrows

/** The places where the gaze rested up to word `last`, with the first of the words written from each. */
function rests(look, last, kind) {
  const path = [];
  for (let t = 0; t <= last && t < look.words.length; t++) {
    const point = gazeAt(look, t, kind), before = path.at(-1);
    if (!point) continue;
    if (before && before.point[0] === point[0] && before.point[1] === point[1]) before.last = t;
    else path.push({ point, first: t, last: t });
  }
  return path;
}

/** An arrow between two points that stops short of both, and its head; in units u of the picture. */
function arrow([x0, y0], [x1, y1], u) {
  const bend = [(x0 + x1) / 2 + BEND * (y1 - y0), (y0 + y1) / 2 - BEND * (x1 - x0)];
  const step = ([ax, ay], [bx, by], length) => {
    const whole = Math.hypot(bx - ax, by - ay) || 1;
    return [ax + (bx - ax) * length / whole, ay + (by - ay) * length / whole];
  };
  const start = step([x0, y0], bend, 3.4 * u), end = step([x1, y1], bend, 4 * u), back = step(end, bend, 3.6 * u);
  const [dx, dy] = [(end[1] - back[1]) * 0.5, (back[0] - end[0]) * 0.5];
  const line = `M${start}Q${bend} ${back}`;
  return { line, head: `M${end}L${back[0] + dx},${back[1] + dy}L${back[0] - dx},${back[1] - dy}Z` };
}

/** White or near black, whichever is read more easily on a colour. */
function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.3 ? "#14171a" : "#fff";
}

/** The path up to word `now`, or the whole of it where `now` is null, as the content of an svg element. */
function drawGaze(svg, look, now, colour, kind) {
  svg.replaceChildren();
  if (!look.size || kind === "off") return;
  svg.setAttribute("viewBox", `0 0 ${look.size.join(" ")}`);
  const u = Math.max(...look.size) / 100, path = rests(look, now ?? look.words.length - 1, kind);
  const places = path.map((rest) => rest.point), behind = make("g"), lines = make("g"), dots = make("g");
  for (let i = 1; i < places.length; i++) {
    const { line, head } = arrow(places[i - 1], places[i], u), old = now != null && i < places.length - 1;
    const stroke = { fill: "none", "stroke-linecap": "round", opacity: old ? 0.55 : 1 };
    behind.append(make("path", { d: line, ...stroke, stroke: "#fff", "stroke-width": 2.1 * u }),
      make("path", { d: head, fill: "#fff", stroke: "#fff", "stroke-width": 1.2 * u, opacity: stroke.opacity }));
    lines.append(make("path", { d: line, ...stroke, stroke: colour, "stroke-width": 1.05 * u }),
      make("path", { d: head, fill: colour, opacity: stroke.opacity }));
  }
  path.forEach((rest, i) => {
    const [cx, cy] = rest.point, current = now != null && i === path.length - 1 && rest.last === now;
    const r = (current ? 4.2 : 3) * u, size = { "font-size": (current ? 4.6 : 3.6) * u, "text-anchor": "middle" };
    const dot = make("circle", { cx, cy, r, fill: colour, stroke: "#fff", "stroke-width": (current ? 1.2 : 0.8) * u });
    const ink = { dy: "0.36em", fill: inkOn(colour), "font-weight": 700, ...size };
    const number = make("text", { x: cx, y: cy, ...ink }, `${rest.first + 1}`);
    now == null ? dots.prepend(dot, number) : dots.append(dot, number); // of a whole path, the first visit lies on top
  });
  if (look.sampled && now != null && look.cells[now] >= 0) behind.append(frame(look, look.cells[now], u));
  svg.append(behind, lines, dots);
}

/** The outline of the one cell that was read. */
function frame(look, cell, u) {
  const [x, y] = centre(look, cell), width = 1 / look.affine[0], height = 1 / look.affine[1];
  const line = { fill: "none", stroke: "#fff", "stroke-width": 0.9 * u };
  return make("rect", { x: x - width / 2, y: y - height / 2, width, height, ...line });
}
