// What is being looked at. It is kept in the address, so that a link leads to the same view.

const state = {};

function initial() {
  const worst = DATA.tests.find((test) => test.key === DATA.first) || DATA.tests[0];
  return {
    view: DATA.turns ? DIFFERENCE : 0,
    key: worst.key,
    group: DATA.groupings.length ? 0 : -1,
    from: '',
    to: '',
    finding: '',
    hidden: new Set(),  // signs
    zoom: [],  // each [first row, last row, first column, last column] of what the filters leave
    cell: null,
  };
}

function testOf(key) {
  return DATA.tests.find((test) => test.key === key);
}

function viewNames() {
  const names = DATA.sides.map((side, i) => (DATA.turns ? ['before', 'after'][i] : 'run'));
  return DATA.turns ? [...names, 'difference'] : names;
}

function toHash() {
  const told = new URLSearchParams();
  const first = initial();
  const test = testOf(state.key);
  if (state.view !== first.view) told.set('run', viewNames()[state.view]);
  if (state.key !== first.key) {
    told.set('probe', test.probe);
    if (severalFamilies()) told.set('over', test.family);
  }
  if (state.group !== first.group) {
    told.set('by', state.group < 0 ? 'none' : DATA.groupings[state.group].title);
  }
  for (const name of ['from', 'to', 'finding']) if (state[name]) told.set(name, state[name]);
  if (state.hidden.size) told.set('without', [...state.hidden].join(''));
  if (state.zoom.length) told.set('zoom', state.zoom.map((box) => box.join('-')).join('_'));
  if (state.cell) told.set('cell', state.cell.map(idOf).join('~'));
  return told.toString();
}

function fromHash(hash) {
  const told = new URLSearchParams(hash.replace(/^#/, ''));
  const found = initial();
  const view = viewNames().indexOf(told.get('run'));
  if (view >= 0) found.view = view;
  if (told.has('probe')) {
    const own = DATA.tests.filter((test) => test.probe === told.get('probe'));
    const test = own.find((t) => t.family === told.get('over')) || own[0];
    if (test) found.key = test.key;
  }
  if (told.has('by')) {
    found.group = DATA.groupings.findIndex((grouping) => grouping.title === told.get('by'));
  }
  for (const name of ['from', 'to', 'finding']) found[name] = told.get(name) || '';
  found.hidden = new Set(told.get('without') || '');
  if (told.has('zoom')) {
    const boxes = told.get('zoom').split('_').map((box) => box.split('-').map(Number));
    if (boxes.every((b) => b.length === 4 && b.every(Number.isInteger))) found.zoom = boxes;
  }
  if (told.has('cell')) {
    const pair = told.get('cell').split('~').map(nodeOf);
    if (pair.length === 2 && !pair.includes(-1) && pair[0] !== pair[1]) found.cell = pair;
  }
  return found;
}

// A node by its name, or by its number where two have one name or a name has the separator.
const positions = new Map();
NAMES.forEach((name, i) => positions.set(name, positions.has(name) ? -1 : i));

function idOf(node) {
  const name = NAMES[node];
  return positions.get(name) === node && !/[~#]/.test(name) ? name : `#${node}`;
}

function nodeOf(id) {
  if (/^#\d+$/.test(id)) return Number(id.slice(1)) < COUNT ? Number(id.slice(1)) : -1;
  return positions.has(id) ? positions.get(id) : -1;
}

function severalFamilies() {
  return new Set(DATA.tests.map((test) => test.family)).size > 1;
}
