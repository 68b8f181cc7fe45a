"use strict";
/* The inverse of pack.py: base64, gzip, a JSON document, arrays. */

async function inflate(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function arrayReader(bytes, start, step) {
  return (place) => {
    if (!place) return null;
    const at = start + place.at, n = place.n;
    if (place.as === "raw" || place.as === "u8") return bytes.subarray(at, at + n);
    if (place.as === "i32") {
      const found = new Float64Array(n);
      for (let i = 0, value = 0; i < n; i++) {
        value += bytes[at + i] | (bytes[at + n + i] << 8) | (bytes[at + 2 * n + i] << 16) | (bytes[at + 3 * n + i] << 24);
        found[i] = value;
      }
      return found;
    }
    const found = new Array(n);
    for (let i = 0, value = 0; i < n; i++) {
      value = ((value + (bytes[at + i] | (bytes[at + n + i] << 8))) << 16) >> 16;
      found[i] = value === -32768 ? null : value * step;
    }
    return found;
  };
}

/* One video: faces, and for each task the values of each face on its axis. */
async function openVideo(text) {
  const bytes = await inflate(text);
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const content = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const read = arrayReader(bytes, 4 + length, content.step);
  const rows = content.rows.map((row) => {
    const frame = read(row.frame), time = read(row.time);
    const seconds = time && time.map((ticks) => ticks * content.unit);
    return { frame, time: seconds, source: read(row.source), axis: content.timed && seconds ? seconds : frame };
  });
  const tasks = {};
  for (const [name, entries] of Object.entries(content.tasks)) {
    tasks[name] = entries.map((entry) => ({
      ...entry,
      key: faceKey(entry),
      rows: rows[entry.rows],
      values: entry.values.map(read),
      truth: entry.truth ? entry.truth.map(read) : null,
    }));
  }
  const faces = content.faces.map((face) => ({ ...face, key: faceKey(face), marked: joined(face.stretches, content.timed ? 0.1 : 1.5) }));
  const thumbs = {};
  for (const sprite of content.thumbs) {
    const url = URL.createObjectURL(new Blob([read(sprite.data)], { type: sprite.kind }));
    thumbs[faceKey(sprite)] = { ...sprite, url };
  }
  let low = Infinity, high = -Infinity;
  for (const face of faces) { low = Math.min(low, face.span[0]); high = Math.max(high, face.span[1]); }
  if (!(high > low)) { low = Number.isFinite(low) ? low : 0; high = low + 1; }
  return { timed: content.timed, faces, tasks, clips: content.clips, thumbs, note: content.note, span: [low, high] };
}

/* Stretches as they are painted: one that follows at once begins where the last one ends. */
function joined(stretches, least) {
  return stretches.map(([first, last, source], index) => {
    const next = stretches[index + 1];
    return [first, next && next[0] - last <= least ? next[0] : last, source];
  });
}

function faceKey(entry) { return entry.subject + "\u0000" + entry.face; }

function faceName(face) {
  const which = face.face === 0 ? "main face" : "face " + face.face;
  return face.subject ? face.subject + (face.face === 0 ? "" : ", " + which) : which;
}

/* Index of the row nearest to a place on an ascending axis. */
function nearest(axis, place) {
  let low = 0, high = axis.length - 1;
  if (high < 0) return -1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (axis[middle] < place) low = middle + 1; else high = middle;
  }
  return low > 0 && place - axis[low - 1] <= axis[low] - place ? low - 1 : low;
}
