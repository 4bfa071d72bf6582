// The page for callers: one button, captions, and how long each answer took.

import { Phone } from "./shared/phone.js";
import { play } from "./shared/play.js";
import { STAGES } from "./shared/stages.js";

const KEPT = "trunkline-call"; // in sessionStorage: it survives a reload of this tab, and nothing else
// Of an operator who wants one: the page's address ends with #key=KEY then, which browsers send nowhere.
const KEY = new URLSearchParams(location.hash.slice(1)).get("key") ?? "";

const byId = (id) => document.getElementById(id);
const captions = byId("captions");
let phone = null;

const screen = {
  state(state, status) {
    byId("call").dataset.state = state;
    byId("call-label").textContent = { idle: "Call", connecting: "Cancel", live: "Hang up" }[state];
    byId("status").textContent = status;
    if (state === "idle") phone = null;
  },
  track: (track) => play(byId("remote"), track, (why) => (byId("status").textContent = why)),
  speaking: (who, on) => byId(who).classList.toggle("on", on),
  captions: showCaptions,
  turn: showTimes,
};

function showCaptions(lines) {
  while (captions.children.length > lines.length) captions.lastElementChild.remove();
  lines.forEach((line, at) => {
    const item = captions.children[at] ?? captions.appendChild(document.createElement("li"));
    item.dataset.turn = line.turn;
    if (item.textContent !== line.text) item.textContent = line.text;
    item.classList.toggle("cut", line.cut);
  });
  captions.scrollTop = captions.scrollHeight;
}

function showTimes(turn, stages) {
  const head = byId("stages");
  if (!head.hasChildNodes()) head.append(row("th", ["turn", ...STAGES.map(([, title]) => title)]));
  byId("turns").append(row("td", [turn, ...STAGES.map(([stage]) => stages[stage]?.toFixed(0) ?? "")]));
}

function row(kind, cells) {
  const line = document.createElement("tr");
  for (const text of cells) {
    const cell = document.createElement(kind);
    if (kind === "th") cell.scope = "col";
    cell.textContent = text;
    line.append(cell);
  }
  return line;
}

function begin(again) {
  byId("turns").replaceChildren();
  phone = new Phone({ screen, kept: KEPT, key: KEY });
  phone.start(again);
}

byId("call").addEventListener("click", () => (phone ? phone.end("The call has ended.") : begin(false)));

if (Phone.isKept(KEPT)) begin(true);
