// Players of a video: the browser, or a filmstrip with its own clock if there is nothing to play.
"use strict";

(function () {
  const SPEEDS = [0.25, 0.5, 0.75, 1, 1.5, 2, 4, 8];

  // Create an element of a given width in pixels from a tile of a video's sheet.
  wtal.tile = function (video, entry, place, width) {
    const { sheet } = entry, scale = width / sheet.width;
    const node = wtal.el("span", { class: "tile" });
    node.style.width = `${width}px`;
    node.style.height = `${Math.round(sheet.height * scale)}px`;
    node.style.backgroundImage = `url("${wtal.file(video, ".jpg")}")`;
    node.style.backgroundSize = `${Math.min(sheet.columns, tiles(sheet)) * width}px auto`;
    const row = Math.floor(place / sheet.columns), column = place % sheet.columns;
    node.style.backgroundPosition = `${-column * width}px ${-row * Math.round(sheet.height * scale)}px`;
    return node;
  };
  const tiles = (sheet) => 3 * sheet.pictured.length + sheet.strip.length;

  wtal.player = function (video, entry, onTick) {
    const stage = wtal.el("div", { class: "stage" });
    const player = { node: stage, loop: null, rate: 1, captions: true };
    let clock = entry.source ? browser(fallback) : filmstrip(entry.why);
    let frame = 0;

    function fallback() {
      const time = clock.time();
      clock.leave();
      clock = filmstrip("This browser cannot play this video.");
      clock.seek(time);
    }

    function browser(fail) {
      const served = wtal.verdicts.served && !entry.source.startsWith("proxies/");
      const node = wtal.el("video", {
        src: served ? `media/${video.number}` : entry.source, preload: "auto", playsinline: true,
        "aria-label": `Video ${video.id}`, poster: video.poster ? wtal.file(video, "-poster.jpg") : null,
        onerror: () => fail(), onclick: () => player.toggle(),
        onplay: () => wake(), onpause: () => tick(), onseeked: () => tick(), onloadedmetadata: () => tick(),
      });
      const track = node.addTextTrack("captions", "Detections", "en");
      stage.replaceChildren(node);
      return {
        time: () => node.currentTime,
        seek: (time) => { node.currentTime = time; },
        play: () => { const started = node.play(); if (started) started.catch(() => tick()); },
        pause: () => node.pause(),
        paused: () => node.paused,
        setRate: (rate) => { node.playbackRate = rate; },
        cue(cues, showing) {
          for (const cue of [...(track.cues || [])]) track.removeCue(cue);
          for (const [start, end, text] of cues) {
            const markup = text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
            if (end > start) track.addCue(new VTTCue(start, end, markup));
          }
          track.mode = showing ? "showing" : "hidden";
        },
        leave() { node.removeAttribute("src"); node.load(); },
      };
    }

    function filmstrip(why) {
      let time = 0, playing = false, last = 0, rate = 1, shown = -1, cues = [];
      const picture = wtal.el("div", { class: "film" });
      const caption = wtal.el("p", { class: "caption" });
      stage.replaceChildren(picture, wtal.el("p", { class: "why" }, why || ""), caption);
      const known = moments(entry);
      function show() {
        let place = -1, nearest = Infinity;
        known.forEach((second, i) => {
          const far = Math.abs(second - time);
          if (far < nearest) [nearest, place] = [far, i];
        });
        if (place !== shown && place >= 0) picture.replaceChildren(wtal.tile(video, entry, place, 384));
        shown = place;
        caption.textContent = cues.filter((cue) => time >= cue[0] && time < cue[1]).map((cue) => cue[2]).join("\n");
      }
      show();
      return {
        time() {
          const now = performance.now();
          if (playing) {
            time = Math.min(entry.end, time + (rate * (now - last)) / 1000);
            playing = time < entry.end;
            show();
          }
          last = now;
          return time;
        },
        seek(to) { time = to; show(); },
        play() { if (time >= entry.end) time = 0; playing = true; last = performance.now(); wake(); },
        pause() { playing = false; tick(); },
        paused: () => !playing,
        setRate(to) { rate = to; },
        cue(list, showing) { cues = showing ? list : []; show(); },
        leave() {},
      };
    }

    function tick() {
      const time = clock.time();
      if (player.loop && !clock.paused() && (time >= player.loop[1] || time < player.loop[0] - 0.5)) clock.seek(player.loop[0]);
      onTick(time);
    }
    function wake() {
      cancelAnimationFrame(frame);
      const step = () => {
        tick();
        if (!clock.paused()) frame = requestAnimationFrame(step);
      };
      step();
    }

    player.time = () => clock.time();
    player.paused = () => clock.paused();
    player.seek = function (time) {
      clock.seek(Math.max(0, Math.min(entry.end, time)));
      tick();
    };
    player.play = () => clock.play();
    player.pause = () => clock.pause();
    player.toggle = () => (clock.paused() ? clock.play() : clock.pause());
    player.setRate = function (rate) {
      player.rate = rate;
      clock.setRate(rate);
      onTick(clock.time());
    };
    player.faster = function (step) {
      const place = SPEEDS.findIndex((speed) => speed >= player.rate);
      player.setRate(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, place + step))]);
    };
    // Play a segment in a loop.
    player.repeat = function (start, end) {
      const last = Math.min(end, entry.end);
      player.loop = [start, Math.max(start + 0.05, last - entry.step / 4)];
      clock.seek(Math.max(0, start));
      clock.play();
    };
    player.cue = (cues) => clock.cue(cues, player.captions);
    player.leave = function () {
      cancelAnimationFrame(frame);
      clock.pause();
      clock.leave();
    };
    return player;
  };

  // Times of a sheet's tiles on the player's clock, in order.
  function moments(entry) {
    if (!entry.sheet) return [];
    const seconds = entry.sheet.pictured.flatMap((i) => {
      const [, start, end] = entry.detections[i];
      return [start, (start + end) / 2, end].map((second) => second + entry.shift);
    });
    return [...seconds, ...entry.sheet.strip];
  }
})();
