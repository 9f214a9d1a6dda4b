// What the pages of the book do: the explorer's frame fits, and what is wider than the page can be reached by keyboard.

document.documentElement.classList.add("scripted");

// The frame is as high as what is in it, and says nothing twice that the page says already.
function settle(frame) {
  const { documentElement, head, body } = frame.contentDocument;
  head.insertAdjacentHTML("beforeend", "<style>h1, main > p { display: none } body { padding: 0 !important; overflow: hidden }</style>");
  const fit = () => (frame.style.height = `${Math.ceil(body.getBoundingClientRect().height)}px`);
  new ResizeObserver(fit).observe(body);
}

for (const frame of document.querySelectorAll(".explorer-frame iframe")) {
  frame.addEventListener("load", () => settle(frame));
  if (frame.contentDocument?.readyState === "complete" && frame.contentDocument.body.children.length) settle(frame);
}

// A formula that is wider than the page scrolls.
const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const wide = target.scrollWidth > target.clientWidth;
    const about = { tabindex: "0", role: "group", "aria-label": "Formula" };
    for (const [name, value] of Object.entries(about)) wide ? target.setAttribute(name, value) : target.removeAttribute(name);
  }
});
document.querySelectorAll(".formula").forEach((formula) => widths.observe(formula));

// Paper is light.
let chosen;
addEventListener("beforeprint", () => {
  chosen = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
});
addEventListener("afterprint", () => (document.documentElement.dataset.theme = chosen));
