// Very many cells: a picture of all of them, under a grid of blocks that can be entered.

const LETTER = 7.5;  // pixels of one in a heading
const CALM = ['open', 'once', 'mended', 'still'];  // what a reader need not be led to
const SMALL = 11;  // pixels that a heading needs

function overview(kinds, part) {
  const own = kindsIn(state.view);
  const [rowBlocks, columnBlocks] = [blocksOf(part.rows), blocksOf(part.columns)];
  const counts = tallied(kinds, part, rowBlocks, columnBlocks);
  const canvas = element('canvas', {'aria-hidden': 'true'});
  const room = Math.max(200, viewWidth() - headWidth());
  const high = Math.min(1100, Math.max(720, window.innerHeight * 0.95));
  const scale = window.devicePixelRatio || 1;
  const [width, height] = extent(room, high, part);
  const repaint = () => draw(canvas, kinds, part, Math.round(width * scale), Math.round(height * scale));
  repaint();

  const cells = rowBlocks.map((rowBlock, r) => columnBlocks.map((columnBlock, c) => {
    const kind = worst(counts[r][c].map((count, i) => (part.shows[i] ? count : 0)), own);
    const text = `${rowBlock.name} \u2192 ${columnBlock.name}: ${inWords(counts[r][c], own)}`;
    return put(element('div', {
      role: 'gridcell', tabindex: -1, 'aria-label': text,
      class: `block${kind && !CALM.includes(kind.colour) ? ' has' : ''}`,
    }, badge(counts[r][c], own, share(width, columnBlock, part.columns),
      share(height, rowBlock, part.rows))), columnBlock, part.columns.length, rowBlock, part.rows.length);
  }));
  for (const cell of cells.flat()) cell.classList.toggle('bare', !cell.firstChild);
  const plane = element('div', {class: 'plane'}, canvas);
  size(plane, width, height);
  if (state.cell) plane.append(...marked(part));
  const wide = (block) => share(width, block, part.columns);
  const flat = columnBlocks.every((block) => block.name.length * LETTER + 8 < wide(block));
  const heads = element('div', {class: flat ? 'heads flat' : 'heads', role: 'row'},
    columnBlocks.map((block) => put(heading('columnheader', block.name, wide(block)), block,
      part.columns.length)));
  size(heads, width, null);
  const lines = rowBlocks.map((block, r) => {
    const high = share(height, block, part.rows);
    const head = put(heading('rowheader', block.name, high), null, 1, block, part.rows.length);
    return {head, row: element('div', {role: 'row', class: 'line'}, head, cells[r])};
  });
  plane.append(...lines.map((line) => line.row));
  const grid = element('div', {
    role: 'grid', class: 'over', 'aria-label': `${testOf(state.key).heading}: blocks of cells`,
    'aria-describedby': 'told',
  }, heads, plane);
  const open = (r, c, event) => enter(
    [rowBlocks[r].first, rowBlocks[r].last, columnBlocks[c].first, columnBlocks[c].last],
    under(event, plane, part));
  const focus = roving(grid, cells, {open, back: zoomOut});
  hover(plane, (event) => {
    const pair = under(event, plane, part);
    return pair && named(...pair, own[kinds[pair[0] * COUNT + pair[1]]]);
  });
  return {node: grid, focus, repaint, find: () => null};
}

// What of a length belongs to a block.
function share(whole, block, nodes) {
  return (whole * (block.last - block.first + 1)) / nodes.length;
}

// How many cells of a block are bad, where there is room to say so.
function badge(counts, kinds, width, height) {
  const bad = counts.reduce((sum, count, i) => (
    CALM.includes(kinds[i].colour) || kinds[i].colour === 'none' ? sum : sum + count), 0);
  const text = bad >= 10000 ? `${Math.floor(bad / 1000)}k` : `${bad}`;
  if (!bad || height < 24 || width < 16 + text.length * LETTER) return null;
  return element('span', {class: 'count', 'aria-hidden': 'true'}, text);
}

// The room beside the panel of a cell, where that is open and stands on the right.
function viewWidth() {
  const whole = byId('app').clientWidth;
  return state.cell && window.innerWidth > 1000 ? whole - 27 * 16 - 24 : whole;
}

function headWidth() {
  return window.innerWidth < 600 ? 84 : 150;
}

function heading(role, name, room) {
  const head = element('div', {role, class: 'head', title: name}, element('span', {}, name));
  if (room < SMALL) head.classList.add('tiny');
  return head;
}

// In shares of the whole, so that the picture can be made smaller on paper.
function put(made, column, columns, row, rows) {
  const percent = (part, whole) => `${(100 * part) / whole}%`;
  if (column) {
    made.style.left = percent(column.first, columns);
    made.style.width = percent(column.last - column.first + 1, columns);
  }
  if (row) {
    made.style.top = percent(row.first, rows);
    made.style.height = percent(row.last - row.first + 1, rows);
  }
  return made;
}

function size(made, width, height) {
  made.style.width = `${width}px`;
  if (height !== null) made.style.aspectRatio = `${width} / ${height}`;
}

// Two lines through the cell that is open.
function marked(part) {
  const [row, column] = [part.rows.indexOf(state.cell[0]), part.columns.indexOf(state.cell[1])];
  if (row < 0 || column < 0) return [];
  const one = (first) => ({first, last: first});
  return [
    put(element('div', {class: 'mark across'}), null, 1, one(row), part.rows.length),
    put(element('div', {class: 'mark down'}), one(column), part.columns.length),
  ];
}

// The pair of nodes whose cell is under the mouse; null for a key.
function under(event, plane, part) {
  if (!event.clientX && !event.clientY) return null;
  const box = plane.getBoundingClientRect();
  const row = Math.floor(((event.clientY - box.top) / box.height) * part.rows.length);
  const column = Math.floor(((event.clientX - box.left) / box.width) * part.columns.length);
  const pair = [part.rows[row], part.columns[column]];
  return pair.includes(undefined) ? null : pair;
}

function named(source, destination, kind) {
  const what = source === destination ? 'the same node' : kind.words;
  return `${NAMES[source]} \u2192 ${NAMES[destination]}: ${what}`;
}

// A line that follows the mouse; what it says can be had by keyboard from each cell's own name.
function hover(over, words) {
  const tip = byId('tip');
  over.addEventListener('pointermove', (event) => {
    const text = event.pointerType === 'touch' ? null : words(event);
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(4, left)}px`;
    const below = event.clientY + 18 + tip.offsetHeight < window.innerHeight;
    tip.style.top = `${below ? event.clientY + 18 : event.clientY - 12 - tip.offsetHeight}px`;
  });
  over.addEventListener('pointerleave', () => { tip.hidden = true; });
}
