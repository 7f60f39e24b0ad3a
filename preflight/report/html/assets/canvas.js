// Very many cells as dots. Where a dot stands for several cells it has the worst one's colour.

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => {
    const value = style.getPropertyValue(name).trim();
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(value.slice(at, at + 2), 16));
    return (255 << 24) | (b << 16) | (g << 8) | r;
  };
  const found = new Uint32Array(256);
  kindsIn(state.view).forEach((kind, i) => { found[i] = of(`--c-${kind.colour}`); });
  found[SELF] = of('--line');
  return {found, faint: of('--c-none')};
}

// Draws one dot for each cell, or at most `widest` times `highest` dots.
function draw(canvas, kinds, {rows, columns, shows}, widest, highest) {
  canvas.width = Math.max(1, Math.min(columns.length, widest));
  canvas.height = Math.max(1, Math.min(rows.length, highest));
  const context = canvas.getContext('2d');
  const image = context.createImageData(canvas.width, canvas.height);
  const dots = new Uint32Array(image.data.buffer);
  const {found, faint} = colours();
  const rank = new Uint8Array(256);
  kindsIn(state.view).forEach((kind, i) => {
    rank[i] = shows[i] ? 2 + rankOf(kind) : 1;
    if (!shows[i]) found[i] = faint;
  });
  const best = new Uint8Array(dots.length);
  const across = columns.map((_, i) => Math.floor((i * canvas.width) / columns.length));
  for (let row = 0; row < rows.length; row += 1) {
    const line = Math.floor((row * canvas.height) / rows.length) * canvas.width;
    const start = rows[row] * COUNT;
    for (let column = 0; column < columns.length; column += 1) {
      const kind = kinds[start + columns[column]];
      const dot = line + across[column];
      if (rank[kind] >= best[dot]) {
        best[dot] = rank[kind];
        dots[dot] = found[kind];
      }
    }
  }
  context.putImageData(image, 0, 0);
}

const LEGIBLE = 16;  // pixels of a cell on a side that has few of them

// Pixels of the page for the whole picture: whole ones of the screen for a cell where there is room.
function extent(width, height, {rows, columns}) {
  const scale = window.devicePixelRatio || 1;
  const room = Math.min(width / columns.length, height / rows.length);
  const step = room * scale >= 1 ? Math.floor(room * scale) / scale : room;
  const along = (nodes, most) => Math.min(most, nodes.length
    * (nodes.length <= BLOCKS ? Math.max(step, LEGIBLE) : step));
  return [along(columns, width), along(rows, height)];
}
