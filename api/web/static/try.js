// Shows both answers as they grow. Without this script the form brings a page with both when they have ended.

const form = document.getElementById("try");

/** What is said under an answer. */
function note(told) {
  if (told.failure) return told.failure;
  if (!told.finish_reason) return "…";
  return `${told.tokens} tokens${told.finish_reason === "length" ? ", cut short" : ""}`;
}

function show(section, told) {
  const under = section.querySelector("[data-note]");
  if (told.text !== undefined) section.querySelector(".answer").textContent = told.text;
  under.textContent = note(told);
  under.className = told.failure ? "small notice bad" : "small muted";
}

async function ask(section, fields) {
  show(section, { text: "" });
  const answer = await fetch(`${form.action}/${section.dataset.who}`, { method: "POST", body: fields });
  if (!answer.ok || answer.redirected) {
    show(section, { failure: "The question was not taken: reload the page and ask again." });
    return;
  }
  let rest = "";
  let ended = false;
  for (const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const told = JSON.parse(line);
      ended = Boolean(told.failure || told.finish_reason);
      show(section, told);
    }
  }
  if (!ended) show(section, { failure: "The answer broke off; ask again." });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  const fields = new URLSearchParams(new FormData(form));
  button.disabled = true;
  const sections = [...document.querySelectorAll("[data-who]")];
  await Promise.all(
    sections.map((section) =>
      ask(section, fields).catch(() => show(section, { failure: "The service did not answer; ask again." })),
    ),
  );
  button.disabled = false;
});
