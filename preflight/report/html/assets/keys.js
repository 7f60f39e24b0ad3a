// Moving about in a grid by keyboard: one cell can be tabbed to, arrows go on from there.

const STRIDE = 8;  // cells that a page key goes

// `cells` are rows of elements; null where there is none. Answers a function that focuses one.
function roving(container, cells, {open, back}) {
  let at = null;

  const place = (row, column, focus) => {
    const cell = cells[row] && cells[row][column];
    if (!cell) return false;
    if (at) cells[at[0]][at[1]].tabIndex = -1;
    at = [row, column];
    cell.tabIndex = 0;
    if (focus) cell.focus();
    return true;
  };

  const where = new Map();
  cells.forEach((row, r) => row.forEach((cell, c) => { if (cell) where.set(cell, [r, c]); }));
  const first = where.values().next().value;
  if (first) place(...first, false);

  container.addEventListener('focusin', (event) => {
    const found = where.get(event.target);
    if (found) place(...found, false);
  });
  container.addEventListener('click', (event) => {
    const cell = event.target.closest('[role=gridcell]');
    if (!where.has(cell)) return;
    place(...where.get(cell), true);
    open(...where.get(cell), event);
  });
  container.addEventListener('keydown', (event) => {
    if (!at || !where.has(event.target) || event.altKey || event.metaKey) return;
    const [height, width] = [cells.length, cells[0].length];
    const [row, column] = at;
    const all = event.ctrlKey;
    const goals = {
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      PageUp: [Math.max(0, row - STRIDE), column],
      PageDown: [Math.min(height - 1, row + STRIDE), column],
      Home: [all ? 0 : row, 0],
      End: [all ? height - 1 : row, width - 1],
    };
    if (goals[event.key]) place(...goals[event.key], true);
    else if (event.key === 'Enter' || event.key === ' ') open(...at, event);
    else if (event.key === 'Escape') back();
    else return;
    event.preventDefault();
  });
  return (row, column) => place(row, column, true);
}
