"use strict";
// Lets a person accept, reject or edit the rows of an instruction set, one at a time. Texts of
// models and data sets go into the page by textContent only. Decisions stay in the browser's storage
// under the set's hash and the reviewer's name, until they are saved as a review file.
(() => {
  const data = JSON.parse(document.getElementById("review-data").textContent);
  const byId = (id) => document.getElementById(id);
  const form = byId("filters");
  const LISTED = 100;
  const ACCEPTED = "accepted";
  const DECISIONS = { accept: ["\u2713", "accepted", "right"], reject: ["\u2717", "rejected", "wrong"],
    edit: ["\u270e", "edited", "edit"] };
  // Control characters, line ends, and marks that turn the direction of writing.
  const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
  const FIELDS = ["source", "verdict", "decision", "text"];
  const PREFIX = `vidreason-review:${data.set}:`;
  let decisions = Object.create(null);  // by id, which may be any text
  let memory = {};  // what is stored where there is no storage
  let matches = [];
  let current = 0;
  let editing = false;

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  function button(words, action, attributes) {
    const element = make("button", { type: "button", ...attributes }, words);
    element.addEventListener("click", action);
    return element;
  }

  // A text of others: isolated, and with its unseen characters shown.
  function said(text) {
    const element = make("bdi", { class: "said" });
    let end = 0;
    for (const match of text.matchAll(UNSEEN)) {
      if (match[0] === "\n" || match[0] === "\t") continue;
      const code = match[0].codePointAt(0).toString(16).padStart(4, "0");
      element.append(text.slice(end, match.index), make("span", { class: "sign" }, `\\u${code}`));
      end = match.index + match[0].length;
    }
    element.append(text.slice(end));
    return element;
  }

  function inOneLine(text) {
    return text.replace(/\s+/g, " ").replace(UNSEEN, "").toWellFormed().trim();
  }

  function seconds(step) {
    if (step.start === null && step.end === null) return "";
    const shown = (value, words) => value === null ? words : value.toFixed(1);
    return `${shown(step.start, "start")} \u2013 ${shown(step.end, "end")} s`;
  }

  // Storage

  function read(key) {
    try {
      return localStorage.getItem(PREFIX + key);
    } catch {
      return memory[key] ?? null;
    }
  }

  function write(key, value) {
    memory[key] = value;
    try {
      localStorage.setItem(PREFIX + key, value);
    } catch {
      warn("This browser stores nothing for this page: save the review file before you close it.");
    }
  }

  function warn(words) {
    byId("warning").textContent = words;
    byId("warning").hidden = !words;
  }

  function reviewer() {
    return inOneLine(byId("reviewer").value).slice(0, data.limits.name);
  }

  function load() {
    decisions = Object.create(null);
    const name = reviewer();
    if (!name) return;
    let stored = {};
    try {
      stored = JSON.parse(read(`by:${name}`)) || {};
    } catch {
      warn("What this browser had stored of this review is damaged, and was not read.");
    }
    const versions = new Map(data.items.map((item) => [item.id, item.row_sha]));
    // Rows of the set that are not on this page stay stored: they may be on another.
    for (const [id, decision] of Object.entries(stored))
      if (isSound(decision) && (!versions.has(id) || versions.get(id) === decision.row_sha))
        decisions[id] = decision;
  }

  // Whether the storage, which other pages share, holds what this page has put there.
  function isSound(decision) {
    if (!decision || !Object.hasOwn(DECISIONS, decision.decision)) return false;
    return decision.decision !== "edit" ||
      (Array.isArray(decision.steps) && Array.isArray(decision.predictions));
  }

  function decided(item) {
    return Object.hasOwn(decisions, item.id) ? decisions[item.id] : null;
  }

  function decide(item, content) {
    if (content === null) delete decisions[item.id];
    else decisions[item.id] = { row_sha: item.row_sha, ...content,
      reviewed_at: new Date().toISOString() };
    write(`by:${reviewer()}`, JSON.stringify(decisions));
  }

  function reviewFile() {
    return data.items.filter(decided).map((item) =>
      JSON.stringify({ id: item.id, reviewer: reviewer(), ...decided(item) }) + "\n").join("");
  }

  function save() {
    const address = URL.createObjectURL(new Blob([reviewFile()], { type: "application/jsonl" }));
    const name = reviewer().replace(/[^A-Za-z0-9_-]+/g, "_");
    const link = make("a", { href: address, download: `review-${name}.jsonl` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  }

  // Filter

  function fill(name, choices) {
    form.elements[name].replaceChildren(
      ...choices.map(([value, words]) => make("option", { value }, words)));
  }

  function distinct(values) {
    return [...new Set(values)].sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
      .map((value) => [value, value]);
  }

  function fillFilters() {
    fill("source", [["", "all"], ...distinct(data.items.map((item) => item.source))]);
    const causes = distinct(data.items.map((item) => item.verdict))
      .filter(([verdict]) => verdict !== ACCEPTED);
    fill("verdict", [["", "any"], [ACCEPTED, ACCEPTED], ["rejected", "rejected"],
      ...causes.map(([cause]) => [`cause:${cause}`, `rejected: ${cause}`])]);
    fill("decision", [["", "any"], ["undecided", "undecided"],
      ...Object.entries(DECISIONS).map(([name, [, words]]) => [name, words])]);
  }

  const searched = data.items.map((item) => [item.id, item.video_id, item.prompt,
    ...item.steps.map((step) => step.text),
    ...item.predictions.flatMap((one) => [one.text, one.justification])].join("\n").toLowerCase());

  function passes(item, number, filter) {
    if (filter.source && item.source !== filter.source) return false;
    if (filter.verdict === ACCEPTED && item.verdict !== ACCEPTED) return false;
    if (filter.verdict === "rejected" && item.verdict === ACCEPTED) return false;
    if (filter.verdict.startsWith("cause:") && filter.verdict !== `cause:${item.verdict}`) return false;
    const decision = decided(item);
    if (filter.decision === "undecided" && decision) return false;
    if (filter.decision in DECISIONS && (!decision || decision.decision !== filter.decision))
      return false;
    const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => searched[number].includes(word));
  }

  function search(id) {
    const filter = Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].value]));
    matches = [...data.items.keys()].filter((number) => passes(data.items[number], number, filter));
    const wanted = matches.findIndex((number) => data.items[number].id === id);
    current = wanted >= 0 ? wanted : Math.max(Math.min(current, matches.length - 1), 0);
  }

  function chosen() {
    return matches.length ? data.items[matches[current]] : null;
  }

  // Showing

  function setEditing(value) {
    editing = value;
    // What would lose the edit waits until it is saved or cancelled.
    for (const part of ["reviewing", "filters", "rows", "deciding"]) byId(part).inert = editing;
  }

  function show() {
    setEditing(false);
    byId("reasons").hidden = true;
    const number = `${matches.length} row${matches.length === 1 ? "" : "s"}`;
    byId("found").textContent =
      matches.length ? `${current + 1} of ${number}` : "No row passes the filter.";
    const start = current - current % LISTED;
    byId("list").replaceChildren(...matches.slice(start, start + LISTED)
      .map((index, offset) => entry(data.items[index], start + offset)));
    byId("list").setAttribute("start", start + 1);
    const entryShown = document.querySelector("#list [aria-current]");
    if (entryShown) {
      const list = byId("list");
      const top = entryShown.offsetTop - list.offsetTop;
      if (top < list.scrollTop || top + entryShown.offsetHeight > list.scrollTop + list.clientHeight)
        list.scrollTop = top - list.clientHeight / 3;
    }
    const item = chosen();
    byId("row").hidden = !item;
    byId("row").replaceChildren(...(item ? row(item) : []));
    showState();
  }

  function showState() {
    const item = chosen();
    const decision = item && decided(item);
    const can = Boolean(item && reviewer());
    for (const name of ["accept", "reject"]) byId(name).disabled = !can;
    byId("edit").disabled = !can || item.is_cut;
    byId("edit").title = item && item.is_cut ? "Too long to be edited here" : "";
    byId("undo").disabled = !can || !decision;
    for (const name of Object.keys(DECISIONS))
      byId(name).setAttribute("aria-pressed", String(Boolean(decision && decision.decision === name)));
    byId("previous").disabled = current === 0;
    byId("next").disabled = current >= matches.length - 1;
    const counts = Object.keys(DECISIONS).map((name) =>
      data.items.filter((one) => decided(one) && decided(one).decision === name).length);
    const total = counts.reduce((sum, count) => sum + count, 0);
    byId("counts").textContent = reviewer() ? `${total} of ${data.items.length} decided: ` +
      Object.values(DECISIONS).map(([, words], index) => `${counts[index]} ${words}`).join(", ")
      : "Enter your name to begin: your decisions are kept under it.";
    byId("bar").max = data.items.length;
    byId("bar").value = total;
    byId("save").disabled = !reviewer() || !total;
    byId("undecided").disabled = total === data.items.length;
  }

  function entry(item, position) {
    const decision = decided(item);
    const [sign, words, kind] = decision ? DECISIONS[decision.decision]
      : ["\u2022", "undecided", "muted"];
    const shown = item.steps.length ? item.steps[0].text
      : item.predictions.length ? item.predictions[0].text : item.id;
    const element = button("", () => move(position - current), { title: item.id });
    element.append(make("span", { class: kind, "aria-label": words, role: "img" }, sign), " ",
      said(shown.slice(0, 120)));
    if (position === current) element.setAttribute("aria-current", "true");
    return make("li", {}, element);
  }

  function row(item) {
    const decision = decided(item);
    const isEdited = Boolean(decision && decision.decision === "edit");
    const answer = isEdited ? decision : item;
    const span = item.facts.filter(([name]) => name === "start" || name === "end")
      .map(([name, value]) => `${name} ${value} s`).join(", ");
    return [
      make("div", { class: "heading" }, make("h3", {}, `Row ${current + 1} of ${matches.length}`),
        ...(decision ? [badge(decision)] : [])),
      frames(item),
      make("h4", {}, "Prompt"),
      make("p", {}, said(item.prompt || "(none)")),
      make("h4", {}, isEdited ? "Answer as edited" : "Answer"),
      ...answered(answer),
      ...(item.is_cut ? [make("p", { class: "notice" },
        "This answer is too long for the page, and is cut here.")] : []),
      ...(data.hides_verdicts && !decision ? [] : verdict(item)),
      make("dl", { class: "facts" }, ...[["id", item.id], ["file", item.split],
        ["source", item.source], ["video", item.video_id], ["span", span],
        ["licence", item.licence || "(unknown)"], ...item.facts
          .filter(([name]) => name !== "start" && name !== "end")]
        .filter(([, value]) => value)
        .flatMap(([name, value]) => [make("dt", {}, said(name)), make("dd", {}, said(value))])),
    ];
  }

  function badge(decision) {
    const [sign, words, kind] = DECISIONS[decision.decision];
    const why = decision.reason && Object.hasOwn(data.reasons, decision.reason)
      ? `: ${data.reasons[decision.reason]}` : "";
    return make("span", { class: `verdict ${kind}` }, `${sign} ${words}${why}`);
  }

  function answered(answer) {
    const steps = answer.steps.map((step) => make("li", {}, said(step.text), " ",
      make("span", { class: "time" }, seconds(step))));
    const predictions = answer.predictions.map((one) => {
      const element = make("li", {}, said(one.text));
      if (one.confidence !== null) element.append(" ",
        make("span", { class: "time" }, `confidence ${one.confidence}`));
      if (one.justification) element.append(make("div", { class: "reason" }, "because: ",
        said(one.justification)));
      return element;
    });
    return [
      ...(steps.length ? [make("ol", { class: "answer", id: "steps" }, ...steps)] : []),
      ...(predictions.length ? [make("h4", {}, "What happens next"),
        make("ol", { class: "answer", id: "predictions" }, ...predictions)] : []),
      ...(steps.length || predictions.length ? []
        : [make("p", { class: "muted" }, "(no answer that could be read)")]),
    ];
  }

  function verdict(item) {
    const isAccepted = item.verdict === ACCEPTED;
    return [
      make("h4", {}, "Quality gate"),
      make("p", { id: "gate" },
        make("span", { class: isAccepted ? "right" : "wrong" },
          isAccepted ? ACCEPTED : `rejected: ${item.verdict}`),
        ...(item.detail ? [" ", said(item.detail)] : [])),
      ...item.flags.map((flag) => make("p", { class: "invalid" }, "\u2691 ", said(flag))),
    ];
  }

  function frames(item) {
    if (!item.frames.length)
      return make("p", { class: "no-frames" }, "No frames: ", said(item.missing));
    return make("div", { class: "frames" }, ...item.frames.map((frame) => {
      const time = `${frame.seconds.toFixed(1)} s`;
      return make("figure", {},
        make("img", { src: frame.picture, loading: "lazy", alt: `Frame at ${time}` }),
        make("figcaption", {}, time));
    }));
  }

  // Deciding

  function move(by) {
    const wanted = current + by;
    if (wanted < 0 || wanted >= matches.length) return;
    current = wanted;
    show();
  }

  function toUndecided() {
    const order = [...matches.slice(current + 1), ...matches.slice(0, current), ...data.items.keys()];
    const wanted = order.find((number) => !decided(data.items[number]));
    if (wanted === undefined) return;
    if (!matches.includes(wanted)) form.reset();
    search(data.items[wanted].id);
    show();
  }

  function decideHere(content) {
    const item = chosen();
    if (!item || !reviewer()) return;
    decide(item, content);
    const index = current;
    search(item.id);
    // On to the next one: a decided row may have left the filter, so that the next is here now.
    const isHere = matches.length > 0 && data.items[matches[current]].id === item.id;
    if (content !== null && isHere && index < matches.length - 1) current = index + 1;
    else if (!isHere) current = Math.max(Math.min(index, matches.length - 1), 0);
    show();
  }

  function askReason() {
    if (byId("reject").disabled) return;
    show();
    byId("reasons").replaceChildren(...Object.entries(data.reasons).map(([name, words], index) => {
      const element = button("", () => decideHere({ decision: "reject", reason: name }),
        { "data-reason": name });
      element.append(make("kbd", {}, String(index + 1)), ` ${words}`);
      return element;
    }));
    byId("reasons").hidden = false;
  }

  // Editing

  function field(name, value, attributes) {
    const element = make(attributes.type ? "input" : "textarea", { name, ...attributes });
    element.value = value === null ? "" : String(value);
    return element;
  }

  function stepFields(step) {
    return make("li", {}, field("text", step.text, { "aria-label": "Text of the step", rows: "2" }),
      make("div", { class: "small" },
        make("label", {}, "from ", field("start", step.start, { type: "text", inputmode: "decimal" }), " s"),
        make("label", {}, "to ", field("end", step.end, { type: "text", inputmode: "decimal" }), " s"),
        button("Remove", (event) => event.target.closest("li").remove())));
  }

  function predictionFields(one) {
    return make("li", {}, field("text", one.text, { "aria-label": "Predicted event", rows: "2" }),
      field("justification", one.justification, { "aria-label": "Justification", rows: "2",
        placeholder: "because (may be empty)" }),
      make("div", { class: "small" },
        make("label", {}, "confidence, 0 to 1 ",
          field("confidence", one.confidence, { type: "text", inputmode: "decimal" })),
        button("Remove", (event) => event.target.closest("li").remove())));
  }

  function adding(list, limit, fields, words) {
    return button(words, () => {
      if (list.children.length >= limit) return warn(`There are at most ${limit}.`);
      list.append(fields());
      list.lastChild.querySelector("textarea").focus();
    });
  }

  function edit() {
    const item = chosen();
    if (byId("edit").disabled) return;
    byId("reasons").hidden = true;
    const before = decided(item) && decided(item).decision === "edit" ? decided(item) : item;
    const steps = make("ol", { class: "fields", id: "step-fields" }, ...before.steps.map(stepFields));
    const predictions = make("ol", { class: "fields", id: "prediction-fields" },
      ...before.predictions.map(predictionFields));
    const emptyStep = () => stepFields({ text: "", start: null, end: null });
    const emptyPrediction = () =>
      predictionFields({ text: "", confidence: null, justification: "" });
    byId("row").replaceChildren(
      make("h3", {}, `Edit row ${current + 1}`),
      frames(item),
      make("h4", {}, "Steps"), steps,
      make("p", { class: "steps-bar" }, adding(steps, data.limits.steps, emptyStep, "Add a step")),
      make("h4", {}, "What happens next"), predictions,
      make("p", { class: "steps-bar" },
        adding(predictions, data.limits.predictions, emptyPrediction, "Add a prediction")),
      make("p", { id: "problem", role: "alert", class: "wrong" }),
      make("p", { class: "steps-bar" },
        button("Save this edit", saveEdit, { id: "save-edit", title: "Ctrl+Enter" }),
        button("Cancel", show, { id: "cancel-edit", title: "Escape" })));
    setEditing(true);
    const first = byId("row").querySelector("textarea");
    if (first) first.focus();
  }

  function saveEdit() {
    const problems = [];
    for (const wrong of byId("row").querySelectorAll(".wrong-field"))
      wrong.classList.remove("wrong-field");

    function problem(element, words) {
      element.classList.add("wrong-field");
      problems.push(words);
    }

    function text(fields, name, isNeeded) {
      const element = fields.querySelector(`[name=${name}]`);
      const value = inOneLine(element.value);
      if (value.length > data.limits.text)
        problem(element, `a text has more than ${data.limits.text} characters`);
      if (!value && isNeeded) problem(element, "a text is empty: fill it in, or remove its entry");
      return value;
    }

    function number(fields, name, limit, words) {
      const element = fields.querySelector(`[name=${name}]`);
      const value = element.value.trim().replace(",", ".");
      if (!value) return null;
      if (!/^\d*\.?\d+$|^\d+\.$/.test(value) || Number(value) > limit) problem(element, words);
      return Number(value);
    }

    const steps = [...byId("step-fields").children].map((fields) => {
      const step = { text: text(fields, "text", true) };
      for (const name of ["start", "end"])
        step[name] = number(fields, name, 1e9, "a time is no number of seconds");
      if (step.start !== null && step.end !== null && step.end < step.start)
        problem(fields.querySelector("[name=end]"), "a step ends before it begins");
      return step;
    });
    const entries = [...byId("prediction-fields").children];
    const predictions = entries.map((fields) => {
      const confidence = number(fields, "confidence", 1, "a confidence is not from 0 to 1");
      if (confidence === null && entries.length > 1) problem(
        fields.querySelector("[name=confidence]"), "several predictions need a confidence each");
      return { text: text(fields, "text", true), confidence,
        justification: text(fields, "justification", false) };
    });
    if (!steps.length && !predictions.length) problems.push("nothing is left: reject the row instead");
    byId("problem").textContent = [...new Set(problems)].join("; ");
    if (!problems.length) decideHere({ decision: "edit", steps, predictions });
  }

  // Start

  const KEYS = {
    a: () => byId("accept").click(), r: () => byId("reject").click(), e: () => byId("edit").click(),
    u: () => byId("undo").click(), n: () => byId("undecided").click(),
    ArrowLeft: () => move(-1), ArrowRight: () => move(1),
    Escape: () => { byId("reasons").hidden = true; },
  };

  function pressed(event) {
    if (editing && event.key === "Escape") return show();
    if (editing && event.key === "Enter" && (event.ctrlKey || event.metaKey)) return saveEdit();
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || editing) return;
    if (event.target.closest && event.target.closest("input, select, textarea")) return;
    const reasons = byId("reasons");
    const reason = !reasons.hidden && /^[1-9]$/.test(event.key)
      ? reasons.children[Number(event.key) - 1] : null;
    const action = reason ? () => reason.click() : Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : null;
    if (!action) return;
    event.preventDefault();
    action();
  }

  function searchAgain() {
    const item = chosen();
    search(item ? item.id : null);
    show();
  }

  function startReviewer() {
    write("name", reviewer());
    warn("");
    load();
    searchAgain();
  }

  fillFilters();
  byId("accept").addEventListener("click", () => decideHere({ decision: "accept" }));
  byId("reject").addEventListener("click", askReason);
  byId("edit").addEventListener("click", edit);
  byId("undo").addEventListener("click", () => decideHere(null));
  byId("undecided").addEventListener("click", toUndecided);
  byId("previous").addEventListener("click", () => move(-1));
  byId("next").addEventListener("click", () => move(1));
  byId("save").addEventListener("click", save);
  byId("reviewer").maxLength = data.limits.name;
  byId("reviewer").value = read("name") || "";
  byId("reviewer").addEventListener("input", startReviewer);
  form.addEventListener("input", searchAgain);
  form.addEventListener("reset", () => setTimeout(searchAgain));  // when the fields are reset
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", pressed);
  load();
  search(null);
  show();
})();
