// The list of videos: only visible cards exist.
"use strict";

(function () {
  const HEIGHT = 232, LEAST = 208, GAP = 12;
  let videos = [], columns = 1, width = LEAST, drawn = new Map(), wanted = -1;

  wtal.file = (video, ending) => `${wtal.content.data}/${String(video.number).padStart(5, "0")}${ending}`;
  wtal.address = (video) => `#video=${encodeURIComponent(video.id)}`;

  wtal.collection = {
    refresh() {
      videos = wtal.listed();
      const found = videos.reduce((sum, video) => sum + wtal.shown(video).places.length, 0);
      wtal.by("count").textContent = `${wtal.many(videos.length, "video")}, ${wtal.many(found, "detection")}`;
      for (const card of drawn.values()) card.remove();
      drawn = new Map();
      layout();
    },
    layout,
    focus(place) {
      if (!videos.length) return;
      wanted = Math.max(0, Math.min(videos.length - 1, place));
      const top = wtal.by("cards").offsetTop + Math.floor(wanted / columns) * (HEIGHT + GAP);
      if (top < scrollY || top + HEIGHT > scrollY + innerHeight) scrollTo(0, top - innerHeight / 3);
      draw();
    },
    focusVideo: (id) => wtal.collection.focus(Math.max(0, videos.findIndex((video) => video.id === id))),
    first: () => videos[0],
    beside(video, step) {
      return videos[videos.indexOf(video) + step] || null;
    },
    step: (key) => ({ ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns })[key],
  };

  function layout() {
    const cards = wtal.by("cards"), room = cards.clientWidth;
    if (!room) return;
    columns = Math.max(1, Math.floor((room + GAP) / (LEAST + GAP)));
    width = (room - GAP * (columns - 1)) / columns;
    cards.style.height = `${Math.ceil(videos.length / columns) * (HEIGHT + GAP)}px`;
    draw();
  }

  function draw() {
    const cards = wtal.by("cards");
    if (!cards.clientWidth) return;
    const above = scrollY - cards.offsetTop;
    const first = Math.max(0, Math.floor(above / (HEIGHT + GAP)) - 1) * columns;
    const last = Math.min(videos.length, Math.ceil((above + innerHeight) / (HEIGHT + GAP) + 1) * columns);
    for (const [place, card] of drawn) {
      if (place >= first && place < last) continue;
      card.remove();
      drawn.delete(place);
    }
    for (let place = first; place < last; place += 1) {
      if (!drawn.has(place)) {
        const node = card(videos[place], place);
        drawn.set(place, node);
        cards.append(node);
      }
      const style = drawn.get(place).style;
      style.width = `${width}px`;
      style.transform = `translate(${(place % columns) * (width + GAP)}px, ${Math.floor(place / columns) * (HEIGHT + GAP)}px)`;
    }
    if (wanted >= 0 && drawn.has(wanted)) {
      drawn.get(wanted).firstElementChild.focus({ preventScroll: true });
      wanted = -1;
    }
  }

  function card(video, place) {
    const { el } = wtal, { places, best, top } = wtal.shown(video), { classes } = wtal.content;
    const names = [...best].sort((a, b) => b[1] - a[1]);
    const summary = names.map(([label, score]) => `${classes[label].name} ${wtal.score(score)}`).join(", ") || "no detections shown";
    const looked = wtal.verdicts.lookedAt(video.id), count = wtal.verdicts.counts(video.id);
    const strip = el("span", { class: "strip", "aria-hidden": "true" });
    const strongest = places.slice().sort((a, b) => video.found[4 * b + 1] - video.found[4 * a + 1]).slice(0, 40);
    for (const i of strongest.reverse()) {
      const [label, score, start, length] = video.found.slice(4 * i, 4 * i + 4);
      const bar = el("i", { class: wtal.colour(label) });
      bar.style.left = `${start / 10}%`;
      bar.style.width = `max(2px, ${length / 10}%)`;
      bar.style.opacity = wtal.depth(label, score);
      strip.append(bar);
    }
    const chips = names.slice(0, 4).map(([label]) =>
      el("span", { class: "chip" }, el("i", { class: `dot ${wtal.colour(label)}` }), classes[label].name));
    const marks = [looked ? "looked at" : "", count ? wtal.many(count, "verdict") : ""].filter(Boolean).join(", ");
    const link = el("a", {
      class: "card", href: wtal.address(video), "data-place": place,
      "aria-label": `${video.id}, ${wtal.time(video.end, 0)}, ${summary}${marks ? `, ${marks}` : ""}`,
    },
      el("span", { class: "poster" },
        video.poster ? el("img", { src: wtal.file(video, "-poster.jpg"), alt: "", decoding: "async" }) : "no picture",
        el("span", { class: "length" }, wtal.time(video.end, 0)),
        marks ? el("span", { class: "marks" }, looked ? "✓ " : "", count ? String(count) : "") : null),
      strip,
      el("span", { class: "caption" }, el("span", { class: "name", title: video.id }, video.id),
        places.length ? el("span", { class: "best" }, wtal.score(top)) : null),
      el("span", { class: "chips" }, ...(chips.length ? chips : [el("span", { class: "chip none" }, "no detections shown")])));
    return el("div", {
      class: "cell", role: "listitem", "aria-setsize": videos.length, "aria-posinset": place + 1,
    }, link);
  }

  // Opacity of a detection, by the position of its score within its class.
  wtal.depth = function (label, score) {
    const [low, high] = wtal.ranges[label];
    return (0.3 + 0.7 * (high > low ? (score - low) / (high - low) : 1)).toFixed(3);
  };

  addEventListener("scroll", draw, { passive: true });
  addEventListener("resize", layout);
})();
