// One video: its player, its detections, its timelines, and the verdicts on them.
"use strict";

(function () {
  const waiting = new Map(), entries = new Map();
  let view = null;

  // Called by the data script of a video.
  wtal.video = function (number, entry) {
    entries.set(number, entry);
    while (entries.size > 8) entries.delete(entries.keys().next().value);
    const answer = waiting.get(number);
    waiting.delete(number);
    if (answer) answer(entry);
  };
  function load(video) {
    if (entries.has(video.number)) return Promise.resolve(entries.get(video.number));
    return new Promise((resolve, reject) => {
      waiting.set(video.number, resolve);
      const script = wtal.el("script", {
        src: wtal.file(video, ".js"),
        onload: () => script.remove(),
        onerror: () => { script.remove(); reject(new Error(`the data of ${video.id} is missing`)); },
      });
      document.head.append(script);
    });
  }

  wtal.view = {
    get current() { return view; },
    async open(video, first) {
      wtal.view.close();
      const section = wtal.by("video");
      section.hidden = false;
      wtal.by("collection").hidden = wtal.by("check").hidden = true;
      scrollTo(0, 0);
      try {
        const entry = await load(video);
        if (wtal.route() !== video) return;
        view = build(video, entry, section);
        if (first) view.next(1);
      } catch (error) {
        section.replaceChildren(wtal.el("p", { class: "why" }, String(error.message)));
      }
    },
    close() {
      if (view) view.player.leave();
      view = null;
      wtal.by("video").hidden = true;
      wtal.by("video").replaceChildren();
    },
  };

  function build(video, entry, section) {
    const { el } = wtal, names = wtal.content.classes.map((known) => known.name);
    const order = entry.detections.map((_, i) => i);
    const small = innerWidth < 720;
    let numbers = [];
    const self = { video, entry, current: -1, mark: null };
    const rounded = (value) => Number(value.toPrecision(4));

    let asked = "";

    self.shown = () => order.filter((i) => wtal.shows(entry.detections[i][0], rounded(entry.detections[i][3])));
    self.verdict = (i) => wtal.verdicts.of(video.id, names[entry.detections[i][0]], entry.detections[i].slice(1, 3));
    self.segment = function (i) {
      const verdict = self.verdict(i);
      return (verdict && verdict.segment) || entry.detections[i].slice(1, 3);
    };
    self.missed = () => wtal.verdicts.missed(video.id)
      .map((verdict) => ({ verdict, place: names.indexOf(verdict.label) })).filter((missed) => missed.place >= 0);
    self.words = function (i) {
      const [start, end] = self.segment(i), verdict = self.verdict(i);
      const suffix = verdict ? `, verdict ${verdict.verdict}` : "";
      return `${title(i)}, ${clock(start)} to ${clock(end)}, score ${wtal.score(entry.detections[i][3])}${suffix}`;
    };
    const title = (i) => `${names[entry.detections[i][0]]} ${numbers[i]}`;
    const clock = (second) => wtal.time(second + entry.shift);

    // Visible parts.
    const now = el("span", { class: "now" }), speed = el("span", { class: "speed" });
    const play = el("button", { type: "button", class: "play", onclick: () => self.player.toggle() });
    self.player = wtal.player(video, entry, tick);
    self.timeline = wtal.timeline(self);
    const list = el("ol", { class: "detections" }), missedList = el("ul", { class: "missed-list" });
    const hidden = el("p", { class: "hint" }), heading = el("h3", {}, "");
    const kind = el("select", { "aria-label": "class of the missed action", onchange: () => kind.blur() },
      ...names.map((name, i) => el("option", { value: i }, name)));
    const mark = el("button", { type: "button", onclick: () => self.markMissed() });
    const looked = el("button", { type: "button", class: "looked", onclick: () => self.look() });
    const captions = el("button", {
      type: "button", "aria-pressed": "true", onclick: () => {
        self.player.captions = !self.player.captions;
        captions.setAttribute("aria-pressed", String(self.player.captions));
        cues();
      },
    }, "Captions");
    const heard = el("p", { class: "visually-hidden", role: "status" });
    const truth = entry.labels === null ? null
      : el("span", { class: "labels" }, `labelled ${entry.labels.map((i) => names[i]).join(", ") || "with no class"}`);
    section.replaceChildren(
      el("nav", { class: "crumbs", "aria-label": "Videos" },
        el("a", { href: "#" }, "← All videos"),
        el("span", { class: "turn" },
          el("button", { type: "button", onclick: () => self.turn(-1), "aria-label": "previous video" }, "‹ previous"),
          el("button", { type: "button", onclick: () => self.turn(1), "aria-label": "next video" }, "next ›"))),
      el("div", { class: "heading" }, el("h2", { tabindex: "-1" }, video.id),
        el("span", { class: "facts" }, [wtal.time(entry.end), entry.size ? `${entry.size[0]} × ${entry.size[1]}` : ""].filter(Boolean).join(" · ")),
        truth, looked),
      el("div", { class: "desk" },
        el("div", { class: "screen" }, self.player.node,
          el("div", { class: "transport" }, play, now, speed, captions,
            el("span", { class: "missing" }, kind, mark))),
        el("div", { class: "found" }, heading, list, hidden, missedList)),
      self.timeline.node, el("p", { class: "legend" }, legend()), heard);

    function legend() {
      const parts = ["Bars: detections, darker for higher scores"];
      if (entry.curves) parts.push("curves: class activations");
      if (entry.annotations.length) parts.push("grey: annotated");
      return `${parts.join("; ")}.`;
    }

    function tick(time) {
      if (!self.timeline) return;
      now.textContent = `${wtal.time(time)} / ${wtal.time(entry.end)}`;
      speed.textContent = `${self.player.rate === 1 ? "" : `${self.player.rate}× `}${self.player.loop ? "loop" : ""}`;
      const paused = self.player.paused();
      if (play.dataset.paused !== String(paused)) {
        play.dataset.paused = String(paused);
        play.textContent = paused ? "▶ Play" : "❚❚ Pause";
      }
      self.timeline.tick(time);
    }

    function cues() {
      self.player.cue(self.shown().map((i) => [...self.segment(i).map((second) => second + entry.shift), `${names[entry.detections[i][0]]} ${wtal.score(entry.detections[i][3])}`]));
    }

    self.draw = function () {
      const shown = self.shown();
      numbers = numbered(entry, shown);
      heading.textContent = wtal.many(shown.length, "detection");
      list.replaceChildren(...shown.map(item));
      const left = entry.detections.length - shown.length;
      hidden.replaceChildren(...(left ? [`${left} more hidden by the filters. `,
        el("button", { type: "button", class: "plain", onclick: () => wtal.change({ least: wtal.range[0], off: new Set() }) }, "Show all")] : []));
      missedList.replaceChildren(...self.missed().map(({ verdict, place }) => el("li", {},
        el("i", { class: `dot ${wtal.colour(place)}` }), `missed: ${verdict.label} ${clock(verdict.segment[0])}–${clock(verdict.segment[1])} `,
        el("button", { type: "button", class: "plain", onclick: () => wtal.verdicts.remove(verdict) }, "undo"))));
      mark.textContent = self.mark === null ? "Missed: mark start" : `Mark end (from ${wtal.time(self.mark)})`;
      const done = wtal.verdicts.lookedAt(video.id);
      if (asked !== self.open().join(", ")) asked = "";
      looked.textContent = done ? "✓ Looked at" : asked ? `Looked at, and no ${asked}?` : "Mark as looked at";
      looked.setAttribute("aria-pressed", String(Boolean(done)));
      cues();
      self.timeline.draw();
      tick(self.player.time());
    };

    function item(i) {
      const [label, , , score] = entry.detections[i], verdict = self.verdict(i), [start, end] = self.segment(i);
      const thumbs = el("span", { class: "thumbs", "aria-hidden": "true" });
      const place = entry.sheet ? entry.sheet.pictured.indexOf(i) : -1;
      if (place >= 0) for (let k = 0; k < 3; k += 1) thumbs.append(wtal.tile(video, entry, 3 * place + k, small ? 46 : 60));
      const answers = [["yes", "✓ yes", 1], ["no", "✗ no", 2], ["skip", "? skip", 5]].map(([word, text, key]) => el("button", {
        type: "button", class: `answer ${word}`, "aria-pressed": String(Boolean(verdict && verdict.verdict === word)), title: `key ${key}`,
        "aria-label": `${word}: ${title(i)}`, onclick: () => { self.choose(i); self.judge(word, true); },
      }, text));
      const row = el("li", { "data-detection": i, "aria-current": self.current === i ? "true" : null },
        el("button", { type: "button", class: "go", "aria-label": `play ${self.words(i)}`, onclick: () => self.play(i) },
          thumbs,
          el("span", { class: "what" }, el("i", { class: `dot ${wtal.colour(label)}` }), title(i)),
          el("span", { class: "when" }, `${clock(start)}–${clock(end)}`), el("span", { class: "how" }, wtal.score(score))),
        el("span", { class: "answers" }, ...answers,
          verdict && verdict.verdict === "moved" ? el("span", { class: "moved-mark" }, "moved") : null));
      return row;
    }

    // Actions.
    self.choose = function (i) {
      self.current = i;
      kind.value = String(entry.detections[i][0]);
      self.draw();
      const row = list.querySelector(`[data-detection="${i}"]`);
      if (row) list.scrollTop = Math.max(0, row.offsetTop - list.offsetTop - 60);
    };
    self.play = function (i) {
      self.choose(i);
      const [start, end] = self.segment(i);
      self.player.repeat(start + entry.shift, end + entry.shift);
      heard.textContent = self.words(i);
    };
    self.next = function (step) {
      const shown = self.shown(), place = shown.indexOf(self.current);
      const to = place < 0 ? (step > 0 ? 0 : shown.length - 1) : place + step;
      if (to >= 0 && to < shown.length) self.play(shown[to]);
      else if (step > 0) self.turn(1, true);
    };
    self.turn = function (step, first) {
      const other = wtal.collection.beside(video, step);
      if (other) wtal.go(other, first);
      else heard.textContent = step > 0 ? "That was the last video." : "This is the first video.";
    };
    function about(i, verdict, segment) {
      const [label, start, end, score] = entry.detections[i];
      return { video: video.id, label: names[label], verdict, segment, detection: { segment: [start, end], score } };
    }
    self.judge = function (word, again) {
      if (self.current < 0) return;
      const before = self.verdict(self.current);
      if (!word || (again && before && before.verdict === word)) {
        if (before) wtal.verdicts.remove(before);
      } else {
        wtal.verdicts.set(about(self.current, word, null));
      }
      heard.textContent = self.words(self.current);
    };
    self.move = function (i, side, time) {
      const segment = self.segment(i).slice();
      const second = Math.max(0, Math.min(entry.end, time)) - entry.shift;
      segment[side] = Number((side ? Math.max(second, segment[0] + 0.01) : Math.min(second, segment[1] - 0.01)).toFixed(3));
      wtal.verdicts.set(about(i, "moved", segment));
      heard.textContent = self.words(i);
    };
    self.moveHere = function (side) {
      if (self.current < 0) return;
      const time = self.player.time(), [start, end] = self.segment(self.current).map((second) => second + entry.shift);
      const nearer = Math.abs(time - start) <= Math.abs(time - end) ? 0 : 1;
      self.player.loop = null;
      self.move(self.current, side === undefined ? nearer : side, time);
    };
    self.markMissed = function () {
      const time = self.player.time();
      self.player.loop = null;
      if (self.mark === null) {
        self.mark = time;
        heard.textContent = `start of the missed action at ${wtal.time(time)}`;
      } else {
        const segment = [Math.min(self.mark, time), Math.max(self.mark, time)].map((second) => Number((second - entry.shift).toFixed(3)));
        self.mark = null;
        if (segment[1] > segment[0]) {
          wtal.verdicts.set({ video: video.id, label: names[Number(kind.value)], verdict: "missed", segment, detection: null });
        }
      }
      self.draw();
    };
    // A video that was looked at shows nothing but its confirmed classes, so one with open detections takes two calls.
    self.look = function () {
      const done = wtal.verdicts.lookedAt(video.id), open = done ? "" : self.open().join(", ");
      if (open && asked !== open) {
        asked = open;
        heard.textContent = `no verdict yet on ${open}: once more means that none of it occurs in this video`;
        return self.draw();
      }
      asked = "";
      return wtal.verdicts.look(video.id, !done);
    };
    // Classes of visible detections without a verdict, unless something else confirms the class.
    self.open = function () {
      const confirmed = (label) => wtal.verdicts.confirmed(video.id, label);
      const labels = self.shown().filter((i) => !self.verdict(i)).map((i) => names[entry.detections[i][0]]);
      return [...new Set(labels)].filter((label) => !confirmed(label)).sort();
    };
    self.escape = function () {
      if (self.mark !== null) self.mark = null;
      else if (self.player.loop) self.player.loop = null;
      else return false;
      self.draw();
      return true;
    };
    self.draw();
    section.querySelector("h2").focus({ preventScroll: true });
    return self;
  }

  // The number of each detection among the visible ones of its class, in order of time.
  function numbered(entry, shown) {
    const counts = new Map(), numbers = [];
    for (const i of shown) {
      const label = entry.detections[i][0];
      counts.set(label, (counts.get(label) || 0) + 1);
      numbers[i] = counts.get(label);
    }
    return numbers;
  }
})();
