// Printing.

// On paper everything that is folded is told, and in the light colours.
function printing() {
  let folded = [];
  let theme;
  window.addEventListener('beforeprint', () => {
    folded = [...document.querySelectorAll('details:not([open]):not(.long)')];
    for (const part of folded) part.open = true;
    theme = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = 'light';
    if (shown.repaint) shown.repaint();
  });
  window.addEventListener('afterprint', () => {
    for (const part of folded) part.open = false;
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    if (shown.repaint) shown.repaint();
  });
}
