// The part of the matrix that is drawn: as cells where they are few, as blocks where they are many.

const FEW = 64;  // rows or columns that are drawn one by one
const BLOCKS = 40;  // a side has at most so many blocks

// Cut to the last zoom.
function zoomed({rows, columns}) {
  const box = state.zoom[state.zoom.length - 1];
  if (!box) return {rows, columns};
  return {rows: rows.slice(box[0], box[1] + 1), columns: columns.slice(box[2], box[3] + 1)};
}

function isSmall({rows, columns}) {
  return rows.length <= FEW && columns.length <= FEW;
}

// Runs of nodes of one group: [{name, first, last}], positions in `nodes`.
function groupsOf(nodes) {
  if (state.group < 0) return [{name: '', first: 0, last: nodes.length - 1}];
  const {of, names} = DATA.groupings[state.group];
  const found = [];
  nodes.forEach((node, i) => {
    const last = found[found.length - 1];
    if (last && last.of === of[node]) last.last = i;
    else found.push({name: names[of[node]], of: of[node], first: i, last: i});
  });
  return found;
}

// Where a side is cut for an overview: by nodes where they are few, by groups, by several together, or by runs of names.
function blocksOf(nodes) {
  if (nodes.length <= BLOCKS) return nodes.map((node, i) => ({name: SHORT[node], first: i, last: i}));
  const groups = groupsOf(nodes);
  if (groups.length > BLOCKS) return merged(groups, Math.ceil(groups.length / BLOCKS));
  if (groups.length > 1) return groups;
  const size = Math.ceil(nodes.length / Math.ceil(nodes.length / (nodes.length > 1280 ? 320 : 32)));
  const parts = [];
  for (let first = 0; first < nodes.length; first += size) {
    const last = Math.min(first + size, nodes.length) - 1;
    parts.push({name: between(NAMES[nodes[first]], NAMES[nodes[last]]), first, last});
  }
  return parts.length > BLOCKS ? merged(parts, Math.ceil(parts.length / BLOCKS)) : parts;
}

function merged(parts, size) {
  const found = [];
  for (let i = 0; i < parts.length; i += size) {
    const own = parts.slice(i, i + size);
    const last = own[own.length - 1];
    found.push({
      name: own.length > 1 ? between(own[0].name, last.name) : last.name,
      first: own[0].first,
      last: last.last,
    });
  }
  return found;
}

function between(first, last) {
  if (first === last) return first;
  const end = last.includes('\u2026') ? last.split(' \u2026 ')[1] : last;
  return `${first.split(' \u2026 ')[0]} \u2026 ${end}`;
}
