// Verdicts: kept in this browser at once, or by `wtal report --serve` in their file.
"use strict";

(function () {
  const served = document.documentElement.dataset.served === "yes";
  let base = empty(), changes = empty(), mark = null, storage = null, saving = false, again = false;
  const listeners = [];

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
  function told() {
    for (const listener of listeners) listener();
  }
  function tell(text, wrong) {
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
      try {
        const stored = JSON.parse(localStorage.getItem(storage) || "null");
        if (stored) changes = { verdicts: new Map(stored.verdicts), looked: new Map(stored.looked) };
      } catch (error) {
        tell("This browser keeps nothing: download the verdicts before you leave.", true);
      }
      return Promise.resolve();
    },
    of(video, label, segment) {
      return get("verdicts", JSON.stringify([video, "of", label, segmentKey(segment)])) || null;
    },
    missed(video) {
      return all().filter((verdict) => verdict.video === video && verdict.verdict === "missed");
    },
    counts(video) {
      return all().filter((verdict) => verdict.video === video).length;
    },
    lookedAt: (video) => (get("looked", video) ? 1 : 0),
    total: () => all().length,
    set(verdict) {
      changes.verdicts.set(subject(verdict), verdict);
      save();
    },
    remove(verdict) {
      changes.verdicts.set(subject(verdict), null);
      save();
    },
    look(video, looked) {
      changes.looked.set(video, looked);
      save();
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

  function save() {
    told();
    if (served) return send();
    try {
      const stored = { verdicts: [...changes.verdicts], looked: [...changes.looked] };
      localStorage.setItem(storage, JSON.stringify(stored));
      tell("Kept in this browser");
    } catch (error) {
      tell("This browser keeps nothing: download the verdicts before you leave.", true);
    }
    return Promise.resolve();
  }

  async function load() {
    const answer = await fetch("verdicts.json", { cache: "no-store" });
    if (!answer.ok) return tell(`Verdicts cannot be read: ${answer.statusText}`, true);
    mark = answer.headers.get("ETag");
    try {
      base = read(await answer.json());
    } catch (error) {
      return tell("The file of verdicts is damaged; mend it, and load the page anew.", true);
    }
    return told();
  }

  // One request at a time; where the file has changed meanwhile it is read anew, and our changes are put on top.
  async function send() {
    if (mark === null) return tell("Not saved: the file of verdicts could not be read.", true);
    tell("Saving");
    again = saving;
    if (saving) return undefined;
    saving = true;
    tell("Saving …");
    try {
      let conflicts = 0;
      do {
        again = false;
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
        } else {
          throw new Error((await answer.text()) || answer.statusText);
        }
      } while (again);
      tell("Saved");
    } catch (error) {
      tell(`Not saved: ${error.message}. Is wtal report --serve still running?`, true);
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
    tell("Downloaded as verdicts.json");
  };
  wtal.verdicts = api;
})();
