// A cell's story: the words are the data's own, here only names and counts are put in.

const [LEG, PLACE, VANTAGE, MARK, TEXT] = [0, 1, 2, 3, 4];
const LOST = DATA.words.marks.indexOf('lost');
const PATH = 1;

function withNames(text, source, destination) {
  return text.replace(/[\u0001\u0002]/g, (end) => (end === '\u0001' ? source : destination));
}

// Everything there is to tell of one cell of one run; null where it was not planned.
async function storyOf(side, test, source, destination) {
  const number = await numberOf(side, test.key, source, destination);
  if (!number) return null;
  const [headline, shape, unfound, advice, ...says] = side.tests[test.key].tales[number];
  const own = [positionIn(side, source), positionIn(side, destination)];
  const findings = side.findings.filter((finding) => holds(finding, test.key, ...own));
  const close = findings.find((f) => f.sample && f.sample[0] === test.key
    && f.sample[1] === own[0] && f.sample[2] === own[1]);
  const names = [NAMES[source], NAMES[destination]];
  const told = (text) => withNames(DATA.strings[text], ...names);
  const steps = DATA.shapes[close ? close.sample[3] : shape].map((step) => ({
    leg: step[LEG],
    place: step[PLACE],
    vantage: step[VANTAGE] < 0 ? '' : DATA.words.vantages[step[VANTAGE]],
    seen: step[VANTAGE] < 0 ? null : side.seen[number][step[VANTAGE]],
    mark: DATA.words.marks[step[MARK]],
    text: [told(step[TEXT]), ...(close || step[MARK] !== LOST ? []
      : blame(findings, own, step, unfound))].join('; '),
  }));
  const time = await timeOf(side, test.key, source, destination);
  return {
    test,
    kind: KINDS[side.kinds[number]],
    headline: told(headline),
    steps,
    says: says.map(told),
    aside: test.oneWay ? withNames(DATA.words.noAnswer, ...names) : '',
    took: time === null ? '' : withNames(DATA.words.took, `about ${time.toPrecision(2)}`),
    advice: findings.length ? '' : told(advice),
    findings,
  };
}

// What its findings say of the node that lost it, or of one that could not be found.
function blame(findings, own, step, unfound) {
  const all = findings.flatMap((finding) => finding.accuses);
  const node = step[PLACE] === PATH ? -1 : own[step[PLACE] === 0 ? 0 : 1];
  const named = all.filter(([who, leg]) => who === node && (leg === -1 || leg === step[LEG]));
  if (named.length || !unfound) return named.map((accusation) => accusation[2]);
  const told = all.filter((a) => a.length > 3 && own.includes(a[0]))
    .map((a) => a[a[0] === own[1] ? 4 : 3]);
  return [...new Set(told)];
}

// Whether a cell is part of a finding.
function holds(finding, key, source, destination) {
  return finding.blocks.some(([sources, destinations, both, tests]) => tests.includes(key)
    && ((within(sources, source) && within(destinations, destination))
      || (both === 1 && within(sources, destination) && within(destinations, source))));
}

// Whether runs, given as first and last of each, hold a position.
function within(runs, position) {
  for (let i = 0; i < runs.length; i += 2) {
    if (position >= runs[i] && position <= runs[i + 1]) return true;
  }
  return false;
}
