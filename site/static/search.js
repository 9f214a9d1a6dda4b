// The search of the book: `find` ranks its sections, and the search page shows what it found as the reader types.
// SECTIONS comes from search-index.js: {url, page, section, terms, text}, the terms from the glossary.

const SHOWN = 20;
const AROUND = 90; // characters of text to each side of a word that was found

// Both spellings of English and both of a plural are one word.
function normal(word) {
  return word
    .toLowerCase()
    .normalize("NFKD")
    .replace(/[\u0300-\u036f]/g, "")
    .replace(/β/g, "beta")
    .replace(/iz(e|ation|ing|er)/g, "is$1")
    .replace(/^gray/, "grey")
    .replace(/^color/, "colour")
    .replace(/([^su])s$/, "$1");
}

const FEW = new Set("a an and are as at be by do does for from how i in is it my of on or the to what when which why with".split(" "));

const index = new MiniSearch({
  fields: ["terms", "section", "page", "text"],
  storeFields: ["url", "page", "section", "text"],
  tokenize: (text) => text.split(/[^\p{L}\p{N}]+/u).filter(Boolean),
  processTerm: (word) => (FEW.has(word.toLowerCase()) ? null : normal(word)),
  searchOptions: {
    boost: { terms: 6, section: 3, page: 2 },
    prefix: (word) => word.length > 3,
    fuzzy: (word) => (word.length > 5 ? 0.15 : false),
  },
});
index.addAll(SECTIONS.map((section, id) => ({ id, ...section })));

// Sections with all of the words come first, then those with some of them.
function find(query) {
  const all = index.search(query, { combineWith: "AND" });
  const known = new Set(all.map(({ id }) => id));
  return [...all, ...index.search(query).filter(({ id }) => !known.has(id))].slice(0, SHOWN);
}

// The text around the first word that was found, with all such words marked.
function excerpt({ text, match }) {
  const found = new Set(Object.keys(match));
  const words = [...text.matchAll(/[\p{L}\p{N}]+/gu)].filter(([word]) => found.has(normal(word)));
  const from = Math.max(0, (words[0]?.index ?? 0) - AROUND);
  const to = from + 2 * AROUND;
  const part = document.createElement("p");
  let at = from ? text.indexOf(" ", from) + 1 : 0;
  part.append(from ? "… " : "");
  for (const { 0: word, index: start } of words.filter(({ index: start }) => start >= at && start < to)) {
    const mark = document.createElement("mark");
    mark.textContent = word;
    part.append(text.slice(at, start), mark);
    at = start + word.length;
  }
  const end = text.indexOf(" ", to);
  part.append(text.slice(at, end < 0 ? undefined : Math.max(at, end)), end < 0 ? "" : " …");
  return part;
}

function show(query) {
  const results = query.trim() ? find(query) : [];
  const items = results.map((result) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = result.url;
    link.textContent = result.section || result.page;
    const page = document.createElement("p");
    page.className = "page";
    page.textContent = result.section ? `in ${result.page}` : "";
    item.append(link, page, excerpt(result));
    return item;
  });
  document.querySelector("#search-results").replaceChildren(...items);
  document.querySelector(".search-status").textContent = !query.trim()
    ? ""
    : results.length
      ? `${results.length} ${results.length === 1 ? "section" : "sections"}, the best first`
      : "Nothing was found. The glossary lists the terms of the book.";
}

const field = document.querySelector("article .bd-search input");
field.value = new URLSearchParams(location.search).get("q") ?? "";
field.addEventListener("input", () => {
  show(field.value);
  history.replaceState(null, "", `?q=${encodeURIComponent(field.value)}`);
});
field.form.addEventListener("submit", (event) => event.preventDefault());
show(field.value);
field.focus();
