// Puts the parts together: every change of the state draws the page anew.

const SHORT = NAMES.map((name) => (name.endsWith(DATA.nodes.domain)
  ? name.slice(0, name.length - DATA.nodes.domain.length) : name));
const shown = {part: null, focus: null, find: null, repaint: null};
let turn = 0;

// Changes the state. A new selection of rows or columns ends the zoom into the old one.
function update(change, {zoomKept = false, push = false} = {}) {
  if (!zoomKept && !('zoom' in change)) change.zoom = [];
  Object.assign(state, change);
  const hash = `#${toHash()}`;
  const address = hash === '#' ? location.pathname + location.search : hash;
  if (push) history.pushState(null, '', address);
  else history.replaceState(null, '', address);
  return show();
}

async function show() {
  turn += 1;
  const mine = turn;
  controls();
  const kinds = await kindsOf(state.view, state.key);
  if (mine !== turn) return;
  const all = selected(kinds);
  if (state.zoom.some((box) => box[1] >= all.rows.length || box[3] >= all.columns.length)) {
    state.zoom = [];
  }
  const part = {...zoomed(all), shows: all.shows};
  const counts = countsOf(part, kinds);
  legend(all.counts, counts);
  trail(all);
  tell(part, counts);
  const empty = !part.rows.length || !part.columns.length;
  const made = empty ? nothing() : isSmall(part) ? cellGrid(kinds, part) : overview(kinds, part);
  byId('view').replaceChildren(made.node);
  Object.assign(shown, {part}, made);
  byId('tip').hidden = true;
  await showCell(mine);
  document.documentElement.dataset.ready = String(mine);
}

function nothing() {
  const node = element('p', {class: 'empty'}, 'No cell is left by these filters.');
  return {node, focus: () => false, repaint: () => {}, find: () => null};
}

async function enter(box, pair) {
  const base = state.zoom.length ? state.zoom[state.zoom.length - 1] : [0, 0, 0, 0];
  const inside = [box[0] + base[0], box[1] + base[0], box[2] + base[2], box[3] + base[2]];
  await update({zoom: [...state.zoom, inside]}, {push: true});
  const found = pair && shown.find(...pair);
  if (found) shown.focus(found.row, found.column);
  else shown.focus(0, 0);
}

async function zoomOut() {
  if (!state.zoom.length) return;
  await update({zoom: state.zoom.slice(0, -1)}, {push: true});
  shown.focus(0, 0);
}

async function openCell(source, destination) {
  const inside = document.activeElement?.closest('#view, #cell');
  await update({cell: [source, destination]}, {zoomKept: true, push: true});
  const panel = byId('cell');
  if (inside) panel.focus({preventScroll: true});
  const box = panel.getBoundingClientRect();
  if (box.top < 0 || box.top > window.innerHeight * 0.7) panel.scrollIntoView({block: 'start'});
  announce(panel.querySelector('.headline') ? `${NAMES[source]} to ${NAMES[destination]}, `
    + panel.querySelector('.headline').textContent : 'not tested');
}

async function closeCell() {
  const cell = state.cell;
  if (!cell) return;
  await update({cell: null}, {zoomKept: true, push: true});
  const found = shown.find(...cell);
  if (found) shown.focus(found.row, found.column);
  else byId('view').querySelector('[tabindex="0"]')?.focus();
}

async function showCell(mine) {
  const panel = byId('cell');
  panel.parentElement.classList.toggle('open', Boolean(state.cell));
  panel.hidden = !state.cell;
  if (!state.cell) {
    panel.replaceChildren();
    return;
  }
  const parts = await cellPanel(...state.cell);
  if (mine === turn) panel.replaceChildren(...parts);
}

function failed(reason) {
  const banner = byId('broken');
  banner.hidden = false;
  banner.textContent = `The matrix cannot be shown here (${reason}). Findings and lists are whole.`;
  byId('app').hidden = true;
}

function start() {
  if (!byId('app')) {
    Object.assign(state, {hidden: new Set()});
    themes();
    copies();
    return;
  }
  if (typeof DecompressionStream === 'undefined') throw new Error('the browser is too old');
  byId('app').hidden = false;
  Object.assign(state, fromHash(location.hash));
  prepare();
  printing();
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && state.cell && event.target.closest('#cell')) closeCell();
  });
  window.addEventListener('popstate', () => {
    if (location.hash && !location.hash.includes('=')) return;  // a link within the page
    Object.assign(state, fromHash(location.hash));
    show().then(reveal);
  });
  let width = window.innerWidth;
  window.addEventListener('resize', () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    show();
  });
  return show().then(() => {
    if (location.hash.includes('=')) byId('matrix').scrollIntoView();
    reveal();
  });
}

// Brings the open cell into view where the table is wider than the page.
function reveal() {
  const found = state.cell && shown.find(...state.cell);
  if (found) found.cell.scrollIntoView({block: 'nearest', inline: 'center'});
}

start();
