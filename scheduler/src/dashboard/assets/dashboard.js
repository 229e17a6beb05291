// Keeps the live part of the page new: told of a change, it fetches the rendered part again.
"use strict";

const live = document.getElementById("live");
const pulse = document.getElementById("pulse");
let fetching = false;
let again = false;

async function refresh() {
  if (fetching) { again = true; return; }
  fetching = true;
  try {
    const answer = await fetch(live.dataset.fragment, { credentials: "same-origin" });
    if (answer.redirected) { location.assign("/signin"); return; }
    if (answer.ok) {
      const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
      live.replaceChildren(...parsed.body.childNodes);
      count();
    }
  } catch (error) {
    pulse.dataset.state = "off";
  } finally {
    fetching = false;
    if (again) { again = false; refresh(); }
  }
}

function count() {
  for (const item of document.querySelectorAll(".countdown[data-until]")) {
    const left = Math.max(0, Math.ceil((Date.parse(item.dataset.until) - Date.now()) / 1000));
    item.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  }
}

const told = new EventSource("/live");
told.addEventListener("open", () => { pulse.dataset.state = "on"; });
told.addEventListener("error", () => { pulse.dataset.state = "off"; });
told.addEventListener("changed", () => { pulse.dataset.state = "on"; refresh(); });
setInterval(count, 1000);
