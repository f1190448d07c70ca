// Keeps the parts of a page that are marked data-live as the server would make them now. The page itself is fetched again and compared with
// what stands, so that there is one way in which a thing is shown; what is typed, ticked, open or focused stays as it is.
//
// data-live="seconds" asks every so often, data-live="" or alone only along with others; data-stream="address" asks when the job says
// something.

import { draw } from "./figures.js";

const SOONEST_MS = 700;
const FIGURES_MS = 3000;

let asking = false;
let again = false;
let timer = 0;
let figuresAt = 0;

/** Fetches the page and brings its live parts up to date. */
async function refresh() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
    if (answer.type === "opaqueredirect") location.reload(); // The log-in is over.
    if (answer.ok) take(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // The server is away for a moment; the next look finds it.
  } finally {
    asking = false;
  }
  if (again) {
    again = false;
    soon();
  }
}

/** Several events at once are one look. */
function soon() {
  clearTimeout(timer);
  timer = setTimeout(refresh, SOONEST_MS);
}

function take(page) {
  for (const part of page.querySelectorAll("[data-live][id]")) {
    const standing = document.getElementById(part.id);
    if (standing) become(standing, part);
    else insert(part);
  }
  listen();
  // The last look, when nothing more is to come, draws them in any case.
  if (performance.now() - figuresAt > FIGURES_MS || source === null) {
    figuresAt = performance.now();
    for (const place of document.querySelectorAll("[data-figure]")) draw(place);
  }
}

/** A part that was not there before, such as the first warning, comes after what it follows in the new page. */
function insert(part) {
  const before = part.previousElementSibling;
  const place = before?.id ? document.getElementById(before.id) : null;
  if (place) place.after(document.importNode(part, true));
}

/** Makes `standing` what `wanted` is, touching nothing that is the same already. */
function become(standing, wanted) {
  if (standing.isEqualNode(wanted)) return;
  for (const { name } of [...standing.attributes]) if (!wanted.hasAttribute(name) && name !== "open") standing.removeAttribute(name);
  for (const { name, value } of wanted.attributes) {
    if (name !== "open" && standing.getAttribute(name) !== value) standing.setAttribute(name, value);
  }
  const keyed = new Map([...standing.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let place = standing.firstChild;
  for (const node of wanted.childNodes) {
    const known = keyOf(node) ? keyed.get(keyOf(node)) : place !== null && !keyOf(place) && alike(place, node) ? place : undefined;
    if (known === undefined) {
      standing.insertBefore(document.importNode(node, true), place);
      continue;
    }
    if (known === place) place = place.nextSibling;
    else standing.insertBefore(known, place);
    if (node.nodeType === Node.ELEMENT_NODE) become(known, node);
    else if (known.data !== node.data) known.data = node.data;
  }
  while (place !== null) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

const alike = (one, other) => one.nodeType === other.nodeType && one.nodeName === other.nodeName;

/** Two rows of a list are the same row only where they stand for the same job. */
const keyOf = (node) => node.id || node.querySelector?.(":scope > td > input[name=job]")?.value || "";

const KINDS = (document.querySelector("[data-kinds]")?.dataset.kinds ?? "").split(" ").filter(Boolean);
let source = null;

/** Follows the events that the page names, as long as it names any. */
function listen() {
  const address = document.querySelector("[data-stream]")?.dataset.stream;
  if (!address) {
    source?.close();
    source = null;
  } else if (source === null) {
    source = new EventSource(address);
    // Every event has a name of its own, and none of them is `message`.
    for (const kind of KINDS) source.addEventListener(kind, soon);
    source.addEventListener("error", () => {
      if (source?.readyState === EventSource.CLOSED) {
        source = null;
        soon();
      }
    });
  }
}

function everySoOften() {
  const seconds = Number(document.querySelector("[data-live]:not([data-live=''])")?.dataset.live ?? 0);
  setTimeout(() => {
    if (seconds && !document.hidden) refresh();
    everySoOften();
  }, 1000 * (seconds || 10));
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && document.querySelector("[data-live]:not([data-live=''])")) refresh();
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.ask;
  if (question && !confirm(question)) event.preventDefault();
});

listen();
everySoOften();
