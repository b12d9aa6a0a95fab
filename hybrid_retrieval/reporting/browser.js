"use strict";
// The questions of a section: what each system retrieved for them, beside one another.

const AT_ONCE = 20;
const EVERY = "";

function option(value, text) {
  return element("option", { value, textContent: text });
}

function choice(label, options, onChange) {
  const select = element("select", {}, ...options.map(([value, text]) => option(value, text)));
  select.addEventListener("change", onChange);
  return [select, element("label", {}, label, select)];
}

const bcp47 = (language) => language.replaceAll("_", "-");
const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

function written(text, language, className) {
  return element("div", { className: `text ${className}`, dir: "auto", lang: bcp47(language), textContent: text });
}

function settingOf(question, list) {
  if (list.corpus === null) return "multilingual";
  return list.corpus === question.language ? "monolingual" : "crosslingual";
}

class Browser {
  constructor(root, content) {
    this.root = root;
    this.content = content;
    this.shown = AT_ONCE;
    const redraw = () => { this.shown = AT_ONCE; this.draw(); };
    const restart = () => { this.listLanguages(); redraw(); };
    const { benchmarks, settings } = content;
    const choosers = benchmarks.flatMap((one) => one.questions.flatMap(({ chosen }) => chosen.flatMap((why) => why.systems)));
    this.severalChoose = new Set(choosers).size > 1;
    const labels = {};
    const order = [["worst", "lowest first"], ["best", "highest first"], ["apart", "systems furthest apart first"]];
    const kinds = [[EVERY, "all"], ["worst", "worst"], ["best", "best"], ["sample", "random sample"]];
    [this.benchmark, labels.benchmark] = choice("Benchmark", benchmarks.map((one, at) => [at, one.name]), restart);
    [this.setting, labels.setting] = choice("Setting", [...Object.entries(settings), [EVERY, "all"]], redraw);
    [this.asked, labels.asked] = choice("Query language", [], redraw);
    [this.corpus, labels.corpus] = choice("Passages in", [], redraw);
    [this.kind, labels.kind] = choice("Chosen as", kinds, redraw);
    [this.order, labels.order] = choice("Order", order, redraw);
    this.text = element("input", { type: "search", placeholder: "in questions and passages" });
    this.text.addEventListener("input", redraw);
    labels.text = element("label", {}, "Text", this.text);
    labels.benchmark.hidden = benchmarks.length < 2;
    this.count = element("p", { className: "note", role: "status" });
    this.list = element("div");
    this.more = element("button", { type: "button", className: "more", textContent: "More questions" });
    this.more.addEventListener("click", () => { this.shown += AT_ONCE; this.draw(); });
    root.replaceChildren(element("div", { className: "controls" }, ...Object.values(labels)), this.count, this.list, this.more);
    if (settings.multilingual) this.setting.value = "multilingual";
    restart();
  }

  get chosen() {
    return this.content.benchmarks[this.benchmark.value];
  }

  listLanguages() {
    const { questions } = this.chosen;
    const asked = new Set(questions.map((one) => one.language));
    const corpora = new Set(questions.flatMap((one) => one.lists.map((list) => list.corpus)));
    const fill = (select, languages) => {
      const names = [...languages].filter((name) => name !== null).sort();
      select.replaceChildren(option(EVERY, "all"), ...names.map((name) => option(name, name)));
    };
    fill(this.asked, asked);
    fill(this.corpus, corpora);
  }

  // The lists of a question that the filters leave.
  listsOf(question) {
    if (this.asked.value && question.language !== this.asked.value) return [];
    return question.lists.filter((list) => {
      const setting = settingOf(question, list);
      if (this.setting.value && setting !== this.setting.value) return false;
      return !this.corpus.value || setting === "multilingual" || list.corpus === this.corpus.value;
    });
  }

  found() {
    const words = this.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { texts, questions } = this.chosen;
    const found = [];
    for (const question of questions) {
      const wanted = (why) => why.kind === this.kind.value && (!this.setting.value || why.setting === this.setting.value);
      if (this.kind.value && !question.chosen.some(wanted)) continue;
      const lists = this.listsOf(question);
      if (!lists.length) continue;
      if (words.length) {
        const passages = lists.flatMap((list) => list.systems.flatMap((one) => (one ? one.hits.map((hit) => texts[hit.text]) : [])));
        const all = [texts[question.text], question.id, ...passages].join("\n").toLowerCase();
        if (!words.every((word) => all.includes(word))) continue;
      }
      const values = this.content.systems.map((_, at) => {
        const known = lists.map((list) => list.systems[at]?.value ?? null).filter((value) => value !== null);
        return mean(known);
      });
      if (this.setting.value && values.every((value) => value === null)) continue;
      found.push({ question, lists, values });
    }
    return found.sort(this.comparison());
  }

  comparison() {
    const key = ({ values }) => {
      const known = values.filter((value) => value !== null);
      if (!known.length) return Infinity;
      if (this.order.value === "apart") return Math.min(...known) - Math.max(...known);
      return this.order.value === "best" ? -known[0] : known[0];
    };
    const lacking = ({ values }) => values.filter((value) => value === null).length;
    const ids = (one, other) => one.question.id.localeCompare(other.question.id);
    return (one, other) => lacking(one) - lacking(other) || key(one) - key(other) || ids(one, other);
  }

  draw() {
    const found = this.found();
    this.count.textContent = `${Math.min(found.length, this.shown)} of ${found.length} questions shown`;
    this.list.replaceChildren(...found.slice(0, this.shown).map((one) => this.card(one)));
    this.more.hidden = found.length <= this.shown;
  }

  card({ question, lists, values }) {
    const { texts, measure } = this.chosen;
    const why = question.chosen.map(({ kind, setting, systems }) => {
      const of = ` of ${systems.map((at) => this.content.systems[at]).join(", ")}`;
      return { setting, text: kind === "sample" ? "random sample" : `${kind}${this.severalChoose ? of : ""}` };
    }).filter((one) => !this.setting.value || one.setting === this.setting.value);
    const about = [question.language, question.id, ...new Set(why.map((one) => one.text))].join(" · ");
    const shown = values.map((value, at) => element("div", {}, `${this.content.systems[at]} `,
      element("b", { textContent: value === null ? "-" : value.toFixed(3) })));
    const card = element("details", { className: "question" }, element("summary", {},
      written(texts[question.text], question.language, "query"),
      element("div", { className: "values" }, measure, ...shown),
      element("div", { className: "about", textContent: about })));
    card.addEventListener("toggle", () => {
      if (card.open && card.childElementCount === 1) card.append(...lists.flatMap((list) => this.lists(question, list)));
    });
    return card;
  }

  lists(question, list) {
    const where = list.corpus === null ? "Found in the pool of all languages" : `Found in ${list.corpus}`;
    const columns = list.systems.map((one, at) => {
      const name = element("div", { className: "system", textContent: this.content.systems[at] });
      if (!one) return element("div", {}, name, element("p", { className: "note", textContent: "not kept by this run" }));
      if (one.value !== null) name.append(` · ${this.chosen.measure} ${one.value.toFixed(3)}`);
      const hits = one.hits.flatMap((hit, place) => {
        const before = place ? one.hits[place - 1].rank : 0;
        const gap = hit.rank !== before + 1 ? [element("div", { className: "gap", textContent: "⋮" })] : [];
        return [...gap, this.hit(hit)];
      });
      return element("div", {}, name, ...(hits.length ? hits : [element("p", { className: "note", textContent: "nothing found" })]));
    });
    return [element("h4", { textContent: where }), element("div", { className: "beside-one-another" }, ...columns)];
  }

  hit(hit) {
    const rank = hit.rank === null ? "not found" : `${hit.rank.toLocaleString("en")}.`;
    const score = hit.score === null ? "" : ` · score ${Number(hit.score.toPrecision(4))}`;
    const mark = hit.relevant ? [element("span", { className: "mark", textContent: "✓ relevant · " })] : [];
    const about = element("div", { className: "about" }, `${rank} `, ...mark, `${hit.language} · ${hit.id}${score}`);
    return element("div", { className: hit.relevant ? "hit relevant" : "hit" },
      about, written(this.chosen.texts[hit.text], hit.language, ""));
  }
}

// Lists are kept as arrays, in this order of names.
function named(content) {
  for (const { questions } of content.benchmarks) {
    for (const question of questions) {
      question.chosen = question.chosen.map(([kind, setting, systems]) => ({ kind, setting, systems }));
      question.lists = question.lists.map(([corpus, systems]) => ({
        corpus,
        systems: systems.map((one) => one && {
          value: one[0],
          hits: one[1].map(([rank, language, id, text, score, relevant]) => ({ rank, language, id, text, score, relevant })),
        }),
      }));
    }
  }
  return content;
}

for (const node of document.querySelectorAll("script.browser-data")) new Browser(node.previousElementSibling, named(data(node)));
