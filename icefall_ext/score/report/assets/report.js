"use strict";
// Texts reach the page as text nodes alone, never as markup.
(() => {
  const byId = (id) => document.getElementById(id);
  const readJson = (id) => JSON.parse(byId(id).textContent);
  const make = (name, kind, ...children) => {
    const element = document.createElement(name);
    if (kind) element.className = kind;
    element.append(...children);
    return element;
  };
  const plain = (text) => text.normalize("NFC").toLowerCase();
  const NOTHING = "∅";

  // ---- utterances ----
  const [ID, REF, HYP, PAIRS, ERRORS, UNITS] = [0, 1, 2, 3, 4, 5]; // of a row
  const systems = new Map(); // by number, read when first looked at
  let cuts, audio; // Map by id: [speaker, seconds], address
  const state = { system: 0, sort: "rate", down: true, page: 0, rows: [] };

  const errorsOf = (row) => (row[PAIRS] || []).filter(Array.isArray);
  const arrow = ([ref, hyp]) => `${ref || NOTHING}→${hyp || NOTHING}`;
  const rateOf = (row) => (row[UNITS] ? row[ERRORS] / row[UNITS] : row[ERRORS] ? Infinity : 0);
  const speakerOf = (row) => (cuts.get(row[ID]) || [""])[0];
  const lengthOf = (row) => (cuts.get(row[ID]) || ["", 0])[1];

  function systemAt(number) {
    if (!systems.has(number)) {
      const read = readJson(`system-${number}`);
      // Spaces around each error, so that i→a is not found in ni→ai.
      read.found = read.rows.map((row) =>
        plain([row[ID], speakerOf(row), row[REF], row[HYP] || "", ...errorsOf(row).map(arrow), ""].join("  ")));
      systems.set(number, read);
    }
    return systems.get(number);
  }

  const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
  const orders = {
    rate: (a, b) => compare(rateOf(a), rateOf(b)) || a[ERRORS] - b[ERRORS],
    id: (a, b) => compare(a[ID], b[ID]),
    speaker: (a, b) => compare(speakerOf(a), speakerOf(b)),
    length: (a, b) => lengthOf(a) - lengthOf(b) || a[UNITS] - b[UNITS],
  };

  function choose() {
    const system = systemAt(state.system);
    let wanted = plain(byId("search").value);
    wanted = wanted.includes("→") ? ` ${wanted.trim()} ` : wanted.trim();
    const onlyWrong = byId("wrong").checked;
    const order = orders[state.sort], sign = state.down ? -1 : 1;
    state.rows = system.rows
      .filter((row, place) => (!onlyWrong || row[ERRORS]) && system.found[place].includes(wanted))
      .sort((a, b) => sign * order(a, b) || compare(a[ID], b[ID]));
    state.page = 0;
    show();
  }

  function show() {
    const system = systemAt(state.system), size = Number(byId("size").value);
    const pages = Math.max(1, Math.ceil(state.rows.length / size));
    state.page = Math.min(Math.max(0, state.page), pages - 1);
    const rows = state.rows.slice(state.page * size, (state.page + 1) * size);
    byId("list").classList.toggle("syllables", system.script === "tailo");
    byId("list").tBodies[0].replaceChildren(...rows.map(drawn));
    const errors = state.rows.reduce((sum, row) => sum + row[ERRORS], 0);
    const units = state.rows.reduce((sum, row) => sum + row[UNITS], 0);
    const rate = units ? `, ${system.rate} ${((100 * errors) / units).toFixed(2)} %` : "";
    byId("count").textContent =
      `${state.rows.length.toLocaleString("en")} of ${system.rows.length.toLocaleString("en")} utterances${rate}`;
    byId("place").textContent = `page ${state.page + 1} of ${pages}`;
    byId("before").disabled = state.page === 0;
    byId("after").disabled = state.page === pages - 1;
    for (const button of document.querySelectorAll("[data-sort]")) {
      const isOn = button.dataset.sort === state.sort;
      button.setAttribute("aria-pressed", isOn);
      button.textContent = button.dataset.name + (isOn ? (state.down ? " ↓" : " ↑") : "");
    }
    const heading = document.querySelector("#list thead th");
    heading.setAttribute("aria-sort", state.sort !== "rate" ? "none" : state.down ? "descending" : "ascending");
  }

  function drawn(row) {
    const rate = rateOf(row);
    const figure = Number.isFinite(rate) ? `${(100 * rate).toFixed(1)} %` : "-";
    const duration = lengthOf(row) ? `${lengthOf(row).toFixed(1)} s` : "";
    const about = [speakerOf(row), duration].filter(Boolean).join(", ");
    return make("tr", "",
      make("td", "", figure, make("small", "under", `${row[ERRORS]} of ${row[UNITS]}`)),
      make("td", "", row[ID], make("small", "under", about)),
      make("td", "text-of", ...textOf(row)),
      make("td", "", ...playerOf(row)));
  }

  function textOf(row) {
    if (!row[PAIRS]) return [make("div", "", row[REF]), make("small", "", row[ERRORS] ? "" : "no error")];
    const aligned = make("div", "aligned", ...row[PAIRS].map(pairOf));
    aligned.setAttribute("role", "img");
    aligned.setAttribute("aria-label",
      `Reference: ${row[REF]}. Hypothesis: ${row[HYP] || "nothing"}. Errors: ${errorsOf(row).map(arrow).join(", ")}`);
    return [aligned];
  }

  function pairOf(pair) {
    if (!Array.isArray(pair)) return make("span", "pair same", make("b", "", pair), make("i", "", pair));
    const [ref, hyp] = pair;
    const kind = !ref ? "ins" : !hyp ? "del" : "sub";
    return make("span", `pair ${kind}`, make("b", "", ref || "+"), make("i", "", hyp || "−"));
  }

  function playerOf(row) {
    if (!audio.has(row[ID])) return [make("small", "", "not here")];
    const player = make("audio");
    player.controls = true;
    player.preload = "none";
    player.src = audio.get(row[ID]);
    player.setAttribute("aria-label", `Recording of ${row[ID]}`);
    return [player];
  }

  function startBrowser() {
    if (!byId("system-0")) return;
    [cuts, audio] = ["cuts", "audio"].map((id) => new Map(Object.entries(readJson(id))));
    byId("list").classList.toggle("silent", !audio.size);
    byId("browser").hidden = false;
    byId("system").addEventListener("change", (event) => { state.system = Number(event.target.value); choose(); });
    byId("search").addEventListener("input", choose);
    byId("wrong").addEventListener("change", choose);
    byId("size").addEventListener("change", show);
    byId("before").addEventListener("click", () => { state.page -= 1; show(); });
    byId("after").addEventListener("click", () => { state.page += 1; show(); });
    document.querySelector(".tools").addEventListener("submit", (event) => event.preventDefault());
    for (const button of document.querySelectorAll("[data-sort]")) {
      button.dataset.name = button.textContent;
      button.addEventListener("click", () => {
        const { sort } = button.dataset;
        state.down = state.sort === sort ? !state.down : sort === "rate" || sort === "length";
        state.sort = sort;
        choose();
      });
    }
    for (const button of document.querySelectorAll("[data-search]")) {
      button.addEventListener("click", () => {
        byId("system").value = button.closest("[data-system]").dataset.system;
        state.system = Number(byId("system").value);
        byId("search").value = button.dataset.search;
        choose();
        byId("utterances").scrollIntoView();
        byId("search").focus({ preventScroll: true });
      });
    }
    choose();
  }

  // ---- curves: the values under the pointer ----
  function startChart(chart) {
    const lines = [...chart.querySelectorAll("polyline")].map((line) => ({
      name: line.dataset.name,
      places: line.dataset.values.split(" ").map((pair, at) => [line.points[at].x, ...pair.split(":").map(Number)]),
    }));
    const output = chart.parentElement.querySelector("output"), cursor = chart.querySelector(".cursor");
    const bottom = chart.querySelector(".axis").y1.baseVal.value;
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      const pointer = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      const nearest = lines.map(({ name, places }) => [name, ...places.reduce((best, place) =>
        Math.abs(place[0] - pointer) < Math.abs(best[0] - pointer) ? place : best)]);
      const [, at, batch] = nearest[0];
      output.textContent = [batch.toLocaleString("en"), ...nearest.map(([name, , , value]) => `${name} ${value}`)].join("\n");
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [key, value] of Object.entries({ x1: at, x2: at, y1: 0, y2: bottom })) line.setAttribute(key, value);
      cursor.replaceChildren(line);
    });
    chart.addEventListener("pointerleave", () => { output.textContent = ""; cursor.replaceChildren(); });
  }

  document.querySelectorAll(".chart").forEach(startChart);
  startBrowser();
})();
