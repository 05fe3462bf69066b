"use strict";
// Shows the questions of a report one at a time. Texts of models and data sets go into the page by
// textContent only. The filter is in the address (#verdict=wrong&type=CW), so that it can be sent.
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const form = document.getElementById("filters");
  const LISTED = 100;
  const VERDICTS = {
    right: ["\u2713", "right"],
    wrong: ["\u2717", "wrong"],
    invalid: ["?", "invalid: names no answer"],
    unreadable: ["!", "video unreadable"],
    unscored: ["\u2013", "neither right nor wrong"],
  };
  const FIELDS = ["run", "beside", "verdict", "compared", "corpus", "type", "frames", "text"];
  let matches = [];
  let current = 0;

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  function percent(share) {
    return (100 * share).toFixed(share < 0.0995 ? 1 : 0) + "%";
  }

  function counted(number, word) {
    return `${number} ${word}${number === 1 ? "" : "s"}`;
  }

  function badge(answer) {
    const [sign, words] = VERDICTS[answer.verdict];
    const said = answer.verdict === "unscored" && answer.score ? answer.score : words;
    return make("span", { class: `verdict ${answer.verdict}` }, `${sign} ${said}`);
  }

  // Filter

  function fill(name, choices) {
    const select = form.elements[name];
    const before = select.value;
    select.replaceChildren(
      ...choices.map(([value, words]) => make("option", { value }, words)));
    select.value = choices.some(([value]) => value === before) ? before : choices[0][0];
  }

  function distinct(values) {
    return [...new Set(values)].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  }

  function fillTypes() {
    const corpus = form.elements.corpus.value;
    const types = distinct(data.items
      .filter((item) => item.type && (!corpus || item.corpus === corpus)).map((item) => item.type));
    fill("type", [["", "any"], ...types.map((type) => [type, type])]);
  }

  function fillFilters() {
    const runs = data.runs.map((name, number) => [String(number), name]);
    fill("run", runs);
    fill("beside", [["", "no other"], ...runs]);
    fill("verdict", [["", "any"], ["not-right", "not right"],
      ...Object.keys(VERDICTS).map((name) => [name, name])]);
    fill("compared", [["", "any"], ...data.runs.flatMap((name, number) => [
      [`better-${number}`, `right where '${name}' is not`],
      [`worse-${number}`, `not right where '${name}' is`]])]);
    fill("corpus", [["", "all"], ...distinct(data.items.map((item) => item.corpus))
      .map((corpus) => [corpus, corpus])]);
    fill("frames", [["", "any"], ["shown", "shown"]]);
    fillTypes();
  }

  const searched = data.items.map((item) => [item.id, item.video_id, item.question,
    ...item.options, item.reference, ...item.answers.map((answer) => answer ? answer.text : "")]
    .join("\n").toLowerCase());

  function isRight(item, run) {
    return item.answers[run] !== null && item.answers[run].verdict === "right";
  }

  function passes(item, number, filter) {
    const answer = item.answers[Number(filter.run)];
    if (answer === null) return false;
    if (filter.verdict === "not-right" && !["wrong", "invalid", "unreadable"]
      .includes(answer.verdict)) return false;
    if (filter.verdict && filter.verdict !== "not-right" && answer.verdict !== filter.verdict)
      return false;
    if (filter.corpus && item.corpus !== filter.corpus) return false;
    if (filter.type && item.type !== filter.type) return false;
    if (filter.frames && (item.video === null || !data.videos[item.video].frames.length))
      return false;
    if (filter.compared) {
      const [how, other] = filter.compared.split("-");
      const here = isRight(item, Number(filter.run));
      const there = isRight(item, Number(other));
      if (!item.answers[Number(other)] || answer.verdict === "unscored") return false;
      if (how === "better" ? !(here && !there) : !(there && !here)) return false;
    }
    const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => searched[number].includes(word));
  }

  function search(id) {
    const filter = Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].value]));
    matches = [...data.items.keys()].filter((number) =>
      passes(data.items[number], number, filter));
    const wanted = matches.findIndex((number) => data.items[number].id === id);
    const pictured = matches.findIndex((number) => data.items[number].video !== null);
    current = Math.max(wanted >= 0 ? wanted : pictured, 0);
    show();
  }

  // Address

  function addressNow() {
    const values = new URLSearchParams();
    for (const name of FIELDS) {
      const value = form.elements[name].value;
      if (value && !(name === "run" && value === "0")) values.set(name, value);
    }
    if (matches.length) values.set("id", data.items[matches[current]].id);
    return "#" + values;
  }

  function writeAddress() {
    // Not pushed: the way back leads out of the page, not through all questions.
    location.replace(addressNow());
  }

  function readAddress() {
    const values = new URLSearchParams(location.hash.slice(1));
    // Our own, or that of a heading.
    if (location.hash === addressNow() || ![...FIELDS, "id"].some((name) => values.has(name)))
      return;
    for (const name of FIELDS) {
      const field = form.elements[name];
      field.value = values.get(name) || "";
      if (field.selectedIndex === -1) field.selectedIndex = 0;
      if (name === "corpus") fillTypes();
    }
    search(values.get("id"));
  }

  // Showing

  function show() {
    const run = Number(form.elements.run.value);
    const number = counted(matches.length, "question");
    document.getElementById("found").textContent =
      matches.length ? `${current + 1} of ${number}` : "No question passes the filter.";
    const start = current - current % LISTED;
    document.getElementById("list").replaceChildren(
      ...matches.slice(start, start + LISTED).map((place, offset) => entry(place, start + offset, run)));
    document.getElementById("list").setAttribute("start", start + 1);
    const chosen = document.querySelector("#list [aria-current]");
    if (chosen) {
      const list = document.getElementById("list");
      const top = chosen.offsetTop - list.offsetTop;
      if (top < list.scrollTop || top + chosen.offsetHeight > list.scrollTop + list.clientHeight)
        list.scrollTop = top - list.clientHeight / 3;
    }
    document.getElementById("previous").disabled = current === 0;
    document.getElementById("next").disabled = current >= matches.length - 1;
    const shown = document.getElementById("question");
    shown.hidden = !matches.length;
    if (matches.length) shown.replaceChildren(...question(data.items[matches[current]], run));
    else shown.replaceChildren();
  }

  function entry(place, position, run) {
    const item = data.items[place];
    const verdict = item.answers[run].verdict;
    const [sign, words] = VERDICTS[verdict];
    const button = make("button", { type: "button", title: item.question },
      make("span", { class: verdict, "aria-label": words, role: "img" }, sign),
      " ", item.question);
    if (position === current) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => step(position - current));
    return make("li", {}, button);
  }

  function step(by) {
    const wanted = current + by;
    if (wanted < 0 || wanted >= matches.length) return;
    current = wanted;
    show();
    writeAddress();
  }

  function question(item, run) {
    const answer = item.answers[run];
    const facts = [["corpus", item.corpus], ["type", item.type], ["video", item.video_id],
      ["id", item.id]].filter(([, value]) => value);
    const parts = [
      make("h3", {}, `Question ${current + 1} of ${matches.length} `, badge(answer)),
      make("p", { class: "asked" }, item.question),
      frames(item),
    ];
    if (item.options.length) parts.push(options(item, answer));
    parts.push(make("dl", {}, ...[["answer", answer.text], ["reference", item.reference],
      ["generated", answer.output === answer.text ? "" : answer.output], ["error", answer.error]]
      .filter(([name, value]) => value || name === "answer")
      .flatMap(([name, value]) => [make("dt", {}, name),
        make("dd", { class: "said" }, value || "(nothing)")])));
    if (form.elements.beside.value)
      parts.push(sideBySide(item, [run, Number(form.elements.beside.value)]));
    if (data.runs.length > 1) parts.push(allRuns(item, run));
    parts.push(make("dl", { class: "facts" }, ...facts.flatMap(([name, value]) =>
      [make("dt", {}, name), make("dd", {}, value)])));
    return parts;
  }

  function frames(item) {
    const video = item.video === null ? null : data.videos[item.video];
    if (video && video.frames.length) {
      return make("div", { class: "frames" }, ...video.frames.map((frame) => {
        const seconds = `${frame.seconds.toFixed(1)} s`;
        const objects = frame.num_objects === null ? "objects unknown"
          : counted(frame.num_objects, "object");
        return make("figure", {},
          make("img", { src: frame.picture, loading: "lazy",
            alt: `Frame of video ${item.video_id} at ${seconds}, ${objects}` }),
          make("figcaption", {}, `${seconds}, ${objects}`));
      }));
    }
    let why = "this page was written without the videos.";
    if (video) why = video.missing;
    else if (data.num_pictured !== null)
      why = `the page has those of ${counted(data.num_pictured, "chosen question")} only.`;
    return make("p", { class: "no-frames" }, `No frames: ${why}`);
  }

  function options(item, answer) {
    const rows = item.options.map((text, number) => {
      const marks = [];
      if (number === item.right) marks.push(make("span", { class: "tag right" }, "reference"));
      if (number === answer.chosen) marks.push(make("span", { class: "tag chosen" }, "answer"));
      const row = make("li", {}, make("span", { class: "option" },
        make("b", {}, `(${String.fromCharCode(65 + number)}) `), text, " ", ...marks));
      if (answer.shares.length) {
        const bar = make("span", {});
        bar.style.width = percent(answer.shares[number]);
        row.append(make("span", { class: "meter", "aria-hidden": "true" }, bar),
          make("span", { class: "number" }, percent(answer.shares[number]),
            make("span", { class: "muted", title: "log-likelihood per token" },
              ` ${answer.scores[number].toFixed(2)}`)));
      }
      return row;
    });
    return make("ol", { class: "choices" }, ...rows);
  }

  function sideBySide(item, runs) {
    return make("div", { class: "beside" }, ...runs.map((run) => {
      const answer = item.answers[run];
      return make("section", {}, make("h4", {}, data.runs[run]),
        ...(answer === null ? [make("p", {}, "did not answer this question")]
          : [badge(answer), make("p", { class: "said" }, answer.text || "(nothing)")]));
    }));
  }

  function allRuns(item, run) {
    const head = make("tr", {}, ...["run", "verdict", "answer", "confidence"]
      .map((name) => make("th", { scope: "col" }, name)));
    const rows = data.runs.map((name, number) => {
      const answer = item.answers[number];
      const row = make("tr", number === run ? { class: "first" } : {},
        make("th", { scope: "row" }, name));
      if (answer === null) row.append(make("td", { colspan: "3" }, "did not answer this question"));
      else {
        const share = answer.shares.length ? percent(Math.max(...answer.shares)) : "\u2013";
        row.append(make("td", {}, badge(answer)),
          make("td", { class: "said" }, answer.text || "(nothing)"), make("td", {}, share));
      }
      return row;
    });
    return make("div", { class: "scroll" }, make("table", { class: "runs" },
      make("caption", {}, "All runs on this question"), make("thead", {}, head),
      make("tbody", {}, ...rows)));
  }

  // Start

  const left = data.num_questions - data.items.length;
  const pictured = data.items.filter((item) => item.video !== null).length;
  document.getElementById("coverage").textContent =
    `${counted(data.items.length, "question")}` +
    (left ? ` of ${data.num_questions}, spread evenly` : "") +
    `, ${pictured} of them with frames; coloured outlines are the masks that became object tokens.`;
  fillFilters();
  function searchAgain() {
    fillTypes();
    search(matches.length ? data.items[matches[current]].id : null);
    writeAddress();
  }
  form.addEventListener("input", searchAgain);
  form.addEventListener("reset", () => setTimeout(searchAgain));  // when the fields are reset
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("previous").addEventListener("click", () => step(-1));
  document.getElementById("next").addEventListener("click", () => step(1));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest && event.target.closest("input, select, textarea, .scroll")) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && matches.length) {
      event.preventDefault();
      step(by);
    }
  });
  window.addEventListener("hashchange", readAddress);
  search(null);
  readAddress();
})();
