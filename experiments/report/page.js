// Draws every chart of the page in the colours of the reader's screen, again when they change, and
// keeps one selected trial, named in the address, in all charts and in the table (trials.js).
const study = JSON.parse(document.getElementById("figures").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const views = new Map();
const listeners = [];
let selected = "";
let drawing = 0;

// Between two figures the page is painted and the table of trials is made: the answer and the first
// figure stand while the others are drawn. A later call takes over from one that is not done.
async function draw() {
  const turn = ++drawing;
  const theme = dark.matches ? "dark" : "light";
  for (const [name, specification] of Object.entries(study.figures)) {
    await new Promise((goOn) => setTimeout(goOn));
    if (turn !== drawing) return;
    const { view } = await vegaEmbed(document.getElementById("chart-" + name), specification, {
      actions: false, renderer: "svg", config: study.themes[theme],
      tooltip: { theme: theme === "dark" ? "dark" : "custom" },
    });
    if ((specification.params ?? []).some((param) => param.name === "selected")) {
      views.set(name, view);
      view.addEventListener("click", (_, item) => item?.datum?.key && select(item.datum.key));
      view.signal("ink", study.themes[theme].axis.titleColor);
      await mark(name, view);
    }
  }
  if (turn === drawing) document.body.dataset.drawn = theme;
}

async function mark(name, view) {
  view.signal("selected", selected);
  if (name === "validation_curves") view.data("selected_curve", curve(selected));
  await view.runAsync();
}

// The measurements of a trial as rows; of none where its curve is not in the page.
function curve(key) {
  const found = study.trials?.curves[key];
  if (!found) return [];
  const size = Number(key.split("/")[0]);
  return found[0].map((step, i) => {
    const row = { key, examples: step * size };
    study.trials.fields.forEach((name, k) => (row[name] = found[k][i]));
    return row;
  });
}

// Selects a trial by its key, "B/SEED/INDEX"; "" selects none. The address keeps it.
function select(key) {
  const address = key ? "#trial=" + key : location.pathname + location.search;
  history.replaceState(null, "", address);
  show(key);
}

function show(key) {
  selected = key;
  for (const [name, view] of views) mark(name, view);
  for (const listener of listeners) listener(key);
}

function addressed() {
  const found = /^#trial=(\d+\/\d+\/\d+)$/.exec(decodeURIComponent(location.hash));
  return found ? found[1] : "";
}

selected = addressed();
window.addEventListener("hashchange", () => show(addressed()));
window.addEventListener("keydown", (event) => event.key === "Escape" && selected && select(""));
dark.addEventListener("change", draw);
draw();
