// Sort a table by a column: click its head, or press Enter on it.
const SIZES = { k: 1e3, M: 1e6, G: 1e9, min: 60, h: 3600 };
const number = (text) => {
  const [, digits, unit] = text.replace("−", "-").match(/^([-+]?[\d.]+(?:e[-+]?\d+)?)\s*(\S*)/) ?? [];
  return digits === undefined ? NaN : parseFloat(digits) * (SIZES[unit] ?? 1);
};
const compare = (one, other) => {
  const [a, b] = [number(one), number(other)];
  return isNaN(a) || isNaN(b) ? isNaN(a) - isNaN(b) || one.localeCompare(other) : a - b;
};
document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("th").forEach((head) => {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const sign = head.ariaSort === "ascending" ? -1 : 1;
    for (const each of head.parentNode.cells) each.removeAttribute("aria-sort");
    head.ariaSort = sign > 0 ? "ascending" : "descending";
    const body = head.closest("table").tBodies[0], text = (row) => row.cells[head.cellIndex].textContent.trim();
    const missing = (row) => text(row) === "–";
    body.append(...[...body.rows].sort((a, b) => missing(a) - missing(b) || sign * compare(text(a), text(b))));
  });
}));
