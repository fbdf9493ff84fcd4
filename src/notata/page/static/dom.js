// Elements of the page. Texts of a run only ever become text nodes or values of plain attributes: there is no markup.

const DOM_SVG = "http://www.w3.org/2000/svg";

// Return a new element. Properties named on… are listeners, `class`, `for`, `aria-…` and others are attributes, and
// those without a value (null, undefined, false) are left out. Children are elements, texts, or arrays of them.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  domSet(element, properties);
  append(element, children);
  return element;
}

// The same for the elements of an SVG picture.
export function s(tag, properties = {}, ...children) {
  const element = document.createElementNS(DOM_SVG, tag);
  domSet(element, properties);
  append(element, children);
  return element;
}

const DOM_PROPERTIES = new Set(["value", "checked", "disabled", "selected", "open", "indeterminate", "hidden"]);
const DOM_ADDRESSES = new Set(["href", "src"]);

function domSet(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (DOM_PROPERTIES.has(name)) element[name] = value;
    else if (DOM_ADDRESSES.has(name) && !domIsSafe(String(value))) continue;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

// Only addresses within the page, of its own server, and embedded pictures are links.
function domIsSafe(address) {
  return /^(#|api\/|data:image\/(png|jpeg|gif|webp|svg\+xml);base64,)/.test(address);
}

export function append(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

// Return a function that calls another one at the next frame, once for any number of calls.
export function atNextFrame(call) {
  let pending = 0;
  return () => {
    if (!pending) pending = requestAnimationFrame(() => { pending = 0; call(); });
  };
}

// Return a function that calls another one when it was not called for some milliseconds.
export function afterPause(milliseconds, call) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), milliseconds);
  };
}
