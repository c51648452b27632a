"use strict";
(() => {
  const table = document.getElementById("table");
  if (!table) return; // a page of plans or comparisons alone
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => ({
    row,
    detail: document.getElementById(row.dataset.detail),
    text: row.textContent.toLowerCase(),
  }));
  const heads = Array.from(table.tHead.rows[0].cells);
  const controls = document.getElementById("controls");
  const search = document.getElementById("search");
  const selects = Array.from(controls.querySelectorAll("select"));
  const count = document.getElementById("count");

  // Sorting. A figure sorts by its number, a word by its letters; what is unknown stands last both ways.
  const keyOf = (row, place) => {
    const cell = row.cells[place];
    if (!cell || cell.colSpan > 1) return null;
    if (heads[place].classList.contains("number")) {
      return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
    }
    return cell.textContent.trim();
  };
  const words = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) => (typeof a === "number" ? a - b : words.compare(a, b));
  const sortBy = (place) => {
    const head = heads[place];
    const isNumber = head.classList.contains("number");
    const now = head.getAttribute("aria-sort");
    // A figure is first sought from the top, a name from the beginning.
    const next = now === null ? (isNumber ? "descending" : "ascending")
      : now === "descending" ? "ascending" : "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const keyed = rows.map((one, order) => ({ one, order, key: keyOf(one.row, place) }));
    keyed.sort((a, b) => {
      if (a.key === null || b.key === null) {
        return a.key === b.key ? a.order - b.order : a.key === null ? 1 : -1;
      }
      return sign * compare(a.key, b.key) || a.order - b.order;
    });
    body.append(...keyed.map(({ one }) => one.row));
  };
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.textContent = "";
    head.append(button);
    button.addEventListener("click", () => sortBy(place));
  });

  // Filters and search: every word must occur somewhere in the row.
  const choose = () => {
    const sought = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = selects.map((select) => [`a${select.dataset.axis}`, select.value]);
    let shown = 0;
    for (const { row, detail, text } of rows) {
      const fits = wanted.every(([name, value]) => value === "" || row.dataset[name] === value)
        && sought.every((word) => text.includes(word));
      row.hidden = !fits;
      detail.hidden = !fits;
      shown += fits;
    }
    const all = rows.length === 1 ? "1 case" : `${rows.length} cases`;
    count.textContent = shown === rows.length ? all : `${shown} of ${all}`;
  };
  controls.addEventListener("input", choose);
  controls.addEventListener("change", choose);
  const showAll = () => {
    search.value = "";
    selects.forEach((select) => { select.value = ""; });
    choose();
  };
  controls.addEventListener("reset", (event) => {
    event.preventDefault(); // the browser's own reset comes after this event
    showAll();
  });
  window.addEventListener("pageshow", choose); // a browser that comes back to the page fills its boxes again
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.hidden = false;

  // With scripting on the browser keeps what stands in <noscript> as text, so that a page of a thousand cases
  // opens at once. It is the template's own markup, escaped like the rest; it becomes elements when it is seen.
  const fill = (detail) => {
    const waiting = detail.querySelector(":scope > noscript");
    if (waiting) {
      const holder = document.createElement("div");
      holder.innerHTML = waiting.textContent;
      waiting.replaceWith(...holder.childNodes);
    }
  };
  document.addEventListener("toggle", (event) => {
    if (event.target.open && event.target.classList.contains("case")) fill(event.target);
  }, true);

  // A link to a case opens it, and ends a search or a filter that hides it.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) {
      if (target.hidden) showAll();
      fill(target);
      target.open = true;
      target.scrollIntoView();
    }
  };
  window.addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest('a[href^="#"]');
    if (link && link.getAttribute("href") === location.hash) reveal();
  });
  reveal();

  document.getElementById("open-all").addEventListener("click", () => {
    for (const { detail } of rows) {
      if (!detail.hidden) {
        fill(detail);
        detail.open = true;
      }
    }
  });
  document.getElementById("close-all").addEventListener("click", () => {
    rows.forEach(({ detail }) => { detail.open = false; });
  });
  document.getElementById("openers").hidden = false;
})();
