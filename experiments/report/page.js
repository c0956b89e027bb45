// Draws every chart of the page in the colours of the reader's screen, again when they change.
const study = JSON.parse(document.getElementById("figures").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
async function draw() {
  const theme = dark.matches ? "dark" : "light";
  for (const [name, specification] of Object.entries(study.figures)) {
    await vegaEmbed(document.getElementById("chart-" + name), specification, {
      actions: false, renderer: "svg", config: study.themes[theme],
      tooltip: { theme: theme === "dark" ? "dark" : "custom" },
    });
  }
  document.body.dataset.drawn = theme;
}
dark.addEventListener("change", draw);
draw();
