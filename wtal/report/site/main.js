// The frame of the page: filters, addresses, keyboard shortcuts.
"use strict";

(function () {
  const { by, el } = wtal;
  let opening = false;

  wtal.route = function () {
    const text = location.hash.startsWith("#video=") ? decode(location.hash.slice(7)) : null;
    return text === null ? null : wtal.content.videos.find((video) => video.id === text) || null;
  };
  function decode(text) {
    try {
      return decodeURIComponent(text);
    } catch (error) {
      return null;
    }
  }
  wtal.go = function (video, first) {
    opening = Boolean(first);
    location.hash = wtal.address(video);
  };

  wtal.index = function (content) {
    content.videos.forEach((video, number) => { video.number = number; });
    wtal.load(content);
    document.title = `${content.title} – detections`;
    by("title").textContent = content.title;
    by("facts").textContent = `${wtal.many(content.videos.length, "video")}, ${wtal.many(content.classes.length, "class").replace("classs", "classes")}`;
    check(content);
    fill("failures", content.failures.length ? `${wtal.many(content.failures.length, "video")} failed` : "",
      content.failures.flatMap(([video, reason]) => [el("dt", {}, video), el("dd", {}, reason)]));
    fill("notes", content.notes.length ? wtal.many(content.notes.length, "note") : "", content.notes.map((note) => el("li", {}, note)));
    filters();
    wtal.verdicts.onChange(refresh);
    wtal.onChange(refresh);
    wtal.verdicts.start(content).then(() => route());
  };

  function fill(id, title, lines) {
    by(id).hidden = !title;
    by(id).firstElementChild.textContent = title;
    by(id).lastElementChild.replaceChildren(...lines);
  }

  function check(content) {
    const doubted = content.classes.filter((known) => known.check && known.check !== "learned");
    const learned = content.classes.filter((known) => known.check === "learned");
    if (!doubted.length && !learned.length) return;
    by("check").replaceChildren(
      el("strong", {}, "Label check: "),
      ...[...learned, ...doubted].map((known) => el("span", { class: known.check === "learned" ? "good" : "doubt" }, `${known.name} ${known.check}`)));
    by("check").dataset.there = "yes";
  }

  function filters() {
    const { state } = wtal;
    by("search").addEventListener("input", () => wtal.change({ query: by("search").value }));
    by("search").addEventListener("keydown", (event) => {
      if (event.key === "Escape") by("search").blur();
      if (event.key !== "Enter" || !wtal.collection.first()) return;
      by("search").blur();
      wtal.go(wtal.collection.first());
    });
    by("sort").addEventListener("change", () => {
      by("sort").blur();
      wtal.change({ sort: by("sort").value });
    });
    const [low, high] = wtal.range;
    by("least").addEventListener("input", () => {
      const share = Number(by("least").value) / 200;
      wtal.change({ least: share === 0 ? low : low + (high - low) * share });
    });
    by("all-classes").addEventListener("click", () => wtal.change({ off: new Set() }));
    by("classes").replaceChildren(...wtal.content.classes.map((known, label) => {
      const box = el("input", { type: "checkbox", id: `class-${label}`, onchange: () => {
        const off = new Set(state.off);
        if (box.checked) off.delete(label);
        else off.add(label);
        wtal.change({ off });
      } });
      const only = el("button", { type: "button", class: "plain only", "aria-label": `only ${known.name}`, onclick: () => {
        wtal.change({ off: new Set(wtal.content.classes.map((_, i) => i).filter((i) => i !== label)) });
      } }, "only");
      return el("li", {}, box, el("label", { for: `class-${label}`, title: known.name }, el("i", { class: `dot ${wtal.colour(label)}` }), el("span", {}, known.name)),
        only, el("span", { class: "total" }));
    }));
    by("download").addEventListener("click", () => wtal.verdicts.download());
    by("keys").addEventListener("click", () => by("help").showModal());
    if (innerWidth < 720) by("filters").open = false;
  }

  function refresh() {
    const { state } = wtal, [low, high] = wtal.range;
    by("least").value = String(high > low ? Math.round((200 * (state.least - low)) / (high - low)) : 0);
    by("least-text").textContent = state.least <= low ? "all" : wtal.score(state.least);
    const totals = wtal.totals();
    [...by("classes").children].forEach((item, label) => {
      item.firstElementChild.checked = !state.off.has(label);
      const { detections, videos } = totals[label], total = item.querySelector(".total");
      total.textContent = `${detections} · ${videos}`;
      total.setAttribute("aria-label", `${wtal.many(detections, "detection")} in ${wtal.many(videos, "video")}`);
    });
    const count = wtal.verdicts.total();
    by("download").textContent = count ? `Download ${wtal.many(count, "verdict")}` : "Download verdicts";
    wtal.collection.refresh();
    if (wtal.view.current) wtal.view.current.draw();
  }

  let last = null;
  function route() {
    const video = wtal.route(), first = opening;
    opening = false;
    if (video) {
      last = video;
      refresh();
      return wtal.view.open(video, first);
    }
    wtal.view.close();
    by("collection").hidden = false;
    by("check").hidden = !by("check").dataset.there;
    refresh();
    if (last) wtal.collection.focusVideo(last.id);
    last = null;
    return undefined;
  }
  addEventListener("hashchange", route);
  addEventListener("resize", () => { if (wtal.view.current) wtal.view.current.timeline.draw(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (wtal.view.current) wtal.view.current.timeline.draw(); });

  // Shortcuts for the open video; `view` is its view, and the event has the state of Shift.
  const keys = {
    " ": (view) => view.player.toggle(),
    ArrowLeft: (view, event) => view.player.seek(view.player.time() - (event.shiftKey ? view.entry.step : 1)),
    ArrowRight: (view, event) => view.player.seek(view.player.time() + (event.shiftKey ? view.entry.step : 1)),
    j: (view) => view.player.seek(view.player.time() - 5),
    k: (view) => view.player.pause(),
    l: (view) => {
      if (view.player.paused()) view.player.play();
      else view.player.setRate(Math.min(8, 2 * view.player.rate));
    },
    n: (view) => view.next(1),
    p: (view) => view.next(-1),
    N: (view) => view.turn(1),
    P: (view) => view.turn(-1),
    "[": (view) => view.player.faster(-1),
    "]": (view) => view.player.faster(1),
    "+": (view) => view.timeline.stretch(2),
    "=": (view) => view.timeline.stretch(2),
    "-": (view) => view.timeline.stretch(0.5),
    0: (view) => view.judge(null),
    1: (view) => view.judge("yes"),
    2: (view) => view.judge("no"),
    3: (view) => view.moveHere(),
    4: (view) => view.markMissed(),
    5: (view) => view.judge("skip"),
    i: (view) => view.moveHere(0),
    o: (view) => view.moveHere(1),
    f: (view) => view.look(),
    Escape: (view) => { if (!view.escape()) location.hash = ""; },
  };
  addEventListener("keydown", (event) => {
    const { target } = event, view = wtal.view.current;
    // Many keyboards type brackets with AltGr, which Windows reports as Ctrl and Alt, or with Alt.
    const typed = "[]".includes(event.key) && (event.altKey || event.getModifierState("AltGraph"));
    if (event.metaKey || (!typed && (event.ctrlKey || event.altKey)) || by("help").open) return;
    const slides = target.matches("[type=range]") && !/^(Arrow|Home|End|Page)/.test(event.key);
    if (target.matches("input:not([type=checkbox]), select") && !slides) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (event.key === "/") {
      by("filters").open = true;
      by("search").focus();
      by("search").select();
    } else if (event.key === "?") {
      by("help").showModal();
    } else if (view) {
      if (event.key === " " && target.closest("button, a, summary, [type=checkbox]") && !target.closest(".go, .bar, .play")) return;
      if (!Object.hasOwn(keys, event.key)) return;
      keys[event.key](view, event);
    } else {
      const step = wtal.collection.step(event.key), card = target.closest("[data-place]");
      if (step === undefined || (!card && target !== document.body && target !== by("main"))) return;
      wtal.collection.focus(card ? Number(card.dataset.place) + step : 0);
    }
    event.preventDefault();
  });
  addEventListener("keyup", (event) => {
    // A focused button is not pressed by the key for playing.
    if (event.key === " " && wtal.view.current && event.target.closest(".go, .bar, .play")) event.preventDefault();
  });
})();
