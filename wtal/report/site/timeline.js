// Timelines of a video: a row per class with its activation, detections and annotations.
"use strict";

(function () {
  const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];

  wtal.timeline = function (view) {
    const { entry, player } = view, { el } = wtal;
    const inner = el("div", { class: "tracks" });
    const head = el("div", { class: "playhead", "aria-hidden": "true" });
    const node = el("div", { class: "timeline", role: "group", "aria-label": "Timelines" }, inner);
    const timeline = { node, zoom: 1 };
    const percent = (second) => `${(100 * Math.max(0, Math.min(1, second / entry.end))).toFixed(4)}%`;

    timeline.draw = function () {
      inner.style.width = `${100 * timeline.zoom}%`;
      inner.replaceChildren(ruler(), ...rows().map(row), ...(entry.curves && entry.curves.attention ? [attention()] : []), head);
      curves();
      timeline.tick(player.time());
    };
    timeline.tick = function (time) {
      const share = Math.max(0, Math.min(1, time / entry.end));
      head.style.left = `calc(var(--label) + (100% - var(--label)) * ${share})`;
      if (timeline.zoom > 1 && !player.paused()) {
        const x = share * (inner.clientWidth - 120) + 120 - node.scrollLeft;
        if (x > node.clientWidth - 20 || x < 130) node.scrollLeft += x - 160;
      }
    };
    timeline.stretch = function (factor) {
      timeline.zoom = Math.max(1, Math.min(32, timeline.zoom * factor));
      timeline.draw();
      const share = player.time() / entry.end;
      node.scrollLeft = share * (inner.clientWidth - 120) - node.clientWidth / 2 + 120;
    };

    function rows() {
      const labels = new Set(view.shown().map((i) => entry.detections[i][0]));
      for (const [label] of entry.annotations) if (!wtal.state.off.has(label)) labels.add(label);
      for (const missed of view.missed()) labels.add(missed.place);
      return [...labels].sort((a, b) => a - b);
    }

    function ruler() {
      const track = area("ruler");
      const room = Math.max(200, (node.clientWidth - 120) * timeline.zoom), apart = (72 * entry.end) / room;
      const step = STEPS.find((value) => value >= apart) || 7200;
      for (let second = 0; second <= entry.end - step / 3; second += step) {
        const tick = el("span", { class: "tick" }, wtal.time(second, step < 1 ? 1 : 0));
        tick.style.left = percent(second);
        track.append(tick);
      }
      return el("div", { class: "row head", "aria-hidden": "true" }, el("span", { class: "label" }), track);
    }

    // A strip of time; pressing it seeks to that moment, and dragging scrubs.
    function area(kind) {
      const track = el("div", { class: `track ${kind}` });
      const go = (event) => {
        player.loop = null;
        player.seek(at(track, event));
      };
      track.addEventListener("pointerdown", (event) => {
        if (event.target.closest("button, .edge") || event.button) return;
        track.setPointerCapture(event.pointerId);
        go(event);
        track.onpointermove = go;
      });
      track.addEventListener("pointerup", () => { track.onpointermove = null; });
      track.addEventListener("pointercancel", () => { track.onpointermove = null; });
      return track;
    }
    function at(track, event) {
      const box = track.getBoundingClientRect();
      return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * entry.end;
    }

    function row(label) {
      const name = wtal.content.classes[label].name, colour = wtal.colour(label), track = area("class");
      const curve = entry.curves && entry.curves.classes[label];
      if (curve) track.append(el("canvas", { class: `curve ${colour}`, "data-curve": label, "aria-hidden": "true" }));
      for (const [of, start, end] of entry.annotations) {
        if (of !== label) continue;
        const truth = el("span", { class: "truth", title: `annotated: ${name}, ${wtal.time(start + entry.shift)} to ${wtal.time(end + entry.shift)}` });
        place(truth, [start, end]);
        track.append(truth);
      }
      for (const i of view.shown()) {
        if (entry.detections[i][0] === label) track.append(...bar(i, track));
      }
      for (const missed of view.missed()) {
        if (missed.place !== label) continue;
        const mark = el("span", { class: `bar missed ${colour}`, title: `missed: ${name}` });
        place(mark, missed.verdict.segment);
        track.append(mark);
      }
      return el("div", { class: "row", role: "group", "aria-label": name },
        el("span", { class: "label", title: name }, el("i", { class: `dot ${colour}` }), name), track);
    }

    function place(node, [start, end]) {
      node.style.left = percent(start + entry.shift);
      node.style.width = `max(4px, ${(100 * Math.max(0, end - start)) / entry.end}%)`;
    }

    function bar(i, track) {
      const [label, , , score] = entry.detections[i], verdict = view.verdict(i), current = view.current === i;
      const segment = view.segment(i);
      const button = el("button", {
        type: "button", tabindex: "-1", class: `bar ${wtal.colour(label)} ${verdict ? verdict.verdict : ""}`,
        "aria-label": view.words(i), title: view.words(i), "aria-pressed": String(current), "data-detection": i,
        onclick: () => view.play(i),
      });
      const fill = el("i", { class: "fill" });
      fill.style.opacity = wtal.depth(label, score);
      button.append(fill);
      place(button, segment);
      return current ? [button, edge(i, 0, track), edge(i, 1, track)] : [button];
    }

    // A draggable edge of the selected detection.
    function edge(i, side, track) {
      const value = view.segment(i)[side] + entry.shift;
      const handle = el("span", {
        class: `edge side${side}`, role: "slider", tabindex: "0", "aria-label": side ? "end" : "start",
        "aria-valuemin": 0, "aria-valuemax": entry.end, "aria-valuenow": value.toFixed(2), "aria-valuetext": wtal.time(value, 2),
        "data-edge": side,
      });
      handle.style.left = percent(value);
      let to = null;
      handle.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        handle.setPointerCapture(event.pointerId);
        handle.onpointermove = (move) => {
          to = at(track, move);
          handle.style.left = percent(to);
          player.loop = null;
          player.pause();
          player.seek(to);
        };
      });
      const drop = () => {
        handle.onpointermove = null;
        if (to !== null) view.move(i, side, to);
      };
      handle.addEventListener("pointerup", drop);
      handle.addEventListener("pointercancel", drop);
      handle.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
        if (!step) return;
        event.preventDefault();
        event.stopPropagation();
        view.move(i, side, view.segment(i)[side] + entry.shift + step * (event.shiftKey ? 1 : entry.step));
        const again = inner.querySelector(`[data-edge="${side}"]`);
        if (again) again.focus();
      });
      return handle;
    }

    function attention() {
      const track = area("attention");
      track.append(el("canvas", { class: "curve ink", "data-curve": "attention", "aria-hidden": "true" }));
      return el("div", { class: "row low", role: "group", "aria-label": "attention" }, el("span", { class: "label" }, "attention"), track);
    }

    function curves() {
      for (const canvas of inner.querySelectorAll("canvas")) {
        const which = canvas.dataset.curve, text = which === "attention" ? entry.curves.attention : entry.curves.classes[which];
        draw(canvas, text);
      }
    }
    function draw(canvas, text) {
      const box = canvas.getBoundingClientRect(), scale = Math.min(window.devicePixelRatio || 1, 8000 / Math.max(1, box.width));
      canvas.width = Math.max(1, Math.round(box.width * scale));
      canvas.height = Math.max(1, Math.round(box.height * scale));
      const context = canvas.getContext("2d"), { begins, step } = entry.curves;
      const colour = getComputedStyle(canvas).color;
      const x = (second) => ((second + entry.shift) / entry.end) * canvas.width;
      const y = (character) => (1 - LEVELS.indexOf(character) / 63) * (canvas.height - 2 * scale) + scale;
      context.beginPath();
      [...text].forEach((character, i) => context.lineTo(x(begins + (i + 0.5) * step), y(character)));
      context.strokeStyle = colour;
      context.lineWidth = 1.25 * scale;
      context.lineJoin = "round";
      context.stroke();
      context.lineTo(x(begins + (text.length - 0.5) * step), canvas.height);
      context.lineTo(x(begins + 0.5 * step), canvas.height);
      context.globalAlpha = 0.16;
      context.fillStyle = colour;
      context.fill();
    }
    return timeline;
  };
})();
