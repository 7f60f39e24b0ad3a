// The cells: unpacked when they are first looked at, as a kind for each pair of the page's nodes.

const DATA = JSON.parse(byId('data').textContent);
const NAMES = DATA.nodes.names;
const COUNT = NAMES.length;
const SELF = 255;  // a node and itself
const ARRAYS = {1: Uint8Array, 2: Uint16Array, 4: Uint32Array};
const DIFFERENCE = DATA.sides.length;  // the number of the view that compares both runs

// Cell kinds as the page shows them: sign, words, colour.
const KINDS = DATA.kinds.map(([sign, words, colour]) => ({sign, words, colour}));
const NONE = KINDS.findIndex((kind) => kind.colour === 'none');
const TURNS = DATA.turns
  ? DATA.turns.kinds.map(([sign, words, colour]) => ({sign, words, colour})) : [];

const unpacked = new Map();

async function unpack(id) {
  if (!unpacked.has(id)) unpacked.set(id, inflate(byId(id).textContent));
  return unpacked.get(id);
}

async function inflate(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Response(stream).arrayBuffer();
}

// The positions that a side's own matrix has for the page's nodes; null: the same.
function positionIn(side, node) {
  return side.nodes ? side.nodes[node] : node;
}

// The number of one cell in a side's table of outcomes; 0 where it was not planned.
async function numberOf(side, key, source, destination) {
  const test = side.tests[key];
  const [s, d] = [positionIn(side, source), positionIn(side, destination)];
  if (!test || s < 0 || d < 0) return 0;
  const numbers = new ARRAYS[test.width](await unpack(test.cells));
  return numbers[s * side.size + d];
}

// One cell's round-trip time in milliseconds, or null.
async function timeOf(side, key, source, destination) {
  const test = side.tests[key];
  const [s, d] = [positionIn(side, source), positionIn(side, destination)];
  if (!test || !test.times || s < 0 || d < 0) return null;
  const code = new Uint8Array(await unpack(test.times))[s * side.size + d];
  return code ? DATA.ms[code - 1] : null;
}

let latest = {};

// For every source, destination the kind of its cell, in one array; of the view last shown.
async function kindsOf(view, key) {
  if (latest.view !== view || latest.key !== key) {
    const found = view === DIFFERENCE ? await turnsOf(key) : await ownKinds(DATA.sides[view], key);
    for (let node = 0; node < COUNT; node += 1) found[node * COUNT + node] = SELF;
    latest = {view, key, found};
  }
  return latest.found;
}

async function turnsOf(key) {
  const id = DATA.turns.tests[key];
  return id ? new Uint8Array(await unpack(id)).slice()
    : new Uint8Array(COUNT * COUNT).fill(kindsIn(DIFFERENCE).findIndex((k) => k.colour === 'none'));
}

async function ownKinds(side, key) {
  const found = new Uint8Array(COUNT * COUNT).fill(NONE);
  const test = side.tests[key];
  if (!test) return found;
  const numbers = new ARRAYS[test.width](await unpack(test.cells));
  const kinds = Uint8Array.from(side.kinds);
  if (!side.nodes) {
    for (let i = 0; i < numbers.length; i += 1) found[i] = kinds[numbers[i]];
    return found;
  }
  for (let source = 0; source < COUNT; source += 1) {
    const own = side.nodes[source];
    if (own < 0) continue;
    for (let destination = 0; destination < COUNT; destination += 1) {
      const there = side.nodes[destination];
      if (there >= 0) {
        found[source * COUNT + destination] = kinds[numbers[own * side.size + there]];
      }
    }
  }
  return found;
}

function kindsIn(view) {
  return view === DIFFERENCE ? TURNS : KINDS;
}
