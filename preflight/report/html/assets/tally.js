// How many cells of each kind are in each block.

function tallied(kinds, {rows, columns}, rowBlocks, columnBlocks) {
  const width = kindsIn(state.view).length;
  const place = new Uint16Array(columns.length);
  columnBlocks.forEach((block, i) => place.fill(i, block.first, block.last + 1));
  return rowBlocks.map((rowBlock) => {
    const counts = new Float64Array(columnBlocks.length * 256);
    for (let row = rowBlock.first; row <= rowBlock.last; row += 1) {
      const start = rows[row] * COUNT;
      for (let column = 0; column < columns.length; column += 1) {
        counts[place[column] * 256 + kinds[start + columns[column]]] += 1;
      }
    }
    return columnBlocks.map((_, i) => Array.from(counts.subarray(i * 256, i * 256 + width)));
  });
}

// Kinds from what matters most: the order in which a picture keeps one of many, and words are told.
const RANK = ['none', 'open', 'once', 'still', 'mended', 'eased', 'unknown', 'lost', 'closed',
  'lossy', 'otherwise', 'place', 'source', 'destination', 'path', 'worse', 'broken'];

function rankOf(kind) {
  return RANK.indexOf(kind.colour);
}

// `40 open, 60 blocked on the path`, what matters most first.
function inWords(counts, kinds) {
  return counts.map((count, i) => [count, kinds[i]])
    .filter(([count, kind]) => count && kind.colour !== 'none')
    .sort((a, b) => rankOf(b[1]) - rankOf(a[1]))
    .map(([count, kind]) => `${grouped(count)} ${kind.words}`)
    .join(', ') || 'nothing tested';
}

// The kind that matters most of those that occur; null where nothing was tested.
function worst(counts, kinds) {
  let found = null;
  counts.forEach((count, i) => {
    if (count && kinds[i].colour !== 'none' && (!found || rankOf(kinds[i]) > rankOf(found))) {
      found = kinds[i];
    }
  });
  return found;
}
