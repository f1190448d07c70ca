// Turns every <div data-figure="address"> into a plot of the figure whose JSON is there. Colours of text and axes are the page's own, so
// that a figure needs to know no theme; the server names those of its lines.

const CONFIG = {
  displaylogo: false,
  responsive: true,
  // Where there is no pointer that hovers it would lie over the figure for good.
  displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
  // Nothing of a figure goes to anybody's cloud.
  showSendToCloud: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  // A bitmap would be painted from an image that the content-security policy does not let in.
  toImageButtonOptions: { format: "svg" },
};

/** The page's colours and type, as plotly wants to be told them. */
function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    gridcolor: colour("--line"),
    linecolor: colour("--line-strong"),
    tickcolor: colour("--line-strong"),
    zerolinecolor: colour("--line-strong"),
    automargin: true,
  };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--text-soft") },
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line-strong"), font: { color: colour("--text") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--text-faint"), activecolor: colour("--text") },
    margin: { l: 52, r: 16, t: 12, b: 44 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    axis,
  };
}

/** `layout` on the page's theme: what the figure says goes before. */
function themed(layout) {
  const { axis, ...rest } = theme();
  const axes = Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name));
  const known = Object.fromEntries([...new Set(["xaxis", "yaxis", ...axes])].map((name) => [name, { ...axis, ...layout[name] }]));
  return { ...rest, ...layout, font: { ...rest.font, ...layout.font }, ...known };
}

const shown = new WeakMap();

/** Fetches the figure of `place` and draws it, or says why there is none. */
export async function draw(place) {
  let answer;
  try {
    answer = await fetch(place.dataset.figure, { headers: { accept: "application/json" }, redirect: "manual" });
  } catch {
    return; // The server is away for a moment; what is drawn stays.
  }
  if (answer.type === "opaqueredirect") {
    location.reload(); // The log-in is over.
  } else if (answer.ok && answer.status !== 204) {
    const figure = await answer.json();
    shown.set(place, figure);
    paint(place, figure);
  } else if (!shown.has(place)) {
    say(place, answer.status === 409 || answer.status === 204 ? "Not there yet." : "This figure could not be loaded.");
  }
}

function paint(place, figure) {
  if (place.querySelector(":scope > .figure-note")) place.replaceChildren();
  globalThis.Plotly.react(place, figure.data, themed(figure.layout ?? {}), { ...CONFIG, ...figure.config });
}

function say(place, text) {
  const note = document.createElement("p");
  note.className = "figure-note muted";
  note.textContent = text;
  place.replaceChildren(note);
}

/** Every figure below `root`. */
export const drawAll = (root = document) => Promise.all([...root.querySelectorAll("[data-figure]")].map(draw));

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const place of document.querySelectorAll("[data-figure]")) if (shown.has(place)) paint(place, shown.get(place));
});

drawAll();
