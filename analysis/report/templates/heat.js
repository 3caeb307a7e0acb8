/* Attention over a picture: weights of a grid laid smoothly over the pixels, and their colours. */

const FINEST = 176; // pixels of a map's longer side: it is smooth, and the browser enlarges it

/** The four weights of a bicubic step at d in [0, 1) past its second point (a = -1, as Pillow's). */
function cubic(d) {
  const near = (x) => x ** 3 - 2 * x ** 2 + 1;
  const far = (x) => -(x ** 3) + 5 * x ** 2 - 8 * x + 4;
  return [far(1 + d), near(d), near(1 - d), far(2 - d)];
}

/** For each of n pixels of an axis: the four cells that it mixes and how much of each, or null outside the grid. */
function taps(n, pixels, scale, shift, cells) {
  return Array.from({ length: n }, (_, i) => {
    const at = ((i + 0.5) * pixels / n) * scale + shift;
    if (at < 0 || at >= cells) return null;
    const first = Math.floor(at - 0.5), clamp = (cell) => Math.min(Math.max(cell, 0), cells - 1);
    return { cells: [-1, 0, 1, 2].map((k) => clamp(first + k)), parts: cubic(at - 0.5 - first), own: Math.floor(at) };
  });
}

/** Weights over a picture of width x height, in [0, 1]; zero where the grid does not reach. */
function spread(weights, look, width, height, smooth = true) {
  const [rows, columns] = look.grid, [sx, sy, tx, ty] = look.affine;
  const across = taps(width, look.size[0], sx, tx, columns), down = taps(height, look.size[1], sy, ty, rows);
  const light = new Float32Array(width * height), lines = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++)
    across.forEach((tap, x) => {
      if (!tap) return;
      const at = (cell) => weights[row * columns + cell] / 255;
      lines[row * width + x] = smooth ? tap.cells.reduce((sum, c, k) => sum + tap.parts[k] * at(c), 0) : at(tap.own);
    });
  down.forEach((tap, y) => {
    if (!tap) return;
    for (let x = 0; x < width; x++) {
      let value = 0;
      if (smooth) for (let k = 0; k < 4; k++) value += tap.parts[k] * lines[tap.cells[k] * width + x];
      else value = lines[tap.own * width + x];
      light[y * width + x] = Math.min(Math.max(value, 0), 1);
    }
  });
  return light;
}

// Inferno: even steps of lightness, and told apart with every kind of colour blindness.
const RAMP = [[0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10],
  [249, 201, 50], [252, 255, 164]];

/** What each of 256 levels of light looks like: colours as [red, green, blue, opacity], packed a pixel each. */
function packed(colour) {
  const bytes = new Uint8ClampedArray(4 * 256);
  for (let level = 0; level < 256; level++) bytes.set(colour(level), 4 * level);
  return new Uint32Array(bytes.buffer);
}

function heat(level) {
  const at = (level / 255) * (RAMP.length - 1), low = Math.min(Math.floor(at), RAMP.length - 2), d = at - low;
  const mix = RAMP[low].map((from, k) => from + d * (RAMP[low + 1][k] - from));
  return [...mix, 255 * (0.18 + 0.57 * Math.sqrt(level / 255))];
}

const PALETTES = { heat: packed(heat), light: packed((level) => [8, 9, 12, 0.78 * (255 - level)]) };

/** Draw a word's attention on a canvas: as a heat map, its cells, or a light that leaves the rest dark. */
function paint(canvas, weights, look, style) {
  const enlarge = FINEST / Math.max(...look.size), palette = PALETTES[style] ?? PALETTES.heat;
  const [width, height] = look.size.map((side) => Math.max(1, Math.round(side * enlarge)));
  canvas.width = width, canvas.height = height;
  const light = spread(weights, look, width, height, style !== "cells");
  const pixels = Uint32Array.from(light, (value) => palette[Math.round(255 * value)]);
  const image = new ImageData(new Uint8ClampedArray(pixels.buffer), width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
}
