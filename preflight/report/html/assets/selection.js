// Which nodes stand in the rows and which in the columns, and in what order.

// Nodes that a filter names: `rack=a, n1` is every node with that label and those called like n1.
function chosen(text) {
  const terms = text.toLowerCase().split(',').map((term) => term.trim()).filter(Boolean);
  if (!terms.length) return null;
  const exact = new Set(NAMES.map((name) => name.toLowerCase()));
  return NAMES.map((name, i) => terms.some((term) => {
    if (term.includes('=')) return DATA.nodes.labels[i].some((l) => l.toLowerCase() === term);
    if (exact.has(term)) return name.toLowerCase() === term;
    return name.toLowerCase().includes(term)
      || DATA.nodes.addresses[i].some((address) => address.startsWith(term));
  }));
}

// All nodes, those of one group side by side.
function ordered() {
  const all = NAMES.map((_, i) => i);
  if (state.group < 0) return all;
  const {of} = DATA.groupings[state.group];
  return all.sort((a, b) => of[a] - of[b] || a - b);
}

// The finding that is shown alone, with the run it belongs to; null where there is none.
function findingShown() {
  if (!state.finding) return null;
  const sides = state.view === DIFFERENCE ? [...DATA.sides].reverse() : [DATA.sides[state.view]];
  for (const side of sides) {
    const finding = side.findings.find((f) => f.id === state.finding);
    if (finding) return {finding, side};
  }
  return null;
}

// Rows and columns that the filters leave: first of all nodes, then without what has no cell to show.
function selected(kinds) {
  const order = ordered();
  const [from, to] = [chosen(state.from), chosen(state.to)];
  let rows = order.filter((node) => !from || from[node]);
  let columns = order.filter((node) => !to || to[node]);
  const shown = findingShown();
  if (shown && shown.finding.blocks.length) {
    const part = (node, ends) => shown.finding.blocks.some((block) => ends(block).some(
      (runs) => within(runs, positionIn(shown.side, node))));
    rows = rows.filter((node) => part(node, (b) => (b[2] ? [b[0], b[1]] : [b[0]])));
    columns = columns.filter((node) => part(node, (b) => (b[2] ? [b[0], b[1]] : [b[1]])));
  }
  return withCells(rows, columns, kinds);
}

function withCells(rows, columns, kinds) {
  const own = kindsIn(state.view);
  const counts = new Array(own.length).fill(0);
  const shows = Uint8Array.from({length: 256}, (_, kind) => Number(
    kind < own.length && own[kind].colour !== 'none' && !state.hidden.has(own[kind].sign)));
  const [rowHas, columnHas] = [new Uint8Array(COUNT), new Uint8Array(COUNT)];
  const tally = new Float64Array(256);
  for (const row of rows) {
    const start = row * COUNT;
    for (const column of columns) {
      const kind = kinds[start + column];
      tally[kind] += 1;
      if (shows[kind]) {
        rowHas[row] = 1;
        columnHas[column] = 1;
      }
    }
  }
  counts.forEach((_, kind) => { counts[kind] = tally[kind]; });
  return {
    rows: rows.filter((node) => rowHas[node]),
    columns: columns.filter((node) => columnHas[node]),
    counts,
    shows,
  };
}
