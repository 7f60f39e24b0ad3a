// Elements, made without any markup in a string: what a node or a file says stays text.

window.addEventListener('error', (event) => failed(event.message));
window.addEventListener('unhandledrejection', (event) => failed(event.reason));

const byId = (id) => document.getElementById(id);

// element('td', {class: 'x', 'aria-label': y, onclick: f}, 'text', child, ...)
function element(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== '') made.append(child);
  }
  return made;
}

function unseen(text) {
  return element('span', {class: 'unseen'}, text);
}

// Read out by a screen reader, without moving the focus.
function announce(text) {
  byId('live').textContent = text;
}

function grouped(number) {
  return number.toLocaleString('en-US');
}

function plural(number, noun) {
  return `${grouped(number)} ${noun}${number === 1 ? '' : 's'}`;
}

async function copy(text, button) {
  const before = button.textContent;
  let done = 'Copied';
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element('textarea', {class: 'unseen'});
    area.value = text;
    button.after(area);
    area.select();
    if (!document.execCommand('copy')) done = 'Not allowed here';
    area.remove();
    button.focus();
  }
  button.textContent = done;
  announce(done);
  setTimeout(() => { button.textContent = before; }, 1500);
}
