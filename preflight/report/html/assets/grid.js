// Few cells: a table with a row for each source and a column for each destination.

const UPRIGHT = 8;  // columns up to which short names stand as they are

function cellGrid(kinds, part) {
  const own = kindsIn(state.view);
  const [rowGroups, columnGroups] = [groupsOf(part.rows), groupsOf(part.columns)];
  const heads = new Map();
  const columnHead = (node, i) => {
    const edge = columnGroups.some((group) => group.first === i && i > 0);
    const head = element('th', {scope: 'col', title: NAMES[node], class: edge ? 'edge' : null},
      element('span', {}, SHORT[node]));
    heads.set(`d${node}`, head);
    return head;
  };
  const banded = state.group >= 0;
  const table = element('table', {
    role: 'grid', class: `grid ${pace(part)}`, 'aria-describedby': 'told',
    'aria-label': `${testOf(state.key).heading}: rows send, columns receive`,
  });
  const head = element('thead');
  if (banded) {
    head.append(element('tr', {class: 'groups'}, element('td', {colspan: 2, role: 'none'}),
      columnGroups.map((group, i) => element('th', {
        scope: 'colgroup', colspan: group.last - group.first + 1, class: i ? 'edge' : null,
        title: group.name,
      }, element('span', {}, group.name)))));
  }
  head.append(element('tr', {class: 'names'}, element('td', {colspan: banded ? 2 : 1, role: 'none'}),
    part.columns.map(columnHead)));
  const body = element('tbody');
  const cells = part.rows.map((source, r) => {
    const group = rowGroups.find((g) => g.first === r);
    const name = element('th', {scope: 'row', title: NAMES[source], class: 'name'}, SHORT[source]);
    heads.set(`s${source}`, name);
    const line = part.columns.map((destination, c) => gridCell(
      kinds[source * COUNT + destination], own, source, destination, part.shows,
      columnGroups.some((g) => g.first === c && c > 0)));
    body.append(element('tr', {class: group && r ? 'edge' : null},
      banded && group ? element('th', {
        scope: 'rowgroup', rowspan: group.last - group.first + 1, class: 'group', title: group.name,
      }, element('span', {}, group.name)) : null,
      name, line));
    return line;
  });
  table.append(head, body);
  const open = (r, c) => {
    if (part.rows[r] !== part.columns[c]) openCell(part.rows[r], part.columns[c]);
  };
  const focus = roving(table, cells, {open, back: () => (state.cell ? closeCell() : zoomOut())});
  lighting(table, heads, cells, part);
  hover(table, (event) => event.target.closest('[role=gridcell]')?.getAttribute('aria-label'));
  const find = (source, destination) => {
    const [r, c] = [part.rows.indexOf(source), part.columns.indexOf(destination)];
    return r < 0 || c < 0 ? null : {row: r, column: c, cell: cells[r][c]};
  };
  return {node: element('div', {class: 'sheet'}, table), focus, repaint: () => {}, find};
}

function gridCell(number, own, source, destination, shows, edge) {
  const classes = edge ? ['edge'] : [];
  const label = (words) => `${NAMES[source]} \u2192 ${NAMES[destination]}: ${words}`;
  if (number === SELF) {
    return element('td', {
      role: 'gridcell', tabindex: -1, class: [...classes, 'self'].join(' '),
      'aria-label': `${NAMES[source]}: the same node`,
    });
  }
  const kind = own[number];
  classes.push(`k-${kind.colour}`);
  if (!shows[number]) classes.push('faint');
  if (state.cell && state.cell[0] === source && state.cell[1] === destination) classes.push('opened');
  return element('td', {
    role: 'gridcell', tabindex: -1, class: classes.join(' '), 'aria-label': label(kind.words),
  }, kind.sign.trim());
}

// How large the cells are, and whether the names above them stand upright.
function pace({columns}) {
  const large = columns.length <= 8 ? 'huge' : columns.length <= 16 ? 'large'
    : columns.length <= 40 ? 'medium' : 'small';
  const long = Math.max(...columns.map((node) => SHORT[node].length));
  return `${large}${columns.length <= UPRIGHT && long <= 6 ? '' : ' tilted'}`;
}

// The names of the row and the column that the mouse or the focus is in.
function lighting(table, heads, cells, part) {
  let lit = [];
  const where = new Map();
  cells.forEach((line, r) => line.forEach((cell, c) => where.set(cell, [r, c])));
  const light = (cell) => {
    for (const head of lit) head.classList.remove('lit');
    const at = where.get(cell);
    lit = at ? [heads.get(`s${part.rows[at[0]]}`), heads.get(`d${part.columns[at[1]]}`)] : [];
    for (const head of lit) head.classList.add('lit');
  };
  table.addEventListener('pointerover', (event) => light(event.target.closest('[role=gridcell]')));
  table.addEventListener('focusin', (event) => light(event.target));
  table.addEventListener('pointerleave', () => light(document.activeElement));
}
