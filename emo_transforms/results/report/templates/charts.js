/* Timelines of one video: plots that share one axis, one cursor and one range. Drawn by uPlot. */

const STATES = ["looked at", "interpolated", "nearest value carried over", "absent"];
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];

function palette() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(name).trim();
  return {
    faces: [0, 1, 2, 3, 4].map((i) => get("--face-" + i)), other: get("--face-other"), truth: get("--truth"),
    line: get("--line"), faint: get("--faint"), text: get("--soft"), back: get("--panel"),
    absent: get("--absent"), between: get("--between"), hatch: get("--hatch"),
  };
}

function placeText(place, timed, digits = 1) {
  if (!timed) return "frame " + Math.round(place);
  const sign = place < 0 ? "−" : "", ticks = Math.round(Math.abs(place) * 10 ** digits);
  const whole = Math.floor(ticks / 10 ** digits), part = String(ticks % 10 ** digits).padStart(digits, "0");
  const minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
  const clock = (hours ? hours + ":" + String(minutes % 60).padStart(2, "0") : minutes) + ":" + String(whole % 60).padStart(2, "0");
  return sign + clock + (digits ? "." + part : "");
}

function ticksOf(low, high, room, timed) {
  const wanted = (high - low) / Math.max(room, 1);
  const steps = timed
    ? [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400]
    : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000];
  const step = steps.find((one) => one >= wanted) || wanted;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return { step, at: found };
}

class Timelines {
  /* video: of openVideo; tasks: frame-level ones; parts: elements made by page.js. */
  constructor(video, tasks, parts, changed) {
    this.video = video;
    this.tasks = tasks;
    this.parts = parts;
    this.changed = changed;
    this.shown = new Set(video.faces.filter((face) => face.face === 0).map((face) => face.key));
    if (!this.shown.size && video.faces.length) this.shown.add(video.faces[0].key);
    this.low = video.span[0];
    this.high = video.span[1];
    this.cursor = video.span[0];
    this.line = null;
    this.plots = [];
    this.colours = palette();
  }

  get faces() { return this.video.faces.filter((face) => this.shown.has(face.key)); }

  get primary() { return this.faces[0] || this.video.faces[0]; }

  colour(face) { return this.colours.faces[this.video.faces.indexOf(face)] || this.colours.other; }

  dash(face) { return DASHES[this.video.faces.indexOf(face) % DASHES.length]; }

  rowsOf(face) {
    for (const task of this.tasks) {
      const entry = (this.video.tasks[task.name] || []).find((one) => one.key === face.key);
      if (entry) return entry.rows;
    }
    return null;
  }

  width() { return Math.max(Math.floor(this.parts.ruler.clientWidth), 80); }

  draw() {
    for (const plot of this.plots) plot.destroy();
    this.plots = [this.presence(), ...this.parts.cards.map((card) => this.lanes(card))];
    this.strip();
    this.moved();
  }

  recolour() { this.colours = palette(); this.draw(); }

  resize(width = this.width()) {
    for (const plot of this.plots) plot.setSize({ width, height: plot.height });
    this.strip();
    this.moved();
  }

  destroy() {
    for (const plot of this.plots.splice(0)) plot.destroy();
    for (const sprite of Object.values(this.video.thumbs)) URL.revokeObjectURL(sprite.url);
  }

  ticks() { return ticksOf(this.low, this.high, this.width() / 80, this.video.timed); }

  options(height, series, background, axis) {
    const colours = this.colours;
    return {
      width: this.width(), height, padding: [0, 0, 0, 0], legend: { show: false }, pxAlign: 1,
      scales: { x: { time: false, range: () => [this.low, this.high] }, y: { range: () => [0, 1] } },
      axes: [
        axis
          ? {
              size: 24, gap: 2, stroke: colours.text, font: "11px system-ui, sans-serif",
              grid: { show: false }, ticks: { stroke: colours.line, size: 4, width: 1 },
              splits: () => this.ticks().at, values: (_, at) => at.map(() => ""),
            }
          : { show: false },
        { show: false },
      ],
      cursor: {
        y: false, drag: { x: true, y: false, setScale: false, dist: 4 }, points: { show: series.length > 1, size: 6, width: 2 },
        bind: { dblclick: () => () => { this.whole(); return null; } },
      },
      series,
      hooks: {
        drawClear: [background, ...(axis ? [(plot) => this.axisText(plot)] : [])],
        setSelect: [(plot) => {
          const { left, width } = plot.select;
          if (width > 4) this.show(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        }],
        ready: [(plot) => {
          plot.over.addEventListener("mousemove", (event) => this.point(plot.posToVal(event.offsetX, "x"), plot));
          plot.over.addEventListener("mouseenter", () => this.parts.bar.classList.add("pointed"));
          plot.over.addEventListener("mouseleave", () => { this.parts.bar.classList.remove("pointed"); this.line = null; this.moved(); });
        }],
      },
    };
  }

  /* Which face is there when: solid where looked at, hatched where interpolated, faint where carried, empty where absent. */
  presence() {
    const lane = 14, faces = this.faces;
    const background = (plot) => {
      const { ctx } = plot, { top, height } = plot.bbox, one = height / Math.max(faces.length, 1);
      const x = (place) => plot.valToPos(place, "x", true);
      ctx.save();
      ctx.beginPath();
      ctx.rect(plot.bbox.left, top, plot.bbox.width, height);
      ctx.clip();
      faces.forEach((face, index) => {
        const y = top + index * one + one * 0.2, tall = one * 0.6;
        ctx.fillStyle = this.colour(face);
        ctx.globalAlpha = 0.85;
        ctx.fillRect(x(face.span[0]), y, Math.max(x(face.span[1]) - x(face.span[0]), 1), tall);
        ctx.globalAlpha = 1;
        for (const [first, last, source] of face.marked) {
          const left = x(first), wide = Math.max(x(last) - left, 1);
          ctx.fillStyle = this.colours.back;
          ctx.fillRect(left, y, wide, tall);
          if (source === 3) continue;
          ctx.fillStyle = this.colour(face);
          ctx.globalAlpha = source === 2 ? 0.3 : 0.5;
          ctx.fillRect(left, source === 2 ? y + tall * 0.3 : y, wide, source === 2 ? tall * 0.4 : tall);
          ctx.globalAlpha = 1;
          if (source === 1) this.hatch(ctx, left, y, wide, tall, this.colours.back);
        }
      });
      ctx.restore();
    };
    this.parts.presence.style.height = faces.length * lane + 24 + "px";
    const options = this.options(Math.max(faces.length, 1) * lane + 24, [{}], background, true);
    return new uPlot(options, [[...this.video.span]], this.parts.presence);
  }

  /* Labels of the axis; those at the ends stay inside. */
  axisText(plot) {
    const { ctx, bbox } = plot, { at, step } = this.ticks(), scale = devicePixelRatio;
    const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    ctx.save();
    ctx.font = `${11 * scale}px system-ui, sans-serif`;
    ctx.fillStyle = this.colours.text;
    ctx.textBaseline = "top";
    ctx.textAlign = "left";
    for (const tick of at) {
      const text = this.video.timed ? placeText(tick, true, digits) : String(Math.round(tick));
      const wide = ctx.measureText(text).width, x = plot.valToPos(tick, "x", true) - wide / 2;
      ctx.fillText(text, Math.min(Math.max(x, bbox.left), bbox.left + bbox.width - wide), bbox.top + bbox.height + 7 * scale);
    }
    ctx.restore();
  }

  hatch(ctx, left, top, wide, tall, colour) {
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, wide, tall);
    ctx.clip();
    ctx.strokeStyle = colour;
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    const step = 6 * devicePixelRatio, from = Math.max(left, 0), to = Math.min(left + wide, ctx.canvas.width);
    for (let at = Math.floor((from - tall) / step) * step; at < to; at += step) {
      ctx.moveTo(at, top + tall);
      ctx.lineTo(at + tall, top);
    }
    ctx.stroke();
    ctx.restore();
  }

  /* One plot for a task: a lane for each output, a line for each face, the truth behind the main face. */
  lanes({ task, box, height }) {
    const count = task.outputs.length, series = [{}], tables = [];
    const place = (output, index) => {
      const base = (count - 1 - index) / count, unit = 1 / count / (output.high - output.low);
      return (value) => (value === null ? null : base + 0.08 / count + 0.84 * unit * (Math.min(Math.max(value, output.low), output.high) - output.low));
    };
    const entries = this.video.tasks[task.name] || [];
    for (const face of this.faces) {
      const entry = entries.find((one) => one.key === face.key);
      if (!entry) continue;
      const table = [entry.rows.axis];
      task.outputs.forEach((output, index) => {
        if (entry.truth) {
          table.push(entry.truth[index].map(place(output, index)));
          const stepped = output.kind !== "value";
          series.push({ stroke: this.colours.truth, width: 1.5, dash: [4, 3], points: { show: false }, ...(stepped ? { paths: uPlot.paths.stepped({ align: 1 }) } : {}) });
        }
      });
      task.outputs.forEach((output, index) => {
        table.push(entry.values[index].map(place(output, index)));
        series.push({ stroke: this.colour(face), width: 1.4, dash: this.dash(face), points: { size: 4, space: 14 } });
      });
      tables.push(table);
    }
    const data = !tables.length ? [[...this.video.span]] : tables.length === 1 ? tables[0] : uPlot.join(tables);
    const background = (plot) => this.grid(plot, task);
    return new uPlot(this.options(height * count, series, background, false), data, box);
  }

  grid(plot, task) {
    const { ctx, bbox } = plot, count = task.outputs.length, face = this.primary;
    const x = (place) => plot.valToPos(place, "x", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const [first, last, source] of face ? face.marked : []) {
      const left = x(first), wide = Math.max(x(last) - left, 1);
      if (left > bbox.left + bbox.width || left + wide < bbox.left) continue;
      ctx.fillStyle = source === 3 ? this.colours.absent : this.colours.between;
      ctx.fillRect(left, bbox.top, wide, bbox.height);
      if (source === 3) this.hatch(ctx, left, bbox.top, wide, bbox.height, this.colours.hatch);
    }
    ctx.lineWidth = Math.max(1, Math.floor(devicePixelRatio));
    const horizontal = (y, colour) => {
      const at = Math.round(bbox.top + y * bbox.height) + 0.5;
      ctx.strokeStyle = colour;
      ctx.beginPath();
      ctx.moveTo(bbox.left, at);
      ctx.lineTo(bbox.left + bbox.width, at);
      ctx.stroke();
    };
    for (let i = 0; i < count; i++) {
      horizontal((i + 0.5) / count, this.colours.faint);
      if (i) horizontal(i / count, this.colours.line);
    }
    ctx.strokeStyle = this.colours.faint;
    for (const tick of this.ticks().at) {
      const at = Math.round(x(tick)) + 0.5;
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  /* Pictures along the axis, as many as fit without touching. */
  strip() {
    const { strip } = this.parts, width = this.width();
    strip.replaceChildren();
    for (const face of this.faces) {
      const sprite = this.video.thumbs[face.key];
      if (!sprite) continue;
      const row = document.createElement("div");
      row.className = "thumbs";
      row.style.setProperty("--mark", this.colour(face));
      let free = -Infinity;
      sprite.at.forEach((at, index) => {
        const x = ((at - this.low) / (this.high - this.low)) * width;
        const left = Math.min(Math.max(x - 24, 0), width - 48);
        if (x < 0 || x > width || left < free) return;
        free = left + 52;
        const cell = this.cell(sprite, index, 48);
        cell.style.left = left + "px";
        row.append(cell);
      });
      strip.append(row);
    }
  }

  cell(sprite, index, edge) {
    const cell = document.createElement("span");
    cell.className = "thumb";
    cell.style.width = cell.style.height = edge + "px";
    cell.style.backgroundImage = `url("${sprite.url}")`;
    cell.style.backgroundSize = `${edge * sprite.at.length}px ${edge}px`;
    cell.style.backgroundPosition = `${-edge * index}px 0`;
    return cell;
  }

  /* Picture under the pointer. */
  peek() {
    const { peek } = this.parts;
    peek.replaceChildren();
    const near = (this.video.span[1] - this.video.span[0]) / 8;
    for (const face of this.faces) {
      const sprite = this.video.thumbs[face.key];
      if (!sprite) continue;
      const index = nearest(sprite.at, this.cursor);
      if (index < 0 || Math.abs(sprite.at[index] - this.cursor) > Math.max(near, 6)) continue;
      const cell = this.cell(sprite, index, 84);
      cell.style.borderColor = this.colour(face);
      cell.dataset.at = placeText(sprite.at[index], this.video.timed);
      peek.append(cell);
    }
    const x = ((this.cursor - this.low) / (this.high - this.low)) * this.width();
    const room = peek.childElementCount * 92;
    peek.hidden = !room;
    peek.style.left = Math.min(Math.max(x - room / 2, 0), this.width() - room) + "px";
  }

  show(low, high) {
    const [first, last] = this.video.span, least = this.video.timed ? 0.5 : 10;
    let wide = Math.min(Math.max(high - low, Math.min(least, last - first)), last - first);
    low = Math.min(Math.max((low + high - wide) / 2, first), last - wide);
    this.low = low;
    this.high = low + wide;
    if (this.cursor < this.low || this.cursor > this.high) this.cursor = this.inside(Math.min(Math.max(this.cursor, this.low), this.high));
    for (const plot of this.plots) plot.setScale("x", { min: this.low, max: this.high });
    this.strip();
    this.moved();
  }

  /* The row nearest to a place, of those shown if there are any. */
  inside(place) {
    const rows = this.primary && this.rowsOf(this.primary);
    if (!rows || !rows.axis.length) return place;
    const index = nearest(rows.axis, place);
    const near = [index, index + 1, index - 1].find((one) => rows.axis[one] >= this.low && rows.axis[one] <= this.high);
    return rows.axis[near === undefined ? index : near];
  }

  whole() { this.show(...this.video.span); }

  zoom(factor, about = (this.low + this.high) / 2) {
    this.show(about - (about - this.low) * factor, about + (this.high - about) * factor);
  }

  pan(share) {
    const by = (this.high - this.low) * share;
    const [first, last] = this.video.span, wide = this.high - this.low;
    const low = Math.min(Math.max(this.low + by, first), last - wide);
    this.show(low, low + wide);
  }

  /* The cursor goes to the row nearest to a place; under a pointer the line stays where the pointer is. */
  point(place, pointed = null) {
    const rows = this.primary && this.rowsOf(this.primary);
    const index = rows ? nearest(rows.axis, place) : -1;
    this.cursor = index < 0 ? place : rows.axis[index];
    this.line = pointed ? place : null;
    this.moved(pointed);
  }

  step(by) {
    const rows = this.primary && this.rowsOf(this.primary);
    if (!rows || !rows.axis.length) return;
    const index = Math.min(Math.max(nearest(rows.axis, this.cursor) + by, 0), rows.axis.length - 1);
    this.to(rows.axis[index]);
  }

  to(place) {
    this.point(place);
    const wide = this.high - this.low;
    if (this.cursor < this.low || this.cursor > this.high) this.show(this.cursor - wide / 2, this.cursor + wide / 2);
  }

  moved(pointed = null) {
    const place = this.line === null ? this.cursor : this.line;
    const inside = place >= this.low - 1e-9 && place <= this.high + 1e-9;
    for (const plot of this.plots) {
      // The plot under the pointer minds its own line, and what is being selected with it.
      if (plot !== pointed) plot.setCursor({ left: inside ? plot.valToPos(place, "x") : -10, top: 1 }, false);
    }
    this.peek();
    this.changed(this);
  }

  /* What the tables hold at the row nearest to a place: for programs, and for what is read out. */
  at(place = this.cursor, face = this.primary) {
    const found = { place, face: face ? faceName(face) : "", frame: null, time: null, source: null, values: {}, truth: {} };
    for (const task of this.tasks) {
      const entry = face && (this.video.tasks[task.name] || []).find((one) => one.key === face.key);
      const index = entry ? nearest(entry.rows.axis, place) : -1;
      if (index < 0) continue;
      found.frame = entry.rows.frame[index];
      found.time = entry.rows.time ? entry.rows.time[index] : null;
      found.source = STATES[entry.rows.source[index]];
      const named = (columns) => Object.fromEntries(task.outputs.map((output, i) => [output.name, columns[i][index]]));
      found.values[task.name] = named(entry.values);
      if (entry.truth) found.truth[task.name] = named(entry.truth);
    }
    return found;
  }
}
