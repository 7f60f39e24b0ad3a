// Where the reader is: what is shown in words, and the way back out.

// How many cells of each kind are shown.
function countsOf(part, kinds) {
  if (!part.rows.length || !part.columns.length) return kindsIn(state.view).map(() => 0);
  const whole = [{first: 0, last: part.rows.length - 1}];
  const across = [{first: 0, last: part.columns.length - 1}];
  return tallied(kinds, part, whole, across)[0][0];
}

// What is shown, in words.
function tell(part, counts) {
  const test = testOf(state.key);
  const run = DATA.turns ? `${viewTitles()[state.view]}, ` : '';
  const over = severalFamilies() ? ` over ${familyTitle(test.family)}` : '';
  const text = `${run}${test.probe}${over}, ${plural(part.rows.length, 'source')} to ${plural(part.columns.length, 'destination')}: `
    + `${inWords(counts, kindsIn(state.view))}.`;
  byId('told').textContent = text;
  announce(text);
}

// The way back out of a zoom or a finding.
function trail(all) {
  const crumbs = [];
  const finding = findingShown();
  if (finding) {
    crumbs.push(element('span', {class: 'chip'}, `Only ${finding.finding.id}: ${finding.finding.title} `,
      element('button', {type: 'button', class: 'plain', onclick: () => update({finding: ''})},
        'Show all')));
  }
  if (state.zoom.length) {
    crumbs.push(element('button', {type: 'button', class: 'plain', onclick: () => update({zoom: []})},
      'Whole matrix'));
    state.zoom.forEach((box, i) => {
      const name = `${side(all.rows, box[0], box[1])} \u2192 ${side(all.columns, box[2], box[3])}`;
      crumbs.push(' \u203a ', i + 1 === state.zoom.length ? element('strong', {}, name)
        : element('button', {
          type: 'button', class: 'plain', onclick: () => update({zoom: state.zoom.slice(0, i + 1)}),
        }, name));
    });
  }
  byId('trail').replaceChildren(...crumbs);
}

// Some of the rows or columns by their group, where they are one, or by the first and the last.
function side(nodes, first, last) {
  const own = nodes.slice(first, last + 1);
  const groups = groupsOf(own);
  const whole = groupsOf(nodes);
  if (state.group >= 0 && whole.some((g) => g.first === first)
    && whole.some((g) => g.last === last)) {
    return between(groups[0].name, groups[groups.length - 1].name);
  }
  return between(NAMES[own[0]], NAMES[own[own.length - 1]]);
}
