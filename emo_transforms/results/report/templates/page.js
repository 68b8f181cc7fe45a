/* The page: list of videos, viewer, theme. Text from outside only ever enters as text. */

(() => {
  const report = JSON.parse(document.getElementById("report-data").textContent);
  const $ = (id) => document.getElementById(id);
  const items = [...$("list").children];
  let lines = null, opened = -1, turn = 0;

  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (value === null || value === undefined) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name in element && name !== "role") element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  const number = (value, digits = 3) =>
    value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits).replace("-", "−");

  /* ---- theme ---- */
  function setTheme(name) {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    if (lines) lines.recolour();
  }
  try { $("theme").value = localStorage.getItem("emobeam-theme") || "auto"; } catch { /* not allowed for files */ }
  $("theme").addEventListener("change", () => {
    try { localStorage.setItem("emobeam-theme", $("theme").value); } catch { /* stays for this visit */ }
    setTheme($("theme").value);
  });
  setTheme($("theme").value || "auto");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => lines && lines.recolour());

  /* ---- list ---- */
  function list() {
    const find = $("find").value.trim().toLowerCase(), outcome = $("outcome").value, by = $("sort").value;
    let count = 0;
    for (const item of items) {
      const shown = item.dataset.id.toLowerCase().includes(find) && (!outcome || item.dataset.outcome === outcome);
      item.hidden = !shown;
      count += shown;
    }
    const value = (item) => Number(item.getAttribute("data-" + by) ?? -Infinity);
    const sorted = [...items].sort((a, b) => (by === "id" ? a.dataset.index - b.dataset.index : value(b) - value(a)));
    $("list").append(...sorted);
    $("count").textContent = count === items.length ? `${count} videos` : `${count} of ${items.length} videos`;
  }
  $("tools").addEventListener("input", list);
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  $("list").addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (item) open(Number(item.dataset.index), true);
  });

  /* ---- viewer ---- */
  async function open(index, byHand = false) {
    const mine = ++turn, about = report.videos[index];
    const source = $("video-" + index), viewer = $("viewer");
    for (const item of items) item.firstElementChild.toggleAttribute("aria-current", Number(item.dataset.index) === index);
    let video = null, problem = about.message || "Nothing was predicted for this video.";
    try {
      if (source) video = await openVideo(source.textContent);
    } catch (error) {
      problem = "The timelines can't be unpacked (" + error.message + "). Browsers from 2023 on can; or the file is cut off.";
    }
    if (mine !== turn) return;
    if (lines) lines.destroy();
    lines = null;
    opened = index;
    viewer.replaceChildren(heading(about, index));
    if (!video) {
      viewer.append(make("p", { className: "empty", textContent: problem }));
    } else {
      build(viewer, video, about);
    }
    try { history.replaceState(null, "", "#video=" + encodeURIComponent(about.id)); } catch { /* some readers refuse */ }
    if (byHand) {
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      viewer.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
      viewer.focus({ preventScroll: true });
    }
  }

  function heading(about, index) {
    const order = [...$("list").children].filter((item) => !item.hidden).map((item) => Number(item.dataset.index));
    const place = order.indexOf(index);
    const go = (by, text, label) =>
      make("button", { type: "button", className: "tool", textContent: text, "aria-label": label, disabled: !(place >= 0 && order[place + by] !== undefined), onclick: () => open(order[place + by], true) });
    return make("header", { className: "video-head" },
      make("h3", { textContent: about.id }),
      make("div", { className: "buttons" }, go(-1, "‹", "Previous video"), go(1, "›", "Next video")));
  }

  function build(viewer, video, about) {
    const frameTasks = report.tasks.filter((task) => task.scope === "frame" && video.tasks[task.name]);
    for (const task of report.tasks) if (video.clips[task.name]) viewer.append(clipTable(task, video.clips[task.name]));
    if (!frameTasks.length) return;
    const status = make("p", { className: "off", role: "status", "aria-live": "polite" });
    const range = make("span", { className: "range" });
    const readout = make("div", { className: "readout" });
    const strip = make("div", { className: "strip" }), peek = make("div", { className: "peek" });
    const presence = make("div", { className: "presence" }), ruler = make("div", { className: "ruler" }, strip, presence, peek);
    const bar = make("div", { className: "bar-of-time", tabIndex: 0, role: "slider", "aria-label": "Place in " + about.id, "aria-describedby": "keys" },
      make("div", { className: "row" }, make("div", { className: "names faces-names" }), ruler, make("div", { className: "values" })));
    const cards = frameTasks.map((task) => card(task, video));
    const parts = { bar, strip, peek, presence, ruler, cards };
    const mine = new Timelines(video, frameTasks, parts, (one) => told(one, { bar, range, readout, status, cards }));
    lines = mine;
    const tool = (text, label, act) => make("button", { type: "button", className: "tool", textContent: text, "aria-label": label, title: label, onclick: act });
    const controls = make("div", { className: "controls" }, legend(mine), make("div", { className: "buttons", role: "group", "aria-label": "Range shown" },
      range,
      tool("←", "Earlier", () => mine.pan(-0.5)), tool("→", "Later", () => mine.pan(0.5)),
      tool("+", "Zoom in", () => mine.zoom(0.5, mine.cursor)), tool("−", "Zoom out", () => mine.zoom(2, mine.cursor)), tool("whole", "Whole video", () => mine.whole())));
    viewer.append(controls, make("div", { className: "sticky" }, bar, readout), ...cards.map((one) => one.card),
      make("p", { id: "keys", className: "note", textContent: "Drag to zoom, double click for the whole video, Ctrl and wheel to zoom at the pointer. On the time bar: arrow keys step from row to row, with Shift by ten; + and − zoom; Home and End go to the ends; Escape shows the whole video." }),
      ...[key(video), video.note && make("p", { className: "note", textContent: video.note }), status].filter(Boolean));
    mine.draw();
    bar.addEventListener("keydown", (event) => keyed(event, mine, status));
    viewer.addEventListener("wheel", (event) => wheeled(event, mine), { passive: false });
    names(mine);
  }

  function legend(mine) {
    const { faces } = mine.video;
    const group = make("fieldset", { className: "legend-of-faces" }, make("legend", { className: "off", textContent: "Faces shown" }));
    for (const face of faces) {
      const box = make("input", { type: "checkbox", checked: mine.shown.has(face.key), onchange: (event) => {
        if (event.target.checked) mine.shown.add(face.key); else mine.shown.delete(face.key);
        if (!mine.shown.size) { mine.shown.add(face.key); event.target.checked = true; }
        mine.draw();
        names(mine);
      } });
      const swatch = make("span", { className: "swatch", "aria-hidden": "true" });
      swatch.style.setProperty("--mark", `var(--face-${Math.min(faces.indexOf(face), 5) === 5 ? "other" : faces.indexOf(face)})`);
      swatch.dataset.dash = faces.indexOf(face) % 4;
      group.append(make("label", { className: "face" }, box, swatch, faceName(face)));
    }
    const known = Object.values(mine.video.tasks).some((entries) => entries.some((entry) => entry.truth));
    if (known) group.append(make("span", { className: "face" }, make("span", { className: "swatch truth", "aria-hidden": "true" }), "truth"));
    return group;
  }

  function names(mine) {
    const box = mine.parts.bar.querySelector(".faces-names");
    const withStrip = mine.faces.filter((face) => mine.video.thumbs[face.key]).length;
    box.replaceChildren(...mine.faces.map((face) => make("span", { className: "name", textContent: faceName(face) })));
    box.style.paddingTop = withStrip * 52 + "px";
  }

  function key(video) {
    const there = new Set(video.faces.flatMap((face) => face.stretches.map((stretch) => (stretch[2] === 3 ? "absent" : "between"))));
    if (!there.size) return null;
    const texts = { between: "interpolated over a longer gap, or the nearest value carried over", absent: "absent: no value in the table" };
    return make("ul", { className: "key" }, ...Object.keys(texts).filter((state) => there.has(state)).map((state) =>
      make("li", {}, make("span", { className: "state " + state, "aria-hidden": "true" }), texts[state])));
  }

  function card(task, video) {
    const tall = task.outputs.length <= 2 ? 92 : task.outputs.length <= 8 ? 46 : 38;
    const box = make("div", { className: "plot", "aria-hidden": "true" });
    const labels = task.outputs.map((output) => make("div", { className: "name", title: output.title || output.name }, make("b", { textContent: output.name }), output.title || output.mark ? make("span", { textContent: [output.title, output.mark && `(${output.mark})`].filter(Boolean).join(" ") }) : null));
    const values = task.outputs.map(() => make("div", { className: "value" }));
    const { low, high } = task.outputs[0];
    const entries = video.tasks[task.name];
    const figure = entries.filter((entry) => entry.figure && entry.figure.score !== null).map((entry) =>
      make("span", { className: "figure" }, make("b", { textContent: number(entry.figure.score) }), " " + entry.figure.measure + (entry.subject ? ", " + entry.subject : "")));
    const table = make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Summary of " + task.name });
    const details = make("details", { ontoggle: () => details.open && table.replaceChildren(statistics(task, video)) }, make("summary", { textContent: "As a table" }), table);
    const mixed = task.outputs.some((output) => output.low !== low || output.high !== high);
    const shape = mixed ? "each lane over its own range" : `lanes from ${number(low, 0)} to ${number(high, 0)}, middle line at ${number((low + high) / 2, low + high ? 1 : 0)}`;
    const element = make("section", { className: "card-of-task", "aria-label": task.title },
      make("header", {}, make("h4", {}, task.title[0].toUpperCase() + task.title.slice(1)), ...figure, make("span", { className: "note", textContent: shape })),
      make("div", { className: "row" }, make("div", { className: "names", "aria-hidden": "true" }, ...labels), box, make("div", { className: "values" }, ...values)), details);
    element.style.setProperty("--lane", tall + "px");
    return { task, box, height: tall, card: element, values };
  }

  function statistics(task, video) {
    const binary = task.outputs.some((output) => output.kind === "binary");
    const figures = video.tasks[task.name].some((entry) => entry.figure);
    const head = ["face", "output", "rows", "mean", "sd", "lowest", "highest"].concat(binary ? ["at least 0.5"] : [], figures ? ["figure"] : []);
    const body = [];
    for (const entry of video.tasks[task.name]) {
      task.outputs.forEach((output, index) => {
        const [rows, mean, spread, low, high, share] = entry.statistics[index];
        const cells = [String(rows), ...[mean, spread, low, high].map((value) => number(value))];
        if (binary) cells.push(share === null ? "–" : Math.round(100 * share) + " %");
        if (figures) cells.push(number(entry.figure ? entry.figure.outputs[output.name] : null));
        body.push(make("tr", {}, make("td", { textContent: faceName(entry) }), make("th", { scope: "row", textContent: output.name }), ...cells.map((text) => make("td", { textContent: text }))));
      });
    }
    return make("table", { className: "plain numbers" }, make("caption", { className: "off", textContent: "Values of the frames looked at" }),
      make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col", textContent: text })))), make("tbody", {}, ...body));
  }

  function clipTable(task, rows) {
    const known = rows.some((row) => row.truth);
    const body = rows.flatMap((row) => task.outputs.map((output, index) => make("tr", {},
      make("th", { scope: "row", textContent: output.name }), ...(rows.length > 1 ? [make("td", { textContent: row.subject || "main face" })] : []),
      make("td", { textContent: number(row.values[index]) }), ...(known ? [make("td", { textContent: number(row.truth ? row.truth[index] : null) })] : []))));
    return make("section", { className: "card-of-task", "aria-label": task.title },
      make("header", {}, make("h4", { textContent: task.title[0].toUpperCase() + task.title.slice(1) }), make("span", { className: "note", textContent: "one value for the whole clip" })),
      make("table", { className: "plain numbers" }, make("thead", {}, make("tr", {}, ...["output", ...(rows.length > 1 ? ["person"] : []), "value", ...(known ? ["truth"] : [])].map((text) => make("th", { scope: "col", textContent: text })))), make("tbody", {}, ...body)));
  }

  /* ---- what the cursor is on ---- */
  function told(mine, { bar, range, readout, cards }) {
    const { timed } = mine.video, faces = mine.faces, row = mine.at();
    range.textContent = `${placeText(mine.low, timed)} – ${placeText(mine.high, timed)}`;
    const where = [row.time === null ? null : placeText(row.time, true, 2), row.frame === null ? null : "frame " + row.frame, row.source].filter(Boolean);
    readout.textContent = where.join(" · ");
    bar.setAttribute("aria-valuemin", mine.video.span[0].toFixed(2));
    bar.setAttribute("aria-valuemax", mine.video.span[1].toFixed(2));
    bar.setAttribute("aria-valuenow", mine.cursor.toFixed(2));
    bar.setAttribute("aria-valuetext", where.join(", "));
    const found = faces.map((face) => [face, mine.at(mine.cursor, face)]);
    for (const { task, values } of cards) {
      task.outputs.forEach((output, index) => {
        const cells = [];
        for (const [face, at] of found) {
          if (!at.values[task.name]) continue;
          const cell = make("span", { textContent: number(at.values[task.name][output.name]) });
          if (faces.length > 1) { cell.className = "of-face"; cell.style.setProperty("--mark", mine.colour(face)); }
          cells.push(cell);
          const truth = at.truth[task.name] && at.truth[task.name][output.name];
          if (truth !== undefined && truth !== null) cells.push(make("span", { className: "truth", textContent: "truth " + (output.kind === "value" ? number(truth, 2) : truth ? "yes" : "no") }));
        }
        values[index].replaceChildren(...cells);
      });
    }
  }

  let later = 0;
  function keyed(event, mine, status) {
    const by = event.shiftKey ? 10 : 1;
    const acts = {
      ArrowLeft: () => mine.step(-by), ArrowRight: () => mine.step(by), ArrowDown: () => mine.step(-by), ArrowUp: () => mine.step(by),
      PageDown: () => mine.to(mine.cursor - (mine.high - mine.low) / 10), PageUp: () => mine.to(mine.cursor + (mine.high - mine.low) / 10),
      Home: () => mine.to(mine.video.span[0]), End: () => mine.to(mine.video.span[1]),
      "+": () => mine.zoom(0.5, mine.cursor), "=": () => mine.zoom(0.5, mine.cursor), "-": () => mine.zoom(2, mine.cursor),
      Escape: () => mine.whole(), 0: () => mine.whole(),
    };
    if (!acts[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    acts[event.key]();
    clearTimeout(later);
    later = setTimeout(() => {
      const row = mine.at();
      const values = mine.tasks.map((task) => {
        const own = Object.entries(row.values[task.name] || {}).filter(([, value]) => value !== null);
        const most = own.length > 3 ? own.sort((a, b) => b[1] - a[1]).slice(0, 3) : own;
        return most.map(([name, value]) => `${name} ${number(value, 2)}`).join(", ") || "no value";
      });
      status.textContent = `${row.face}: ${values.join("; ")}. Shown: ${placeText(mine.low, mine.video.timed)} to ${placeText(mine.high, mine.video.timed)}.`;
    }, 350);
  }

  function wheeled(event, mine) {
    const box = mine.parts.ruler.getBoundingClientRect(), wide = mine.high - mine.low;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      mine.zoom(Math.exp(Math.max(-0.5, Math.min(0.5, event.deltaY * 0.004))), mine.low + ((event.clientX - box.left) / box.width) * wide);
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      if (wide >= mine.video.span[1] - mine.video.span[0] - 1e-9) return;
      event.preventDefault();
      mine.pan((event.deltaX || event.deltaY) / box.width);
    }
  }

  /* ---- size and paper ---- */
  let width = 0;
  new ResizeObserver(() => {
    const now = lines ? lines.width() : 0;
    if (lines && now !== width) { width = now; lines.resize(); }
  }).observe($("viewer"));
  addEventListener("beforeprint", () => { // paper is white, and narrower than most screens
    document.documentElement.dataset.theme = "light";
    if (lines) { lines.recolour(); lines.resize(Math.min(lines.width(), 520)); }
  });
  addEventListener("afterprint", () => { setTheme($("theme").value || "auto"); if (lines) lines.resize(); });

  window.emobeamReport = {
    version: report.version,
    videos: report.videos.map((video) => video.id),
    open: (video) => open(typeof video === "number" ? video : report.videos.findIndex((one) => one.id === video)),
    get current() { return opened < 0 ? null : report.videos[opened].id; },
    get range() { return lines ? [lines.low, lines.high] : null; },
    get faces() { return lines ? lines.video.faces.map(faceName) : []; },
    zoom: (low, high) => lines && lines.show(low, high),
    at: (place, face) => lines && lines.at(place, face === undefined ? undefined : lines.video.faces[face]),
    point: (place) => lines && lines.to(place),
  };

  list();
  let named = null;
  try { if (location.hash.startsWith("#video=")) named = decodeURIComponent(location.hash.slice(7)); } catch { /* not ours */ }
  const first = report.videos.findIndex((video, index) => (named === null ? $("video-" + index) : video.id === named));
  if (first >= 0) open(first);
})();
