// What the reader can choose: run, probe, grouping, filters, theme; and what is shown of it.

function radios(id, name, options, chosenValue, choose) {
  const field = byId(id);
  field.hidden = options.length < 2;
  if (!field.querySelector('input')) {
    field.append(...options.map(({value, text, note}) => element('label', {},
      element('input', {type: 'radio', name, value, onchange: () => choose(value)}),
      element('span', {}, text, note ? element('small', {}, ` ${note}`) : null))));
  }
  for (const input of field.querySelectorAll('input')) {
    input.checked = input.value === String(chosenValue);
  }
}

function controls() {
  const test = testOf(state.key);
  const now = () => testOf(state.key);
  const families = [...new Set(DATA.tests.map((t) => t.family))];
  const probes = [...new Set(DATA.tests.map((t) => t.probe))];
  const pick = (probe, family) => {
    const own = DATA.tests.filter((t) => t.probe === probe);
    update({key: (own.find((t) => t.family === family) || own[0]).key}, {zoomKept: true});
  };
  if (DATA.turns) {
    radios('sides', 'run', viewTitles().map((text, value) => ({value, text})), state.view,
      (view) => update({view, hidden: new Set()}, {zoomKept: true}));
  }
  radios('probes', 'probe', probes.map((probe) => ({
    value: probe, text: probe,
    note: DATA.tests.find((t) => t.probe === probe).required ? 'required' : 'recommended',
  })), test.probe, (probe) => pick(probe, now().family));
  radios('families', 'family', families.map((family) => ({
    value: family, text: familyTitle(family),
  })), test.family, (family) => pick(now().probe, family));
  const group = byId('group');
  byId('grouping').hidden = !DATA.groupings.length;
  if (!group.options.length) group.append(
    ...DATA.groupings.map((grouping, i) => element('option', {value: i}, grouping.title)),
    element('option', {value: -1}, 'nothing: as in the inventory'));
  group.value = String(state.group);
  for (const name of ['from', 'to']) if (byId(name).value !== state[name]) byId(name).value = state[name];
  byId('clear').hidden = !(state.from || state.to || state.finding || state.hidden.size
    || state.zoom.length);
}

function viewTitles() {
  return [...DATA.sides.map((side) => side.name), 'Difference'];
}

function familyTitle(family) {
  return family === 'ipv6' ? 'IPv6' : 'IPv4';
}

function prepare() {
  byId('group').addEventListener('change', (event) => update({group: Number(event.target.value)}));
  for (const name of ['from', 'to']) {
    byId(name).addEventListener('input', (event) => update({[name]: event.target.value}));
  }
  byId('controls').addEventListener('submit', (event) => event.preventDefault());
  byId('clear').addEventListener('click', () => {
    update({from: '', to: '', finding: '', hidden: new Set()});
    byId('from').focus();
  });
  const labels = [...new Set(DATA.nodes.labels.flat())];
  const choices = [...labels, ...NAMES].slice(0, 2000);
  byId('choices').replaceChildren(...choices.map((value) => element('option', {value})));
  themes();
  copies();
  shows();
}

// The kinds of cells that occur: each can be left out. `counts` are of what is shown.
function legend(all, counts) {
  const field = byId('legend');
  const own = kindsIn(state.view);
  const chips = own.map((kind, i) => [kind, counts[i]])
    .filter(([kind, count], i) => (kind.colour === 'none' ? count
      : all[i] || state.hidden.has(kind.sign)))
    .sort((a, b) => rankOf(b[0]) - rankOf(a[0]))
    .map(([kind, count]) => {
      if (kind.colour === 'none') {
        return element('span', {class: 'chip'}, swatch(kind), kind.words, ' ',
          element('b', {}, grouped(count)));
      }
      const input = element('input', {type: 'checkbox', value: kind.sign});
      input.checked = !state.hidden.has(kind.sign);
      input.addEventListener('change', () => {
        const hidden = new Set(state.hidden);
        if (input.checked) hidden.delete(kind.sign);
        else hidden.add(kind.sign);
        update({hidden});
      });
      return element('label', {class: 'chip'}, input, swatch(kind), kind.words, ' ',
        element('b', {}, grouped(count)));
    });
  const focused = document.activeElement && field.contains(document.activeElement)
    ? document.activeElement.value : null;
  field.replaceChildren(field.querySelector('legend'), ...chips);
  const again = [...field.querySelectorAll('input')].find((input) => input.value === focused);
  if (again) again.focus();
}

function swatch(kind) {
  return element('span', {class: `swatch k-${kind.colour}`, 'aria-hidden': 'true'}, kind.sign);
}

function themes() {
  const button = byId('theme');
  const names = ['system', 'light', 'dark'];
  let now = 0;
  try { now = Math.max(0, names.indexOf(localStorage.getItem('preflight-theme'))); } catch { now = 0; }
  const apply = () => {
    if (now) document.documentElement.dataset.theme = names[now];
    else delete document.documentElement.dataset.theme;
    button.textContent = `Theme: ${names[now]}`;
    if (shown.repaint) shown.repaint();
  };
  button.addEventListener('click', () => {
    now = (now + 1) % names.length;
    try { localStorage.setItem('preflight-theme', names[now]); } catch { /* kept for this page */ }
    apply();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', apply);
  button.hidden = false;
  apply();
}

// Commands get a button that copies all of a block.
function copies() {
  for (const block of document.querySelectorAll('.command')) {
    const text = block.querySelector('pre').textContent;
    block.append(element('button', {
      type: 'button', class: 'plain', 'aria-label': 'Copy these commands',
      onclick: (event) => copy(text, event.currentTarget),
    }, 'Copy'));
  }
}

// Findings with cells get a button that shows these alone.
function shows() {
  for (const article of document.querySelectorAll('[data-finding]')) {
    const [side, id] = [Number(article.dataset.side || 0), article.dataset.finding];
    const finding = DATA.sides[side].findings.find((f) => f.id === id);
    if (!finding || !finding.blocks.length) continue;
    const tests = finding.blocks.flatMap((block) => block[3]);
    article.append(element('p', {class: 'act'}, element('button', {
      type: 'button', class: 'plain',
      onclick: () => {
        const view = DATA.turns ? side : 0;
        update({view, finding: id, from: '', to: '', hidden: new Set(),
          key: tests.includes(state.key) ? state.key : tests[0]});
        byId('matrix').scrollIntoView();
      },
    }, 'Show in the matrix')));
  }
}
