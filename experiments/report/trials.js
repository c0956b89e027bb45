// The table of all trials: sorted, filtered, selected and downloaded in the page itself.
(function () {
  const data = study.trials;
  const place = document.getElementById("trials");
  if (!data || !place) return;
  const PAGE = 25;
  const columns = data.columns.map(([name, title, kind]) => ({ name, title, kind }));
  const at = Object.fromEntries(columns.map(({ name }, i) => [name, i + 1])); // 0 is the key
  const byKey = new Map(data.rows.map((row) => [row[0], row]));
  const state = { sort: "", down: false, shown: PAGE, filters: {}, text: "" };

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  const whole = new Intl.NumberFormat("en");
  function text(cell, name) {
    if (cell === null || cell === undefined) return "";
    if (typeof cell !== "number") return String(cell);
    if (name === "trial" || name === "seed") return String(cell);
    return Number.isInteger(cell) ? whole.format(cell) : String(Number(cell.toPrecision(4)));
  }

  function rows() {
    const wanted = Object.entries(state.filters).filter(([, value]) => value !== "");
    const words = state.text.toLowerCase();
    const found = data.rows.filter(
      (row) =>
        wanted.every(([name, value]) => String(row[at[name]]) === value) &&
        (!words || row.some((cell, i) => i && text(cell, columns[i - 1].name).toLowerCase().includes(words))),
    );
    if (!state.sort) return found;
    const i = at[state.sort];
    const turn = state.down ? -1 : 1;
    return found.sort((a, b) => {
      if (a[i] === null || b[i] === null) return (a[i] === null) - (b[i] === null); // empty last
      return turn * (typeof a[i] === "number" ? a[i] - b[i] : String(a[i]).localeCompare(b[i]));
    });
  }

  const count = element("span", { class: "note", "aria-live": "polite", id: "trials-count" });
  const body = element("tbody");
  const more = element("button", { type: "button", onclick: () => { state.shown += 4 * PAGE; fill(); } },
    "Show more");
  const detail = element("div", { class: "next", id: "selected-trial", "aria-live": "polite" });

  const heads = columns.map(({ name, title, kind }) =>
    element("th", { scope: "col", class: kind === "number" ? "n" : undefined, "data-name": name },
      element("button", { type: "button", onclick: () => sort(name) }, title)));

  function sort(name) {
    if (state.sort === name && state.down) state.sort = "";
    else { state.down = state.sort === name; state.sort = name; }
    for (const head of heads) {
      const own = head.dataset.name === state.sort;
      if (own) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    fill();
  }

  function fill() {
    const found = rows();
    body.replaceChildren(...found.slice(0, state.shown).map(line));
    const of = data.all > data.rows.length ? ` (of ${whole.format(data.all)})` : "";
    count.textContent = `${whole.format(found.length)} of ${whole.format(data.rows.length)} trials${of}`;
    more.hidden = found.length <= state.shown;
    return found;
  }

  function line(row) {
    const cells = columns.map(({ name, kind }, i) =>
      element("td", { class: kind === "number" ? "n" : undefined }, text(row[i + 1], name)));
    return element("tr", {
      tabindex: "0", "data-key": row[0], "aria-selected": String(row[0] === selected),
      onclick: () => select(row[0]),
      onkeydown: (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(row[0]); }
        const next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
        if (next && event.currentTarget[next]) { event.preventDefault(); event.currentTarget[next].focus(); }
      },
    }, ...cells);
  }

  function chosen(key) {
    for (const shown of body.children) {
      shown.setAttribute("aria-selected", String(shown.dataset.key === key));
    }
    const row = byKey.get(key);
    detail.hidden = !row;
    if (!row) return;
    const facts = columns.map(({ name, title }, i) => [title, text(row[i + 1], name)])
      .filter(([, value]) => value !== "")
      .map(([title, value]) => element("div", {}, element("dt", {}, title), element("dd", {}, value)));
    const [size, seed, index] = key.split("/");
    const parts = [element("p", {}, element("strong", {}, `Selected: trial ${index} of seed ${seed} at batch size ${size}`), " ",
      element("button", { type: "button", onclick: () => select("") }, "Clear")),
      element("dl", { class: "facts" }, ...facts)];
    if (data.command) {
      const command = `${data.command} --trial ${size}/${index} --seed ${seed}`;
      const copy = element("button", { type: "button", onclick: async () => {
        try { await navigator.clipboard.writeText(command); copy.textContent = "Copied"; }
        catch { getSelection().selectAllChildren(code); copy.textContent = "Selected: press Ctrl+C"; }
      } }, "Copy");
      const code = element("code", {}, command);
      parts.push(element("p", {}, "Trains it again to its best step: ", code, " ", copy));
    }
    detail.replaceChildren(...parts);
  }

  // A text that a spreadsheet would take for a formula begins with an apostrophe.
  function cell(value) {
    if (value === null) return "";
    if (typeof value === "number") return String(value);
    const safe = /^[=+@\t\r\n-]/.test(value) ? "'" + value : value;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function download() {
    const lines = [columns.map(({ name }) => cell(name)), ...rows().map((row) => row.slice(1).map(cell))];
    const file = new Blob([lines.map((one) => one.join(",")).join("\n") + "\n"], { type: "text/csv" });
    const link = element("a", { href: URL.createObjectURL(file), download: "trials.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function chooser(name, title) {
    const found = [...new Set(data.rows.map((row) => row[at[name]]))];
    if (found.length < 2) return [];
    const options = found.map((value) => element("option", { value: String(value) }, text(value, name)));
    return [element("label", {}, title + " ", element("select", { "data-filter": name,
      onchange: (event) => { state.filters[name] = event.target.value; state.shown = PAGE; fill(); } },
      element("option", { value: "" }, "all"), ...options))];
  }

  place.append(
    detail,
    element("p", { class: "controls" },
      ...chooser("batch_size", "Batch size"), ...chooser("seed", "Seed"), ...chooser("status", "Status"),
      element("label", {}, "Contains ", element("input", { type: "search", size: "14",
        oninput: (event) => { state.text = event.target.value; state.shown = PAGE; fill(); } })),
      element("button", { type: "button", onclick: download }, "Download these as CSV"), count),
    element("div", { class: "wide" }, element("table", { id: "table-trials" },
      element("thead", {}, element("tr", {}, ...heads)), body)),
    more);
  fill();
  chosen(selected);
  listeners.push(chosen);
})();
