// Verdicts: stored immediately in this browser, or by `wtal report --serve` in their file.
"use strict";

(function () {
  const served = document.documentElement.dataset.served === "yes";
  let base = empty(), changes = empty(), mark = null, storage = null, saving = false, again = false;
  const listeners = [];
  const NO_STORAGE = "This browser cannot store verdicts: download them before you leave.";

  function empty() {
    return { verdicts: new Map(), looked: new Map() };
  }
  const segmentKey = (segment) => (segment ? `${segment[0]} ${segment[1]}` : "");
  function subject(verdict) {
    const kind = verdict.detection ? "of" : "missed";
    const at = verdict.detection ? verdict.detection.segment : verdict.segment;
    return JSON.stringify([verdict.video, kind, verdict.label, segmentKey(at)]);
  }
  function read(content) {
    const known = empty();
    for (const verdict of (content && content.verdicts) || []) known.verdicts.set(subject(verdict), verdict);
    for (const video of (content && content.looked_at) || []) known.looked.set(video, true);
    return known;
  }
  function notify() {
    for (const listener of listeners) listener();
  }
  function report(text, wrong) {
    const status = wtal.by("saved");
    status.textContent = text;
    status.classList.toggle("wrong", Boolean(wrong));
  }

  const api = {
    onChange: (listener) => listeners.push(listener),
    start(content) {
      storage = `wtal-verdicts-${content.key}`;
      base = read(content.verdicts);
      if (served) return load();
      recall();
      window.addEventListener("storage", (event) => {
        if (event.key !== storage) return;
        recall();
        notify();
      });
      return Promise.resolve();
    },
    of(video, label, segment) {
      return get("verdicts", JSON.stringify([video, "of", label, segmentKey(segment)])) || null;
    },
    missed(video) {
      return all().filter((verdict) => verdict.video === video && verdict.verdict === "missed");
    },
    confirmed(video, label) {
      return all().some((verdict) => verdict.video === video && verdict.label === label && ["yes", "moved", "missed"].includes(verdict.verdict));
    },
    counts(video) {
      return all().filter((verdict) => verdict.video === video).length;
    },
    lookedAt: (video) => (get("looked", video) ? 1 : 0),
    total: () => all().length,
    set(verdict) {
      change("verdicts", subject(verdict), verdict);
    },
    remove(verdict) {
      change("verdicts", subject(verdict), null);
    },
    look(video, looked) {
      change("looked", video, looked);
    },
    content() {
      const looked = new Map([...base.looked, ...changes.looked]);
      return {
        format: 1,
        verdicts: all(),
        looked_at: [...looked].filter(([, value]) => value).map(([video]) => video).sort(),
      };
    },
    served,
  };
  function get(kind, key) {
    return changes[kind].has(key) ? changes[kind].get(key) : base[kind].get(key);
  }
  function all() {
    return [...new Map([...base.verdicts, ...changes.verdicts]).values()].filter(Boolean);
  }

  // Read what this page, or another tab with it, has stored.
  function recall() {
    try {
      const stored = JSON.parse(localStorage.getItem(storage) || "null");
      if (stored) changes = { verdicts: new Map(stored.verdicts), looked: new Map(stored.looked) };
    } catch (error) {
      report(NO_STORAGE, true);
    }
  }

  function change(kind, key, value) {
    if (!served) recall();
    changes[kind].set(key, value);
    notify();
    if (served) return send();
    try {
      const stored = { verdicts: [...changes.verdicts], looked: [...changes.looked] };
      localStorage.setItem(storage, JSON.stringify(stored));
      report("Stored in this browser");
    } catch (error) {
      report(NO_STORAGE, true);
    }
    return Promise.resolve();
  }

  // Move saved changes to the base; changes made meanwhile stay. A later answer from elsewhere is thus not undone.
  function settle(sent) {
    for (const kind of ["verdicts", "looked"]) {
      for (const [key, value] of sent[kind]) {
        base[kind].set(key, value);
        if (changes[kind].get(key) === value) changes[kind].delete(key);
      }
    }
  }

  async function load() {
    const answer = await fetch("verdicts.json", { cache: "no-store" });
    if (!answer.ok) return report(`Verdicts cannot be read: ${answer.statusText}`, true);
    mark = answer.headers.get("ETag");
    try {
      base = read(await answer.json());
    } catch (error) {
      return report("The file of verdicts is damaged; repair it and reload the page.", true);
    }
    return notify();
  }

  // One request at a time; if the file has changed in the meantime, it is read again and our changes are applied on top.
  async function send() {
    if (mark === null) return report("Not saved: the file of verdicts could not be read.", true);
    report("Saving");
    again = saving;
    if (saving) return undefined;
    saving = true;
    report("Saving …");
    try {
      let conflicts = 0;
      do {
        again = false;
        const sent = { verdicts: new Map(changes.verdicts), looked: new Map(changes.looked) };
        const answer = await fetch("verdicts.json", {
          method: "POST",
          headers: { "Content-Type": "application/json", "If-Match": mark },
          body: JSON.stringify(api.content()),
        });
        if (answer.status === 409 && conflicts < 5) {
          conflicts += 1;
          again = true;
          await load();
        } else if (answer.ok) {
          mark = answer.headers.get("ETag");
          settle(sent);
        } else {
          throw new Error((await answer.text()) || answer.statusText);
        }
      } while (again);
      report("Saved");
    } catch (error) {
      report(`Not saved: ${error.message}. Is wtal report --serve still running?`, true);
    } finally {
      saving = false;
    }
    return undefined;
  }

  api.download = function () {
    const text = `${JSON.stringify(api.content(), null, 2)}\n`;
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    wtal.el("a", { href: address, download: "verdicts.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
    report("Downloaded as verdicts.json");
  };
  wtal.verdicts = api;
})();
