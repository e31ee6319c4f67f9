"""What the page does. Text of the server goes in as text, never as markup."""

SCRIPT = r"""
"use strict";
const at = (id) => document.getElementById(id);
const show = (id, shown) => { at(id).hidden = !shown; };
const FEW = 8;
let token = sessionStorage.getItem("token") || "";
let about = null, file = null, turn = 0, waiting = null, opened = null;

async function ask(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (token) headers.Authorization = "Bearer " + token;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const value = await response.json().catch(() => ({}));
  if (response.ok) return value;
  const said = value.message || "The server answered " + response.status + ".";
  const failure = new Error(reason(said));
  failure.status = response.status;
  throw failure;
}

function reason(message) {
  const text = message.replace(/^1 of 1 images cannot be used: image 0: /, "");
  const sentence = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(sentence) ? sentence : sentence + ".";
}

async function start() {
  for (const id of ["down", "work", "token-form"]) show(id, false);
  try {
    about = await ask("/about");
  } catch (error) {
    if (error.status === 401) {
      at("token-error").textContent = "That is not the token of this server.";
      show("token-error", token !== "");
      show("token-form", true);
      at("token").focus();
    } else {
      at("down").textContent = error.message;
      show("down", true);
    }
    return;
  }
  document.title = "Classify a patch: " + about.version;
  at("model").textContent = about.version;
  show("model", true);
  show("work", true);
  const facts = [["Version", about.version], ["Architecture", about.architecture],
    ["Classes", about.classes.join(", ")],
    ["Sees", about.image_px + " x " + about.image_px + " px"],
    ["Calibrated", about.calibrated
      ? "yes, temperature " + about.temperature.toPrecision(3) : "no"],
    ["Abstains", about.abstain_below > 0
      ? "where no class reaches " + percent(about.abstain_below) : "never"],
    ["Digest", about.digest]];
  at("about").replaceChildren(...facts.flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name }),
    Object.assign(document.createElement("dd"), { textContent: value })]));
}

const percent = (p) => p > 0 && p < 0.001 ? "< 0.1 %"
  : p < 1 && p > 0.999 ? "> 99.9 %" : (100 * p).toFixed(1) + " %";

function inWords(p) {
  if (!about.calibrated) return "The model is not calibrated: read the number as a score.";
  return "Of images like this one, about " + Math.round(100 * p) + " in 100 are of this class.";
}

function take(chosen) {
  if (!chosen || !about) return;
  if (waiting) waiting.abort();
  waiting = new AbortController();
  file = chosen;
  turn += 1;
  for (const id of ["idle", "error", "found", "slider", "heat", "heat-none"]) show(id, false);
  for (const id of ["busy", "under", "stage"]) show(id, true);
  show("empty", false);
  at("name").textContent = chosen.name || "image";
  preview(chosen);
  classify(turn, chosen, waiting.signal);
}

function preview(chosen) {
  if (opened) URL.revokeObjectURL(opened);
  opened = null;
  const seen = at("seen");
  seen.hidden = true;
  if (!/^image\/(jpeg|png)$/.test(chosen.type)) return;
  opened = URL.createObjectURL(chosen);
  seen.onload = () => { seen.hidden = false; };
  seen.onerror = () => { seen.hidden = true; };
  seen.alt = "The image " + chosen.name;
  seen.src = opened;
}

const send = (path, chosen, signal) => ask(path, { method: "POST", body: chosen, signal,
  headers: { "Content-Type": "application/octet-stream" } });

async function classify(mine, chosen, signal) {
  try {
    const answer = await send("/invocations", chosen, signal);
    if (mine !== turn) return;
    tell(answer.predictions[0]);
    explain(mine, chosen, signal, answer.predictions[0].class);
  } catch (error) {
    if (mine === turn && error.name !== "AbortError") fail(error);
  }
}

function fail(error) {
  if (error.status === 401) { start(); return; }
  show("busy", false);
  at("error-text").textContent = error.message;
  show("error", true);
  if (at("seen").hidden) { show("stage", false); show("empty", true); }
}

function tell(row) {
  const ranked = about.classes.map((name) => [name, row["p_" + name]]).sort((a, b) => b[1] - a[1]);
  at("class").textContent = row.class;
  at("percent").textContent = percent(ranked[0][1]);
  at("words").textContent = inWords(ranked[0][1]);
  at("abstain").textContent = "The model abstains: no class reaches " +
    percent(about.abstain_below) + ". Have a person look at this image.";
  show("abstain", row.abstain === true);
  at("bars").replaceChildren(...ranked.map(bar));
  at("more").textContent = "Show all " + ranked.length + " classes";
  show("more", ranked.length > FEW);
  show("busy", false);
  show("found", true);
  requestAnimationFrame(() => requestAnimationFrame(() => {
    for (const fill of document.querySelectorAll(".fill"))
      fill.style.width = Math.max(100 * fill.dataset.p, 0.4) + "%";
  }));
}

function bar([name, p], rank) {
  const item = document.createElement("li"), button = document.createElement("button");
  const part = (type, text) => {
    const made = document.createElement("span");
    made.className = type;
    made.textContent = text;
    return made;
  };
  const track = part("track", ""), fill = part("fill", "");
  fill.dataset.p = p;
  track.append(fill);
  button.type = "button";
  button.dataset.name = name;
  button.disabled = !about.explains;
  button.setAttribute("aria-pressed", "false");
  button.append(part("label", name), part("value", percent(p)), track);
  button.addEventListener("click", () => explain(turn, file, waiting.signal, name));
  item.hidden = rank >= FEW;
  item.append(button);
  return item;
}

async function explain(mine, chosen, signal, name) {
  if (!about.explains) {
    at("heat-none").textContent = reason(about.why_not);
    show("heat-none", true);
    show("bars-note", false);
    return;
  }
  for (const button of document.querySelectorAll(".bars button"))
    button.setAttribute("aria-pressed", String(button.dataset.name === name));
  try {
    const found = await send("/explain?class=" + encodeURIComponent(name), chosen, signal);
    if (mine !== turn) return;
    const pressed = document.querySelector(".bars button[aria-pressed=true]");
    if (pressed && pressed.dataset.name !== name) return;
    const seen = at("seen"), heat = at("heat");
    seen.onload = seen.onerror = null;
    seen.src = found.seen;
    seen.hidden = false;
    seen.alt = "The part of the image that the model saw";
    heat.src = found.overlay;
    heat.alt = "The same, bright where it speaks for " + name;
    at("explained").textContent = name;
    at("heat-none").textContent = "Nothing in this image speaks for " + name + ".";
    show("heat-none", !found.speaks);
    show("heat", found.speaks);
    show("slider", found.speaks);
  } catch (error) {
    if (mine !== turn || error.name === "AbortError") return;
    at("heat-none").textContent = "No Grad-CAM: " + error.message;
    show("heat-none", true);
  }
}

at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  sessionStorage.setItem("token", token);
  start();
});
at("file").addEventListener("change", (event) => {
  take(event.target.files[0]);
  event.target.value = "";
});
at("again").addEventListener("click", () => at("file").click());
at("more").addEventListener("click", () => {
  for (const item of at("bars").children) item.hidden = false;
  show("more", false);
});
at("strength").addEventListener("input", (event) => {
  at("heat").style.opacity = event.target.value / 100;
});
for (const type of ["dragenter", "dragover", "dragleave", "drop"])
  document.addEventListener(type, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", type === "dragenter" || type === "dragover");
    if (type === "drop") take(event.dataTransfer.files[0]);
  });
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
start();
"""
