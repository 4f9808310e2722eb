// The state of the page: videos, the parts shown, and formatting.
"use strict";
const wtal = {};

(function () {
  const state = { query: "", sort: "score", least: 0, off: new Set(), version: 0 };
  const listeners = [];

  // Create an element; strings are always inserted as text.
  wtal.el = function (tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };
  wtal.by = (id) => document.getElementById(id);

  wtal.state = state;
  wtal.onChange = (listener) => listeners.push(listener);
  wtal.change = function (values) {
    Object.assign(state, values);
    state.version += 1;
    for (const listener of listeners) listener();
  };

  wtal.time = function (seconds, digits = 1) {
    const whole = Math.max(0, seconds), minutes = Math.floor(whole / 60);
    const rest = (whole - 60 * minutes).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
    if (rest.startsWith("60")) return wtal.time(60 * (minutes + 1), digits);
    const hours = Math.floor(minutes / 60);
    return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
  };
  wtal.score = (value) => value.toFixed(2);
  wtal.many = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
  wtal.colour = (label) => `c${label % 7}`;

  // The collection: for each video, `found` lists class, score, start and length (thousandths) of each detection.
  wtal.load = function (content) {
    wtal.content = content;
    const low = [], high = [];
    let least = Infinity, most = -Infinity;
    content.classes.forEach(() => { low.push(Infinity); high.push(-Infinity); });
    for (const video of content.videos) {
      video.text = `${video.id} `.toLowerCase();
      video.labels = [...new Set(every(video.found))];
      for (const label of video.labels) video.text += `${content.classes[label].name.toLowerCase()} `;
      const best = new Map();
      for (let i = 0; i < video.found.length; i += 4) {
        const label = video.found[i], score = video.found[i + 1];
        least = Math.min(least, score);
        most = Math.max(most, score);
        best.set(label, Math.max(best.has(label) ? best.get(label) : -Infinity, score));
      }
      for (const [label, score] of best) {
        low[label] = Math.min(low[label], score);
        high[label] = Math.max(high[label], score);
      }
    }
    wtal.range = most >= least ? [least, most] : [0, 1];
    wtal.ranges = low.map((value, label) => [value, high[label]]);
    state.least = content.least;
  };
  function every(found) {
    return found.filter((_, i) => i % 4 === 0);
  }

  wtal.shows = (label, score) => score >= state.least && !state.off.has(label);

  // The visible part of a video: indices of its detections, the best score of each class, and its uncertainty.
  wtal.shown = function (video) {
    if (video.version === state.version) return video.shown;
    const places = [], best = new Map();
    for (let i = 0; i < video.found.length; i += 4) {
      const label = video.found[i], score = video.found[i + 1];
      if (!wtal.shows(label, score)) continue;
      places.push(i / 4);
      best.set(label, Math.max(best.has(label) ? best.get(label) : -Infinity, score));
    }
    let top = -Infinity, leading = -1, uncertain = -1;
    for (const [label, score] of best) {
      if (score > top) [top, leading] = [score, label];
      const [low, high] = wtal.ranges[label];
      const place = high > low ? (score - low) / (high - low) : 1;
      uncertain = Math.max(uncertain, 1 - Math.abs(2 * place - 1));
    }
    video.version = state.version;
    video.shown = { places, best, top, leading, uncertain };
    return video.shown;
  };

  const byName = (a, b) => a.id.localeCompare(b.id, "en", { numeric: true });
  const orders = {
    score: (a, b) => order(wtal.shown(b).top, wtal.shown(a).top),
    class: (a, b) => name(a).localeCompare(name(b), "en", { numeric: true }) || orders.score(a, b),
    length: (a, b) => b.end - a.end,
    uncertain: (a, b) => wtal.shown(b).uncertain - wtal.shown(a).uncertain,
    open: (a, b) => wtal.verdicts.lookedAt(a.id) - wtal.verdicts.lookedAt(b.id) || orders.uncertain(a, b),
    name: () => 0,
  };
  const order = (a, b) => (a === b ? 0 : a - b);
  function name(video) {
    const label = wtal.shown(video).leading;
    return label < 0 ? "\uffff" : wtal.content.classes[label].name;
  }

  // The listed videos, in order.
  wtal.listed = function () {
    const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
    const videos = wtal.content.videos.filter((video) => words.every((word) => video.text.includes(word)));
    return videos.sort((a, b) => orders[state.sort](a, b) || byName(a, b));
  };

  // Detections per class, and videos with any, above the minimum score, regardless of the class filters.
  wtal.totals = function () {
    const totals = wtal.content.classes.map(() => ({ detections: 0, videos: 0 }));
    for (const video of wtal.content.videos) {
      const there = new Set();
      for (let i = 0; i < video.found.length; i += 4) {
        if (video.found[i + 1] < state.least) continue;
        totals[video.found[i]].detections += 1;
        there.add(video.found[i]);
      }
      for (const label of there) totals[label].videos += 1;
    }
    return totals;
  };
})();
