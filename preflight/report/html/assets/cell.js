// One pair, opened: for each probe the story along the vantage points.

const MARKS = {passed: '\u2713', lost: '\u2715', nothing: '\u2013', unknown: '?'};
const LEGS = ['There', 'Back'];

async function cellPanel(source, destination) {
  const current = testOf(state.key);
  const tests = [current, ...DATA.tests.filter((test) => test !== current)];
  const told = [];
  for (const test of tests) {
    const runs = [];
    for (const side of DATA.sides) {
      runs.push({side, story: await storyOf(side, test, source, destination)});
    }
    if (runs.some((run) => run.story)) told.push({test, runs});
  }
  const parts = [
    element('div', {class: 'cell-top'},
      element('h3', {id: 'cell-head'}, NAMES[source], ' \u2192 ', NAMES[destination]),
      element('div', {class: 'buttons'},
        element('button', {
          type: 'button', class: 'plain', onclick: () => openCell(destination, source),
          'aria-label': `The way back: ${NAMES[destination]} \u2192 ${NAMES[source]}`,
        }, 'The way back'),
        element('button', {
          type: 'button', class: 'plain', onclick: (event) => copy(location.href, event.currentTarget),
        }, 'Copy link'),
        element('button', {type: 'button', class: 'plain', id: 'close', onclick: closeCell}, 'Close'))),
    ...told.map((one) => testPart(one, source, destination)),
  ];
  if (!told.length) parts.push(element('p', {}, 'This pair was not tested.'));
  return parts;
}

function testPart({test, runs}, source, destination) {
  const several = runs.length > 1;
  const told = runs.map(({side, story}) => {
    const head = several ? element('h5', {}, side.name) : null;
    if (!story) return element('div', {class: 'run'}, head, element('p', {}, 'not tested'));
    const brief = story.kind.colour === 'open' && test.key !== state.key;
    return element('div', {class: 'run'}, head, storyPart(story, source, destination, brief));
  });
  return element('section', {class: 'story'}, element('h4', {}, test.heading),
    element('div', {class: several ? 'runs' : ''}, told));
}

function storyPart(story, source, destination, brief) {
  const is = story.kind;
  return [
    element('p', {class: 'headline'},
      element('span', {class: `swatch k-${is.colour}`, 'aria-hidden': 'true'}, is.sign),
      element('strong', {}, story.headline)),
    brief ? element('p', {class: 'soft'}, story.steps.filter((step) => step.vantage)
      .map((step) => `${step.vantage} ${step.seen === null ? '\u2013' : step.seen}`)
      .join(' \u2192 ')) : null,
    story.steps.length && !brief ? way(story, source, destination) : null,
    story.says.map((text) => element('p', {}, text)),
    story.aside ? element('p', {class: 'soft'}, story.aside) : null,
    story.took ? element('p', {class: 'soft'}, story.took) : null,
    story.findings.map((finding) => element('p', {class: `see ${finding.style}`},
      element('a', {href: `#${finding.anchor || finding.id}`}, finding.id), ' ', finding.title)),
    story.advice ? element('p', {class: 'advice'}, story.advice) : null,
  ];
}

// The points in the order of travel, under the place where each is.
function way(story, source, destination) {
  const places = [];
  for (const step of story.steps) {
    const head = DATA.words.heads[step.leg][step.place];
    const last = places[places.length - 1];
    if (last && last.head === head && last.leg === step.leg) last.steps.push(step);
    else places.push({head, leg: step.leg, place: step.place, steps: [step]});
  }
  return element('ol', {class: 'way'}, places.map((place, i) => {
    const node = place.place === PATH ? -1 : place.place === 0 ? source : destination;
    const turns = i > 0 && places[i - 1].leg !== place.leg;
    return element('li', {class: `place ${place.place === PATH ? 'path' : 'end'}${turns ? ' turns' : ''}`},
      element('p', {class: 'where'}, bare(place) ? dot(place.steps[0]) : null,
        unseen(`${LEGS[place.leg]}, `), node < 0 ? place.head
        : [element('strong', {}, NAMES[node]), ` ${place.head}, ${addressOf(node, story.test)}`]),
      bare(place) ? null : element('ol', {}, place.steps.map(stepPart)));
  }));
}

// A path of which there is no more to say than whether it was passed.
function bare(place) {
  return place.steps.length === 1 && !place.steps[0].vantage && !place.steps[0].text;
}

function dot(step) {
  return [
    element('span', {class: `dot ${step.mark}`, 'aria-hidden': 'true'}, MARKS[step.mark]),
    unseen(`${step.mark}: `),
  ];
}

function stepPart(step) {
  return element('li', {class: `step ${step.mark}`}, dot(step),
    step.vantage ? element('span', {class: 'vantage'}, step.vantage) : null,
    step.vantage ? element('span', {class: 'seen'}, step.seen === null ? '\u2013' : `${step.seen}`)
      : null,
    element('span', {class: 'says'}, step.text));
}

function addressOf(node, test) {
  const wanted = test.family === 'ipv6';
  return DATA.nodes.addresses[node].find((address) => address.includes(':') === wanted) || '';
}
